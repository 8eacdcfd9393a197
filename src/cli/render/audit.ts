/** Entries of the audit log as a table. */
import type { AuditEntry } from "../../schema/audit.ts";
import { formatTime } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

export function auditTable(
	entries: readonly AuditEntry[],
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const rows = entries.map((entry) => [
		formatTime(entry.at),
		actorOf(entry),
		safeLine(entry.action),
		targetOf(entry) || "-",
		resultOf(entry, style),
		...(wide
			? [
					safeLine(entry.address),
					entry.actor.role === null ? "-" : safeLine(entry.actor.role),
					safeLine(entry.listener),
					safeLine(entry.request_id),
				]
			: []),
	]);
	return renderTable(
		[
			{ title: "WHEN" },
			{ title: "WHO" },
			{ title: "ACTION" },
			{ title: "TARGET", shrink: true },
			{ title: "RESULT", shrink: true },
			...(wide ? [{ title: "ADDRESS" }, { title: "ROLE" }, { title: "LISTENER" }, { title: "REQUEST" }] : []),
		],
		rows,
		{ width: wide ? undefined : width, style },
	);
}

/** The name; where there is none the token's id, and for strangers their address. */
function actorOf({ actor, address }: AuditEntry): string {
	return safeLine(actor.name ?? actor.id ?? `? ${address}`);
}

/** `acme/tiny`, or `acme/tiny device=node1:disk`: the first is what the path names. */
function targetOf({ target }: AuditEntry): string {
	const parts = Object.entries(target).map(([key, value], at) => (at === 0 ? value : `${key}=${value}`));
	return safeLine(parts.join(" "));
}

function resultOf({ status, reason }: AuditEntry, style: Style): string {
	const text = safeLine(reason === null ? String(status) : `${status} ${reason}`);
	return status < 400 ? style.good(text) : style.bad(text);
}
