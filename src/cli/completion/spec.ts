/** What a shell must know to complete a command line. */
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

export interface CompletionSpec {
	/** Every command and group that is shown. */
	commands: readonly CommandSpec[];
	/** Flags of every command. */
	globals: readonly FlagSpec[];
}
