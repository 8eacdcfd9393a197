import { expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_JSON_BYTES, parseJson, readBounded } from "../../src/platform/safe-json.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

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
		.filter((value) => !/"(__proto__|constructor|prototype)":/.test(JSON.stringify(value)));
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

/** A body that comes in pieces, and tells how many were asked for. */
function pieces(...sizes: number[]): {
	body: ReadableStream<Uint8Array>;
	asked: () => number;
	cancelled: () => boolean;
} {
	let next = 0;
	let cancelled = false;
	const body = new ReadableStream<Uint8Array>(
		{
			pull(controller) {
				const size = sizes[next++];
				if (size === undefined) controller.close();
				else controller.enqueue(new Uint8Array(size).fill(next));
			},
			cancel() {
				cancelled = true;
			},
		},
		{ highWaterMark: 0 },
	);
	return { body, asked: () => next, cancelled: () => cancelled };
}

test("a body of exactly the limit is read, one byte more is 413, in one piece and in many", async () => {
	expect(await readBounded(pieces(100).body, 100)).toHaveLength(100);
	expect(await readBounded(pieces(60, 40).body, 100)).toEqual(
		Uint8Array.from([...Array(60).fill(1), ...Array(40).fill(2)]),
	);
	for (const sizes of [[101], [100, 1], Array<number>(101).fill(1)]) {
		const failure = await readBounded(pieces(...sizes).body, 100).catch(asGswarmError);
		expect(failure).toMatchObject({ status: 413, reason: "body_too_large", details: { limit: 100 } });
	}
});

test("no body is no bytes", async () => {
	expect(await readBounded(null, 100)).toHaveLength(0);
	expect(await readBounded(pieces().body, 100)).toHaveLength(0);
});

test("a body that says it is too long is refused without reading it", async () => {
	const long = pieces(10);
	expect(await readBounded(long.body, 100, 100)).toHaveLength(10);
	const longer = pieces(10);
	expect(await readBounded(longer.body, 100, 101).catch(asGswarmError)).toMatchObject({ status: 413 });
	expect(longer.asked()).toBe(0);
});

test("an endless body is left where the limit was passed", async () => {
	const endless = pieces(...Array<number>(1000).fill(50));
	expect(await readBounded(endless.body, 100).catch(asGswarmError)).toMatchObject({ status: 413 });
	expect(endless.asked()).toBeLessThan(6);
	expect(endless.cancelled()).toBe(true);
});

test("JSON of people is at most 1 MiB", () => {
	expect(MAX_JSON_BYTES).toBe(1_048_576);
});
