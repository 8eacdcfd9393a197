/**
 * Looks through the text of a JSON value for what `JSON.parse` passes over in silence. It runs after that has accepted
 * the text, so it needs no grammar: outside of strings there are only brackets, separators, numbers and three words.
 * One pass, and linear: a 1 MiB text takes some milliseconds whatever it holds.
 */

export interface JsonBounds {
	maxDepth: number;
	/** Of one object. */
	maxKeys: number;
	forbiddenKeys?: ReadonlySet<string>;
	/** Whether numbers must be finite, and whole numbers exact. */
	exactNumbers?: boolean;
}

export interface JsonFinding {
	problem:
		| "too_deep"
		| "too_many_keys"
		| "duplicate_key"
		| "forbidden_key"
		| "half_character"
		/** Beyond every float. */
		| "not_finite"
		/** A whole number that a float would round. */
		| "not_exact";
	/** The key that it is about. */
	key?: string;
	/** Path of the value or object, `metadata.sizes.3`; `body` at the top. */
	field: string;
}

/** The first finding in a text that `JSON.parse` accepts. */
export function scanJson(
	text: string,
	{ maxDepth, maxKeys, forbiddenKeys, exactNumbers = false }: JsonBounds,
): JsonFinding | undefined {
	/** Of the values that are open, and kept to be used again: a text may open hundreds of thousands. */
	const levels = new Levels();
	let level: Level | undefined;
	let nextBackslash = text.indexOf("\\");
	let at = 0;
	const found = (problem: JsonFinding["problem"], key?: string): JsonFinding => ({
		problem,
		field: levels.path(),
		...(key === undefined ? {} : { key }),
	});

	while (at < text.length) {
		const code = text.charCodeAt(at);
		if (code === QUOTE) {
			let end = text.indexOf('"', at + 1);
			if (nextBackslash !== -1 && nextBackslash < at) nextBackslash = text.indexOf("\\", at);
			const isEscaped = nextBackslash !== -1 && nextBackslash < end;
			let hasSurrogate = false;
			if (isEscaped) ({ end, hasSurrogate } = endOfString(text, at + 1));
			const isKey = level?.wantsKey === true;
			if (isKey || hasSurrogate) {
				const string = isEscaped ? (JSON.parse(text.slice(at, end + 1)) as string) : text.slice(at + 1, end);
				if (hasSurrogate && !string.isWellFormed()) return found("half_character");
				if (isKey && level !== undefined) {
					if (forbiddenKeys?.has(string) === true) return found("forbidden_key", string);
					if (!addKey(level, string)) return found("duplicate_key", string);
					if (level.count > maxKeys) return found("too_many_keys");
					level.wantsKey = false;
				}
			}
			at = end + 1;
		} else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
			if (levels.depth >= maxDepth) return found("too_deep");
			level = levels.open(code === OPEN_OBJECT);
			at++;
		} else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) {
			level = levels.close();
			at++;
		} else if (code === COMMA) {
			if (level !== undefined) {
				if (level.isObject) level.wantsKey = true;
				else level.count++;
			}
			at++;
		} else if (code === MINUS || (code >= ZERO && code <= NINE)) {
			const end = endOfNumber(text, at);
			const isSuspect = exactNumbers && end - at >= SHORTEST_SUSPECT;
			const problem = isSuspect ? problemOfNumber(text.slice(at, end)) : undefined;
			if (problem !== undefined) return found(problem);
			at = end;
		} else at++;
	}
	return undefined;
}

interface Level {
	isObject: boolean;
	wantsKey: boolean;
	/** The last one. */
	key: string;
	/** Keys so far, or commas. */
	count: number;
	/** A list as long as it is short; looking through that is quicker than hashing. */
	keys: string[] | Set<string> | undefined;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const MAX_LISTED_KEYS = 8;
/** `1e309` is the shortest number that is not finite. */
const SHORTEST_SUSPECT = 5;

class Levels {
	depth = 0;
	readonly #levels: Level[] = [];

	open(isObject: boolean): Level {
		const level = (this.#levels[this.depth++] ??= {
			isObject,
			wantsKey: false,
			key: "",
			count: 0,
			keys: undefined,
		});
		level.isObject = isObject;
		level.wantsKey = isObject;
		level.key = "";
		level.count = 0;
		level.keys = undefined;
		return level;
	}

	/** The one around it. */
	close(): Level | undefined {
		this.depth--;
		return this.#levels[this.depth - 1];
	}

	path(): string {
		const open = this.#levels.slice(0, this.depth);
		const steps = open.map(({ isObject, key, count }) => (isObject ? key : String(count)));
		return steps.length === 0 ? "body" : steps.join(".").slice(0, 200);
	}
}

/** False when the object has it already. */
function addKey(level: Level, key: string): boolean {
	level.key = key;
	level.count++;
	const { keys } = level;
	if (keys === undefined) level.keys = [key];
	else if (Array.isArray(keys)) {
		if (keys.includes(key)) return false;
		if (keys.length < MAX_LISTED_KEYS) keys.push(key);
		else level.keys = new Set(keys).add(key);
	} else {
		if (keys.has(key)) return false;
		keys.add(key);
	}
	return true;
}

/** Where the string ends whose first character is at `from`: at a quote that no backslash takes its meaning. */
function endOfString(text: string, from: number): { end: number; hasSurrogate: boolean } {
	let hasSurrogate = false;
	let at = from;
	for (;;) {
		const code = text.charCodeAt(at);
		if (code === QUOTE) return { end: at, hasSurrogate };
		// u and d or D: half of a pair, or a few characters that are none.
		if (code === BACKSLASH && text.charCodeAt(at + 1) === 0x75 && (text.charCodeAt(at + 2) | 0x20) === 0x64)
			hasSurrogate = true;
		at += code === BACKSLASH ? 2 : 1;
	}
}

function endOfNumber(text: string, from: number): number {
	let at = from + 1;
	for (;;) {
		const code = text.charCodeAt(at);
		const isPart = (code >= ZERO && code <= NINE) || code === MINUS || code === 0x2b || code === 0x2e;
		// e and E
		if (!isPart && (code | 0x20) !== 0x65) return at;
		at++;
	}
}

function problemOfNumber(digits: string): "not_finite" | "not_exact" | undefined {
	const value = Number(digits);
	if (!Number.isFinite(value)) return "not_finite";
	const isWhole = !/[.eE]/.test(digits);
	return isWhole && !Number.isSafeInteger(value) ? "not_exact" : undefined;
}
