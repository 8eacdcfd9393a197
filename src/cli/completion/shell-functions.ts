/** What the bash and zsh scripts share: the command tree as `case` tables, in words that both shells understand. */
import type { CommandSpec, CompletionSpec, FlagSpec, Values } from "./spec.ts";

/** `_gswarm_step`, `_gswarm_value` and `_gswarm_argument`: each sets REPLY, or fails. */
export function sharedFunctions({ commands, globals }: CompletionSpec): string {
	return `# Sets REPLY to the path of a word below a path, or fails.
_gswarm_step() {
	case "$1/$2" in
${commands.flatMap(stepCases).join("\n")}
		(*) return 1 ;;
	esac
}

# Sets REPLY to where the value of a flag comes from; fails when it takes none.
_gswarm_value() {
	case "$1/$2" in
${commands.flatMap(({ path, flags }) => flags.flatMap((flag) => valueCase(flag, `${path}/`))).join("\n")}
${globals.flatMap((flag) => valueCase(flag, "*/")).join("\n")}
		(*) return 1 ;;
	esac
}

# Sets REPLY to where the n-th argument of a path comes from, or fails.
_gswarm_argument() {
	case "$1/$2" in
${commands.flatMap(argumentCases).join("\n")}
		(*) return 1 ;;
	esac
}`;
}

function stepCases({ path, children }: CommandSpec): string[] {
	return children.map((child) => `\t\t("${path}/${child.name}") REPLY="${child.path}" ;;`);
}

function valueCase({ names, values }: FlagSpec, before: string): string[] {
	if (values === undefined) return [];
	const pattern = before === "*/" ? (name: string) => `*/${name}` : (name: string) => `"${before}${name}"`;
	return [`\t\t(${names.map(pattern).join("|")}) REPLY="${origin(values)}" ;;`];
}

function argumentCases({ path, positionals }: CommandSpec): string[] {
	return positionals.map((values, at) => `\t\t("${path}/${at}") REPLY="${origin(values)}" ;;`);
}

/** `live:devices`, `words:a b`, `path` or `anything`. */
function origin(values: Values): string {
	if (typeof values === "string") return values;
	return "live" in values ? `live:${values.live}` : `words:${values.words.join(" ")}`;
}
