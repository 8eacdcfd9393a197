/**
 * The one wrapper around citty: a command is citty's definition (meta and args) with what citty has no word for:
 * typed values, repeatable flags, examples, and a `run` that returns an exit status.
 */
import { type CommandDef, defineCommand as defineCitty } from "citty";
import type { Args, Values } from "./args.ts";
import type { Context } from "./context.ts";

export interface CommandSpec<A extends Args> {
	/** Paragraphs that tell a newcomer what happens. */
	about: string;
	args: A;
	/** [command line without `gswarm`, what it does]. */
	examples: readonly (readonly [string, string])[];
	/** Command lines without `gswarm` that one usually wants next. */
	next?: readonly string[];
	/** A hint for a word too many, e.g. the value of a flag that takes none. */
	stray?: (word: string, flagBefore: string | undefined) => string | undefined;
	/** Does it and returns the exit status. */
	run: (context: Context, values: Values<A>) => Promise<number>;
}

/** citty's definition with its parts as they are given, not as functions or promises of them. */
export interface Definition extends CommandDef<Args> {
	meta: { description: string };
	args: Args;
}

export interface Command extends Omit<CommandSpec<Args>, "run" | "args" | "about"> {
	definition: Definition;
	run: (context: Context, values: Record<string, unknown>) => Promise<number>;
}

export function defineCommand<const A extends Args>(spec: CommandSpec<A>): Command {
	const { about, args, run, ...more } = spec;
	return {
		...more,
		// citty returns what it was given.
		definition: defineCitty<Args>({ meta: { description: about }, args }) as Definition,
		// The parser builds the values from the same args, so the types agree.
		run: (context, values) => run(context, values as Values<A>),
	};
}
