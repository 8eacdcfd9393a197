import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseDocument, stringify } from "yaml";
import { parseYaml } from "../../src/platform/safe-yaml.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

/** A refusal takes at most so long; bombs of the same size would otherwise take minutes. */
const SOON_MS = 100;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (text: string, maxAliases?: number): unknown =>
	parseYaml(bytes(text), maxAliases === undefined ? {} : { maxAliases });

function problemOf(text: string | Uint8Array, maxAliases?: number): string {
	try {
		const value = parseYaml(
			typeof text === "string" ? bytes(text) : text,
			maxAliases === undefined ? {} : { maxAliases },
		);
		throw new Error(`it was accepted as ${Bun.inspect(value).slice(0, 200)}`);
	} catch (error) {
		const { status, reason, details } = asGswarmError(error);
		if (reason !== "bad_yaml") throw error;
		expect(status).toBe(400);
		return String(details["problem"]);
	}
}

test("what people write is read as YAML 1.2 means it", () => {
	const text = `# a workflow
name: "nightly"
on: yes
when: 2026-11-23
size: 1_000
hex: 0x1F
octal: 0o17
zero: 007
half: 0.5
big: 9007199254740991
none: ~
text: |
  a: b
  	tab
folded: >-
  one
  two
list: [a, 'b', {c: 1}]
same: &anchor [1, 2]
again: *anchor
<<: kept
`;
	expect(read(text)).toEqual({
		name: "nightly",
		on: "yes",
		when: "2026-11-23",
		size: "1_000",
		hex: 31,
		octal: 15,
		zero: 7,
		half: 0.5,
		big: Number.MAX_SAFE_INTEGER,
		none: null,
		text: "a: b\n\ttab\n",
		folded: "one two",
		list: ["a", "b", { c: 1 }],
		same: [1, 2],
		again: [1, 2],
		"<<": "kept",
	});
	for (const empty of ["", "\n", "# nothing", "---\n", "~"]) expect(read(empty)).toBeNull();
	expect(read("\ufeffa: 1")).toEqual({ a: 1 });
	expect(read("a: 1\r\nb: 2\r\n")).toEqual({ a: 1, b: 2 });
});

/** Whole numbers that would be rounded are refused, by a test of their own. */
function isExact(value: unknown): boolean {
	if (typeof value === "number") return !Number.isInteger(value) || Number.isSafeInteger(value);
	return typeof value !== "object" || value === null || Object.values(value).every(isExact);
}

test("whatever JSON can say comes back as it was, and as the library reads it", () => {
	const value = fc
		.jsonValue({ maxDepth: 5 })
		.filter((it) => !/"(__proto__|constructor|prototype)":|e\+/.test(JSON.stringify(it)))
		.filter(isExact);
	fc.assert(
		fc.property(value, (it) => {
			const wanted: unknown = JSON.parse(JSON.stringify(it));
			expect(read(JSON.stringify(it))).toEqual(wanted);
			const block = stringify(wanted, { aliasDuplicateObjects: false });
			// Control characters may stand in quotes escaped only; the library writes DEL as it is.
			if (!/(?![\n])\p{Cc}/u.test(block)) expect(read(block)).toEqual(parseDocument(block).toJS());
		}),
	);
});

test.each([
	["a key twice", "a: 1\nb: 2\na: 3", 'line 3: the key "a" is there twice'],
	["a key twice in another spelling", 'a: 1\n"\\u0061": 3', 'line 2: the key "a" is there twice'],
	["a key twice, deep in a flow", "x: [{b: 1, b: 2}]", 'line 1: the key "b" is there twice'],
	["two documents", "a: 1\n---\nb: 2", "multiple documents"],
	["a tag of JavaScript", "a: !!js/function 'x'", 'line 1: it has the tag "!!js/function"'],
	["a tag of one's own", "a: 1\nb: !env HOME", 'line 2: it has the tag "!env"'],
	["a tag of YAML itself", "a: !!binary aGk=", "it has the tag"],
	["an ordered map", "!!omap [a: 1]", "it has the tag"],
	["another version", "%YAML 1.1\n---\na: yes", "line 1: it has a directive"],
	["a tag prefix", "%TAG ! tag:example.com,2000:\n---\na: 1", "it has a directive"],
	["a tab as indentation", "a:\n\tb: 1", "line 2: Tabs are not allowed as indentation"],
	["a tab after spaces", "a:\n  \tb: 1", "line 2: Tabs are not allowed as indentation"],
	["a key that is a number", "1: a", "line 1: a key is no text"],
	["a key that is a flag", "true: a", "line 1: a key is no text"],
	["a key that is nothing", "? \n: a", "a key is no text"],
	["a key that is a map", "? {a: 1}\n: 2", "line 1: a key is no text"],
	["a key of the prototype", "a:\n  __proto__: {x: 1}", 'line 2: the key "__proto__" is not allowed'],
	["the constructor", "constructor: 1", 'the key "constructor" is not allowed'],
	["infinity", "a: .inf", "the number .inf is not finite"],
	["no number", "a: .nan", "the number .nan is not finite"],
	["a number beyond every float", "a: 1e999", "the number 1e999 is not finite"],
	["a number that would be rounded", "a: 9007199254740993", "too large to be kept exactly"],
	["a negative one", "a: -9007199254740993", "too large to be kept exactly"],
	["a hexadecimal one", "a: 0xffffffffffffffff", "too large to be kept exactly"],
	["half a character", 'a: "\\ud800"', "a text has half a character"],
	["half a character as key", '"\\ud800": 1', "a key has half a character"],
	["a NUL", "a: b\0", "line 1: it holds a control character"],
	["an escape sequence", "a: 1\nb: \x1b[2J", "line 2: it holds a control character"],
	["an unclosed bracket", "a: [1", "line 1: "],
	["an unclosed quote", "a: 'b", "line 1: "],
	["bytes that are no text", new Uint8Array([0xff, 0xfe, 0, 0x80]), "not text in UTF-8"],
	["an alias of nothing", "a: *b", "the alias *b has no anchor before it"],
	["an anchor that comes later", "a: *b\nb: &b 1", "the alias *b has no anchor before it"],
	["an anchor twice", "a: &x 1\nb: &x 2", "line 2: the anchor &x is there twice"],
	["a circle", "a: &x [*x]", "the alias *x stands inside its own value"],
	["a circle of maps", "a: &x {b: {c: *x}}", "the alias *x stands inside its own value"],
])("%s is refused", (_what, text, problem) => {
	expect(problemOf(text)).toContain(problem);
});

describe("bounds", () => {
	test("sixty levels are read, more than 64 are not, in every way to nest", () => {
		const flow = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
		const dashes = (depth: number): string => `${"- ".repeat(depth)}a`;
		for (const nested of [flow, dashes]) {
			read(nested(60));
			expect(problemOf(nested(66))).toContain("deeper than 64 levels");
		}
		const deep = `${"- ".repeat(40)}&x a\n`;
		expect(read(deep)).toBeArray();
		// What an alias stands for counts where it stands.
		const stacked = `a: &x ${flow(40)}\nb: ${"[".repeat(40)}*x${"]".repeat(40)}`;
		expect(problemOf(stacked)).toContain("deeper than 64 levels");
	});

	test("as many aliases as are allowed, and no more", () => {
		const aliases = (count: number): string => `a: &x 1\nb: [${Array(count).fill("*x").join(", ")}]`;
		expect(read(aliases(100))).toBeObject();
		expect(problemOf(aliases(101))).toBe("line 2: it has more than 100 aliases (*name)");
		expect(read(aliases(3), 3)).toBeObject();
		expect(problemOf(aliases(1), 0)).toContain("write the value where it is used");
	});

	test("what aliases stand for counts as often as they do, and the parts of a text are counted too", () => {
		const list = `a: &x [${"1,".repeat(20_000)}]\nb: [`;
		expect(read(`${list}${"*x,".repeat(20)}]`)).toBeObject();
		expect(problemOf(`${list}${"*x,".repeat(30)}]`)).toContain("more than 500000 values");
		expect(problemOf("#\n".repeat(500_000))).toContain("more than 750000 parts");
	});

	test("1 MiB is read, one byte more is not", () => {
		const text = (size: number): string => `a: ${"x".repeat(size - 3)}`;
		expect(read(text(1024 * 1024))).toBeObject();
		expect(problemOf(text(1024 * 1024 + 1))).toBe("it is larger than 1 MiB");
	});

	test.each([
		["aliases that multiply", `l0: &l0 [${"x,".repeat(9)}x]\n${levels(9)}`],
		[
			"many anchors that hold each other",
			`l0: &l0 x\n${levels(9).replaceAll("[", "{a: [").replaceAll("]", "]}")}`,
		],
		["a mountain of brackets", "[".repeat(1_000_000)],
		["a mountain of braces", "{a: ".repeat(250_000)],
		["a mountain of dashes", "- ".repeat(500_000)],
		["a mountain of question marks", "? ".repeat(500_000)],
		["keys without end", "a: ".repeat(300_000)],
		["too many bytes", "a".repeat(20_000_000)],
		["a circle", "a: &x [*x]"],
	])("%s are refused at once", (_what, text) => {
		const data = bytes(text);
		const started = performance.now();
		problemOf(data);
		expect(performance.now() - started).toBeLessThan(SOON_MS * 3);
	});

	test.each([
		["60,000 keys of one map", Array.from({ length: 60_000 }, (_, i) => `k${i}: 1`).join("\n")],
		["250,000 values of one list", `[${"1,".repeat(250_000)}]`],
		["500,000 comments", "#\n".repeat(500_000)],
		["a million backslashes", `a: "${"\\\\".repeat(500_000)}"`],
		["300,000 anchors in a row", "&a ".repeat(300_000)],
	])("%s take seconds at most", (_what, text) => {
		const started = performance.now();
		try {
			read(text);
		} catch (error) {
			expect(asGswarmError(error).reason).toBe("bad_yaml");
		}
		expect(performance.now() - started).toBeLessThan(20_000);
	});
});

/** `l1: &l1 [*l0, … *l0]`, ten of the former level in each. */
function levels(count: number): string {
	return Array.from(
		{ length: count },
		(_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(", ")}]`,
	).join("\n");
}
