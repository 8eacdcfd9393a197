import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_JSON_BYTES } from "../../src/platform/limits.ts";
import { type JsonOptions, parseJson } from "../../src/platform/safe-json.ts";
import { type GswarmError, asGswarmError } from "../../src/schema/errors.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function reasonOf(input: string | Uint8Array): string {
	try {
		parseJson(typeof input === "string" ? bytes(input) : input);
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

test("every value that JSON can say comes back as it was written", () => {
	const clean = fc
		.jsonValue({ maxDepth: 6 })
		.filter((value) => !/"(__proto__|constructor|prototype)":|\d{16}/.test(JSON.stringify(value)));
	fc.assert(
		fc.property(clean, (value) => {
			const text = JSON.stringify(value);
			expect(JSON.stringify(parseJson(bytes(text)))).toBe(JSON.stringify(JSON.parse(text)));
		}),
	);
});

test.each([
	["nothing", ""],
	["white space", "  \n"],
	["more after the end", "{}x"],
	["two values", "{}{}"],
	["NaN", '{"a":NaN}'],
	["Infinity", "[Infinity]"],
	["a comma too many", "[1,]"],
	["a comment", "{} // all"],
	["single quotes", "{'a':1}"],
	["a raw line break in a string", '"a\nb"'],
	["a NUL", "\0"],
	["a number beyond every float", '{"model_size":1e999}'],
	["bytes that are not UTF-8", new Uint8Array([0x22, 0xff, 0x22])],
	["half a character at the end", new Uint8Array([0x22, 0xe2, 0x82, 0x22])],
	["UTF-16", new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0])],
	["a byte order mark", "\ufeff{}"],
	["half a character", '{"a":"\\ud800"}'],
	["the other half", '{"a":["x\\udC00y"]}'],
	["two halves in the wrong order", '["\\udc00\\ud83d"]'],
	["half a character in a key", '{"\\uD83D":1}'],
	["a negative number beyond every float", "[-1e309]"],
])("%s is not JSON", (_what, input) => {
	expect(reasonOf(input)).toBe("400 bad_json");
});

test.each(["__proto__", "constructor", "prototype"])("the key %s is refused at every depth", (key) => {
	expect(reasonOf(`{"${key}":{"x":1}}`)).toBe("400 forbidden_key");
	expect(reasonOf(`[{"a":[{"${key}":1}]}]`)).toBe("400 forbidden_key");
	const escaped = key.replaceAll(/./g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
	expect(reasonOf(`{"${escaped}":1}`)).toBe("400 forbidden_key");
	expect(({} as { x?: unknown }).x).toBeUndefined();
	// As a value it is a word like any other.
	expect(reasonOf(`{"a":"${key}"}`)).toBe("accepted");
});

test("32 levels are accepted, one more is not, and neither is a mountain of brackets", () => {
	const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);
	expect(reasonOf(nested(32))).toBe("accepted");
	expect(reasonOf(`${"[".repeat(32)}1${"]".repeat(32)}`)).toBe("accepted");
	expect(reasonOf(nested(34))).toBe("400 bad_json");
	expect(reasonOf(nested(400_000))).toBe("400 bad_json");
	expect(reasonOf("[".repeat(900_000))).toBe("400 bad_json");
	expect(reasonOf(`${'{"a":'.repeat(34)}1${"}".repeat(34)}`)).toBe("400 bad_json");
});

test("JSON of people is at most 1 MiB", () => {
	expect(MAX_JSON_BYTES).toBe(1_048_576);
});

function failureOf(text: string, options: JsonOptions = {}): GswarmError {
	try {
		parseJson(bytes(text), options);
	} catch (error) {
		return asGswarmError(error);
	}
	throw new Error(`${text.slice(0, 100)} was accepted`);
}

test("a key that is there twice is refused by its name, however it is spelled and wherever it is", () => {
	for (const [text, key, path] of [
		['{"a":1,"a":1}', "a", "a"],
		['{"a":1,"b":{"c":[{"d":1},{"d":1,"e":2,"d":3}]}}', "d", "b.c.1.d"],
		['{"model":"x","\\u006dodel":"y"}', "model", "model"],
		['{"a\\"b":1,"a\\"b":2}', 'a"b', 'a"b'],
		['{"":1,"":2}', "", ""],
		[`{${Array.from({ length: 40 }, (_, i) => `"k${i}":${i}`).join(",")},"k3":0}`, "k3", "k3"],
		['[{"a":"}","b":"{","a":0}]', "a", "0.a"],
	] as const) {
		const failure = failureOf(text);
		expect(failure).toMatchObject({ status: 400, reason: "duplicate_key" });
		expect(failure.details).toMatchObject({ key, path });
	}
	for (const fine of ['{"a":{"a":{"a":1}}}', '[{"a":1},{"a":1}]', '{"a":"a","b":"a"}', '{"a":1,"A":2}'])
		expect(reasonOf(fine)).toBe("accepted");
});

test("whatever has a key twice is refused, and nothing else is for that", () => {
	const key = fc.oneof(
		fc.constantFrom("a", "b", '"', "\\", "é", "\u2028", "{", ","),
		fc.string({ unit: "grapheme" }),
	);
	const value = fc
		.jsonValue({ maxDepth: 2 })
		.filter((it) => !/"(__proto__|constructor|prototype)":|\d{16}/.test(JSON.stringify(it)));
	fc.assert(
		fc.property(fc.array(fc.tuple(key, value), { maxLength: 14 }), fc.boolean(), (entries, isEscaped) => {
			const spelled = (text: string): string =>
				isEscaped
					? `"${Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, "0")}`).join("")}"`
					: JSON.stringify(text);
			const text = `[{${entries.map(([name, it]) => `${spelled(name)} :\n${JSON.stringify(it)}`).join(" ,")}}]`;
			const isTwice = new Set(entries.map(([name]) => name)).size < entries.length;
			const isForbidden = entries.some(([name]) => ["__proto__", "constructor", "prototype"].includes(name));
			if (isForbidden) return;
			expect(reasonOf(text)).toBe(isTwice ? "400 duplicate_key" : "accepted");
		}),
	);
});

test("whole numbers are exact or refused by their place, fractions are floats", () => {
	for (const digits of [
		"9007199254740991",
		"-9007199254740991",
		"0.1",
		"1e300",
		"5e-324",
		"1.5",
		"-0",
		"12345678901234567.5",
	])
		expect(parseJson(bytes(`{"a":${digits}}`))).toEqual({ a: Number(digits) });
	for (const digits of ["9007199254740992", "-9007199254740993", "1".repeat(400_000)]) {
		const failure = failureOf(`{"x":[0,{"size":${digits}}]}`);
		expect([failure.status, failure.details["path"] ?? failure.details["field"]]).toEqual([400, "x.1.size"]);
	}
	expect(failureOf('{"size":9007199254740993}')).toMatchObject({ reason: "bad_field" });
});

test("pairs of surrogates, escaped quotes and backslashes are characters like others", () => {
	for (const text of [
		'"\\ud83d\\ude00"',
		'"\\\\ud800"',
		'"\\\\"',
		'{"\\"":"\\\\\\""}',
		'"\\uD83D\\uDE00\\u0041"',
		'"\\ud7ff"',
	])
		expect(parseJson(bytes(text))).toEqual(JSON.parse(text));
});

test("10,000 keys of an object are read, one more is not", () => {
	const object = (keys: number): string =>
		`{${Array.from({ length: keys }, (_, i) => `"${i}":0`).join(",")}}`;
	expect(reasonOf(object(10_000))).toBe("accepted");
	expect(reasonOf(object(10_001))).toBe("400 bad_json");
});

test("what is only passed on may have any key and number, and a depth of its own, but no key twice", () => {
	expect(
		parseJson(bytes('{"a":{"constructor":1},"seed":18446744073709551615}'), { isPassedOn: true }),
	).toEqual({
		a: { constructor: 1 },
		seed: 2 ** 64,
	});
	expect(failureOf('{"a":1,"a":2}', { isPassedOn: true }).reason).toBe("duplicate_key");
	expect(parseJson(bytes("[[[]]]"), { maxDepth: 3 })).toEqual([[[]]]);
	expect(failureOf("[[[]]]", { maxDepth: 2 }).reason).toBe("bad_json");
});

describe("1 MiB of anything is read or refused soon", () => {
	/** Twenty times what it takes on an idle machine, and a thousandth of what looking back at each step would. */
	const SOON_MS = 500;
	const filled = (head: string, unit: (index: number) => string, tail: string): string => {
		const parts = [head];
		for (let i = 0, size = head.length + tail.length; ; i++) {
			const part = unit(i);
			size += part.length;
			if (size > MAX_JSON_BYTES) break;
			parts.push(part);
		}
		return parts.join("").replace(/,$/, "") + tail;
	};
	test.each([
		["empty objects", filled("[", () => "{},", "]")],
		["numbers", filled("[", () => "1,", "]")],
		["one number", `[${"1".repeat(MAX_JSON_BYTES - 2)}]`],
		["empty texts", filled("[", () => '"",', "]")],
		["escaped quotes", filled('["', () => '\\"', '"]')],
		["backslashes", filled('["', () => "\\\\", '"]')],
		["escapes in many texts", filled("[", () => '"\\n",', "]")],
		["texts, and one escape at the end", filled("[", () => '"a",', '"\\n"]')],
		["halves of characters", filled('["', () => "\\ud83d\\ude00", '"]')],
		["escaped keys", filled("[{", (i) => `"\\u0061${i % 9_000}${i < 9_000 ? "" : i}":1,`, "}]")],
		[
			"objects of nine keys",
			filled("[", (i) => `{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":${i}},`, "]"),
		],
		["keys of one object", filled("{", (i) => `"${i}":1,`, "}")],
		["white space", filled("[", () => " \n\t\r", "1]")],
	])("%s", (_what, text) => {
		expect(text.length).toBeGreaterThan(MAX_JSON_BYTES - 200);
		const started = performance.now();
		expect(reasonOf(text)).toBeOneOf(["accepted", "400 bad_json", "400 bad_field", "400 duplicate_key"]);
		expect(performance.now() - started).toBeLessThan(SOON_MS);
	});
});
