/**
 * The one reader of JSON from outside: strict UTF-8, bounded depth and number of keys, and nothing that two readers
 * could take differently: no key twice, no key of the prototype, no number that would be rounded, no half characters.
 */
import { type GswarmError, invalid } from "../schema/errors.ts";
import { scanJson } from "./json-scan.ts";
import { MAX_JSON_DEPTH, MAX_JSON_KEYS } from "./limits.ts";

export const FORBIDDEN_KEYS: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

export interface JsonOptions {
	maxDepth?: number;
	/** The bytes go on to somebody else as they came: numbers of any size and keys of any name are theirs to judge. */
	isPassedOn?: boolean;
}

/**
 * The value of one JSON text.
 * @throws 400 bad_json, duplicate_key, forbidden_key, bad_field for a number that cannot be kept exactly
 */
export function parseJson(
	bytes: Uint8Array,
	{ maxDepth = MAX_JSON_DEPTH, isPassedOn = false }: JsonOptions = {},
): unknown {
	let text: string;
	try {
		text = UTF8.decode(bytes);
	} catch (cause) {
		throw bad("The body is not text in UTF-8.", {}, cause);
	}
	if (text.startsWith("\ufeff")) throw bad("The body begins with a byte order mark; JSON has none.");
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		throw bad(
			text.trim() === "" ? "The body is empty; wanted JSON." : "The body is not valid JSON.",
			{},
			cause,
		);
	}
	const found = scanJson(text, {
		maxDepth,
		maxKeys: MAX_JSON_KEYS,
		...(isPassedOn ? {} : { forbiddenKeys: FORBIDDEN_KEYS, exactNumbers: true }),
	});
	if (found === undefined) return value;
	const { field } = found;
	switch (found.problem) {
		case "too_deep":
			throw bad(`The JSON is nested deeper than ${maxDepth} levels.`);
		case "too_many_keys":
			throw bad(`An object of the JSON has more than ${MAX_JSON_KEYS} keys.`);
		case "half_character":
			throw bad(`A text of the JSON has half a character (an unpaired surrogate).`, { path: field });
		case "not_finite":
			throw bad(`The number of ${JSON.stringify(field)} is too large to be represented.`, { path: field });
		case "not_exact":
			throw invalid(
				"bad_field",
				`Field ${JSON.stringify(field)}: a whole number beyond ±${Number.MAX_SAFE_INTEGER} cannot be kept exactly.`,
				{ field },
			);
		case "duplicate_key":
			throw invalid("duplicate_key", `The key ${JSON.stringify(found.key)} is there twice.`, {
				key: found.key,
				path: field,
			});
		case "forbidden_key":
			throw invalid("forbidden_key", `The key ${JSON.stringify(found.key)} is not allowed.`, {
				key: found.key,
			});
	}
}

/** A byte order mark stays, so that it can be refused. */
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function bad(message: string, details: Record<string, unknown> = {}, cause?: unknown): GswarmError {
	const error = invalid("bad_json", message, details);
	if (cause !== undefined) error.cause = cause;
	return error;
}
