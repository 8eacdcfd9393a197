/** What a shell must know to complete a command line, read from the command tree. */
import type { Arg, Args } from "../command.ts";
import { isNegatable } from "../arguments.ts";
import { GLOBAL_ARGS } from "../global-flags.ts";
import { ALIASES, type Branch, TREE, descend } from "../tree.ts";
import type { LiveName } from "../values.ts";

/** Where the values of a flag or argument come from. */
export type Values = { words: readonly string[] } | { live: LiveName } | "path" | "anything";

export interface FlagSpec {
	/** `--to`, `-o`. */
	names: readonly string[];
	description: string;
	/** Undefined: it takes none. */
	values: Values | undefined;
}

export interface CommandSpec {
	/** `""` for the root, `model download`. */
	path: string;
	children: readonly { name: string; summary: string; path: string }[];
	flags: readonly FlagSpec[];
	positionals: readonly Values[];
}

/** Every command and group that is shown, loaded. */
export async function completionSpec(): Promise<CommandSpec[]> {
	return await specsBelow(TREE, []);
}

async function specsBelow(branch: Branch, path: readonly string[]): Promise<CommandSpec[]> {
	const args: Args = { ...GLOBAL_ARGS, ...(await branch.load?.())?.command.definition.args };
	const shown = Object.entries(branch.children ?? {}).filter(([, child]) => child.hidden !== true);
	const children = shown.map(([name, { summary }]) => ({ name, summary, path: [...path, name].join(" ") }));
	const aliases = path.length > 0 ? [] : Object.entries(ALIASES);
	const own: CommandSpec = {
		path: path.join(" "),
		children: [
			...children,
			...aliases.map(([name, target]) => ({
				name,
				summary: descend(TREE, target)?.summary ?? "",
				path: target.join(" "),
			})),
		],
		flags: Object.entries(args)
			.filter(([, arg]) => arg.type !== "positional")
			.map(([name, arg]) => flagSpec(name, arg)),
		positionals: Object.values(args)
			.filter((arg) => arg.type === "positional")
			.map(valuesOf),
	};
	const below = await Promise.all(shown.map(([name, child]) => specsBelow(child, [...path, name])));
	return [own, ...below.flat()];
}

function flagSpec(name: string, arg: Arg): FlagSpec {
	const { alias } = arg as { alias?: string };
	const isOnlyNegative = arg.type === "boolean" && arg.default === true;
	return {
		names: [
			...(alias === undefined ? [] : [`-${alias}`]),
			...(isOnlyNegative ? [] : [`--${name}`]),
			...(isNegatable(arg) ? [`--no-${name}`] : []),
		],
		description: (isOnlyNegative ? arg.negativeDescription : arg.description) ?? "",
		values: arg.type === "boolean" ? undefined : valuesOf(arg),
	};
}

function valuesOf(arg: Arg): Values {
	if (arg.type === "enum") return { words: arg.options ?? [] };
	const { live, words, isPath } = arg.value ?? {};
	if (live !== undefined) return { live };
	if (words !== undefined) return { words };
	return isPath === true ? "path" : "anything";
}
