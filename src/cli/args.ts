/** The types of flags and arguments, and of the values that come of them. */
import type { ArgDef } from "citty";
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
