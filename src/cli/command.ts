/**
 * The one wrapper around citty: a command is citty's definition (meta and args) with what citty has no word for:
 * typed values, repeatable flags, examples, and a `run` that returns an exit status.
 */
import { type ArgDef, type CommandDef, defineCommand as defineCitty } from "citty";
import type { Context } from "./context.ts";
import type { ValueKind } from "./values.ts";

/** citty's argument and our additions. Boolean flags with `negativeDescription` or `default: true` have a `--no-` form. */
export type Arg = ArgDef & {
	/** How the text is read; without it the value is the text. */
	value?: ValueKind<unknown>;
	/** May be given several times; the value is a list. */
	many?: boolean;
};
export type Args = Record<string, Arg>;

type Single<A extends Arg> = A extends { type: "boolean" }
	? boolean
	: A extends { type: "enum"; options: readonly (infer Option)[] }
		? Option
		: A extends { value: ValueKind<infer Read> }
			? Read
			: string;
type IsSet<A extends Arg> = A extends { many: true }
	? true
	: A extends { default: string | boolean | number } | { required: true }
		? true
		: A extends { type: "boolean" }
			? A extends { negativeDescription: string }
				? false
				: true
			: A extends { type: "positional" }
				? A extends { required: false }
					? false
					: true
				: false;
type Given<A extends Arg> = A extends { many: true } ? Single<A>[] : Single<A>;
/** Values of a command's arguments. Plain boolean flags are false when absent, lists are empty. */
export type Values<A extends Args> = {
	[K in keyof A]: IsSet<A[K]> extends true ? Given<A[K]> : Given<A[K]> | undefined;
};

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
