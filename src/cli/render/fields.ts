/** Named values of one thing, a line each. */
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";

/** Text of a server, or text that is safe already and may hold colour. */
export type FieldValue = string | { painted: string } | null | undefined;

/** Lines `Name  value`; what is null or empty is left out. */
export function fields(style: Style, rows: readonly (readonly [string, FieldValue])[]): string {
	const known = rows.flatMap(([name, value]) => {
		if (value === null || value === undefined || value === "") return [];
		return [[safeLine(name), typeof value === "string" ? safeLine(value) : value.painted] as const];
	});
	const width = Math.max(0, ...known.map(([name]) => Bun.stringWidth(name)));
	return known
		.map(([name, value]) => `${style.dim(name)}${" ".repeat(width - Bun.stringWidth(name))}  ${value}`)
		.join("\n");
}

/** `node gpu1`; a host is called host. */
export function agentTitle({ role, name }: { role: string; name: string }): string {
	return role === name ? role : `${role} ${name}`;
}
