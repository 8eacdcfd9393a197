/**
 * Strict reading of a command line: an unknown flag, a value too many, a flag given twice or a value that looks like
 * a flag is an error that says what was meant, never something that is guessed at.
 */
import { type GswarmError, invalid } from "../schema/errors.ts";
import type { Arg, Args } from "./args.ts";
import { nearest } from "./suggest.ts";

export interface ParseOptions {
	/** The command as typed, e.g. `gswarm model list`; for messages. */
	command: string;
	stray?: ((word: string, flagBefore: string | undefined) => string | undefined) | undefined;
}

interface FlagUse {
	name: string;
	arg: Arg;
	/** As it was typed. */
	typed: string;
	negated: boolean;
	inlineValue: string | undefined;
}

/**
 * Reads the words after a command.
 * @throws INVALID_REQUEST usage
 */
export function parseArguments(
	words: readonly string[],
	args: Args,
	options: ParseOptions,
): Record<string, unknown> {
	const fail = (message: string, hint?: string): GswarmError =>
		invalid("usage", message, {}, hint ?? `\`${options.command} --help\` shows what it takes.`);
	const values: Record<string, unknown> = {};
	const positionals = Object.keys(args).filter((name) => args[name]?.type === "positional");
	let flagBefore: string | undefined;
	let onlyWords = false;
	for (let at = 0; at < words.length; at++) {
		const word = words[at] ?? "";
		if (onlyWords || !word.startsWith("-") || word === "-") {
			const [name] = positionals;
			if (name === undefined) {
				throw fail(
					`${options.command} does not take ${JSON.stringify(word)} here.`,
					options.stray?.(word, flagBefore),
				);
			}
			const value = readValue(name.toUpperCase(), word, args[name] as Arg, fail);
			// The last of them takes all words that are left, when it may be repeated.
			if (args[name]?.many === true)
				values[name] = [...((values[name] as unknown[] | undefined) ?? []), value];
			else {
				values[name] = value;
				positionals.shift();
			}
			flagBefore = undefined;
			continue;
		}
		if (word === "--") {
			onlyWords = true;
			continue;
		}
		for (const use of flagsOf(word, args, fail)) {
			flagBefore = use.typed;
			const { name, arg } = use;
			if (values[name] !== undefined && arg.many !== true) throw fail(`${use.typed} was given twice.`);
			if (arg.type === "boolean") {
				values[name] = readSwitch(use, fail, options.stray);
				continue;
			}
			const text = use.inlineValue ?? words[++at];
			if (text === undefined || (use.inlineValue === undefined && text.startsWith("-") && text !== "-")) {
				throw fail(
					`${use.typed} needs a value${arg.valueHint === undefined ? "" : `: ${use.typed} ${arg.valueHint}`}.`,
				);
			}
			const value = readValue(use.typed, text, arg, fail);
			if (arg.many === true) values[name] = [...((values[name] as unknown[] | undefined) ?? []), value];
			else values[name] = value;
			flagBefore = undefined;
		}
	}
	fillAbsent(values, args, fail);
	return values;
}

/** Whether the next word belongs to this flag; used to find the command among hoisted flags. */
export function takesValue(word: string, args: Args): boolean {
	if (word.includes("=")) return false;
	const name = word.startsWith("--") ? word.slice(2) : longNameOf(word.slice(1), args);
	const arg = name === undefined ? undefined : args[name];
	return arg !== undefined && arg.type !== "boolean" && arg.type !== "positional";
}

type Fail = (message: string, hint?: string) => GswarmError;

/** One long flag, or the letters of a short cluster such as `-qy`. */
function flagsOf(word: string, args: Args, fail: Fail): FlagUse[] {
	const equals = word.indexOf("=");
	const typed = equals < 0 ? word : word.slice(0, equals);
	const inlineValue = equals < 0 ? undefined : word.slice(equals + 1);
	if (word.startsWith("--")) {
		const text = typed.slice(2);
		const direct = flagNamed(text, args);
		if (direct !== undefined) return [{ name: text, arg: direct, typed, negated: false, inlineValue }];
		const name = text.startsWith("no-") ? text.slice(3) : "";
		const arg = flagNamed(name, args);
		if (arg !== undefined && isNegatable(arg)) return [{ name, arg, typed, negated: true, inlineValue }];
		throw fail(`There is no flag ${typed}.`, suggestFlag(text, args));
	}
	const uses: FlagUse[] = [];
	for (let at = 1; at < typed.length; at++) {
		const letter = typed[at] ?? "";
		const name = longNameOf(letter, args);
		const arg = name === undefined ? undefined : args[name];
		if (name === undefined || arg === undefined) throw fail(`There is no flag -${letter}.`);
		const isLast = arg.type !== "boolean" || at === typed.length - 1;
		const attached = typed.slice(at + 1);
		const given = arg.type !== "boolean" && attached !== "" ? attached : undefined;
		uses.push({
			name,
			arg,
			typed: `-${letter}`,
			negated: false,
			inlineValue: isLast ? (given ?? inlineValue) : undefined,
		});
		if (isLast) break;
	}
	return uses;
}

function readSwitch(
	{ typed, negated, inlineValue }: FlagUse,
	fail: Fail,
	stray: ParseOptions["stray"],
): boolean {
	if (inlineValue === undefined) return !negated;
	if (!negated && (inlineValue === "true" || inlineValue === "false")) return inlineValue === "true";
	throw fail(`${typed} takes no value; got ${JSON.stringify(inlineValue)}.`, stray?.(inlineValue, typed));
}

function readValue(label: string, text: string, arg: Arg, fail: Fail): unknown {
	// Such a value would be a flag to whatever program it reaches.
	if (text.startsWith("-") && text !== "-")
		throw fail(`${label} may not start with "-"; got ${JSON.stringify(text)}.`);
	if (text === "") throw fail(`${label} may not be empty.`);
	if (arg.type === "enum") {
		const options = arg.options ?? [];
		if (options.includes(text)) return text;
		const meant = nearest(text, options);
		throw fail(
			`${label} ${JSON.stringify(text)} is not known: wanted ${options.join(", ")}.`,
			meant === undefined ? undefined : `Did you mean ${meant}?`,
		);
	}
	if (arg.value === undefined) return text;
	const value = arg.value.parse(text);
	if (value === undefined)
		throw fail(`${label} ${JSON.stringify(text.slice(0, 120))}: wanted ${arg.value.wanted}.`);
	return value;
}

function fillAbsent(values: Record<string, unknown>, args: Args, fail: Fail): void {
	// `--help` asks about a command that is not complete yet.
	const forgiving = values.help === true;
	for (const [name, arg] of Object.entries(args)) {
		if (values[name] !== undefined) continue;
		if (arg.default !== undefined) {
			values[name] = arg.value === undefined ? arg.default : arg.value.parse(String(arg.default));
		} else if (!forgiving && arg.type === "positional" && arg.required !== false) {
			throw fail(`${name.toUpperCase()} is missing.`);
		} else if (arg.many === true) values[name] = [];
		else if (arg.type === "boolean" && arg.negativeDescription === undefined) values[name] = false;
		else if (!forgiving && arg.type !== "positional" && arg.required === true) {
			throw fail(`--${name} is missing.`);
		}
	}
}

export function isNegatable(arg: Arg): boolean {
	return arg.type === "boolean" && (arg.default === true || arg.negativeDescription !== undefined);
}

function flagNamed(name: string, args: Args): Arg | undefined {
	const arg = Object.hasOwn(args, name) ? args[name] : undefined;
	return arg?.type === "positional" ? undefined : arg;
}

function longNameOf(letter: string, args: Args): string | undefined {
	return Object.keys(args).find((name) => (args[name] as { alias?: string }).alias === letter);
}

function suggestFlag(text: string, args: Args): string | undefined {
	const known = Object.entries(args)
		.filter(([, arg]) => arg.type !== "positional")
		.flatMap(([name, arg]) => (isNegatable(arg) ? [name, `no-${name}`] : [name]));
	const meant = nearest(text, known);
	return meant === undefined ? undefined : `Did you mean --${meant}?`;
}
