/** Reads what a shell must know from the command tree. */
import type { Arg, Args } from "../args.ts";
import { isNegatable } from "../arguments.ts";
import { GLOBAL_ARGS } from "../global-flags.ts";
import { ALIASES, type Branch, TREE, descend } from "../tree.ts";
import type { CommandSpec, CompletionSpec, FlagSpec, Values } from "./spec.ts";

/** Loads all commands and reads their arguments. */
export async function completionSpec(): Promise<CompletionSpec> {
	return { commands: await specsBelow(TREE, []), globals: flagsOf(GLOBAL_ARGS) };
}

async function specsBelow(branch: Branch, path: readonly string[]): Promise<CommandSpec[]> {
	const args: Args = (await branch.load?.())?.command.definition.args ?? {};
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
		flags: flagsOf(args),
		positionals: Object.values(args)
			.filter((arg) => arg.type === "positional")
			.map(valuesOf),
	};
	const below = await Promise.all(shown.map(([name, child]) => specsBelow(child, [...path, name])));
	return [own, ...below.flat()];
}

function flagsOf(args: Args): FlagSpec[] {
	return Object.entries(args)
		.filter(([, arg]) => arg.type !== "positional")
		.map(([name, arg]) => flagSpec(name, arg));
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
