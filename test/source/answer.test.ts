import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseContentRange, rangeHeader, readJson, retryAfter } from "../../src/core/source/answer.ts";

test("a range is written with its last byte, and read back as half-open", () => {
	fc.assert(
		fc.property(fc.nat(), fc.integer({ min: 1, max: 1_000_000 }), fc.nat(), (start, length, more) => {
			const range = { start, end: start + length };
			const header = rangeHeader(range).replace("=", " ");
			expect(parseContentRange(`${header}/${range.end + more}`)).toEqual({
				...range,
				total: range.end + more,
			});
			expect(parseContentRange(`${header}/*`)).toEqual({ ...range, total: undefined });
		}),
	);
});

test.each([
	null,
	"",
	"bytes",
	"bytes 5-2/10",
	"bytes 0-9/5",
	"bytes */10",
	"bytes -5/10",
	"items 0-1/2",
	"bytes 0-1/2, 3-4/5",
	"bytes 0-1",
])("Content-Range %j is none", (header) => {
	expect(parseContentRange(header)).toBeUndefined();
});

describe("how long to wait", () => {
	const NOW = Date.UTC(2026, 0, 1);
	test.each([
		[{ "retry-after": "120" }, 120],
		[{ "retry-after": new Date(NOW + 30_500).toUTCString() }, 30],
		[{ "retry-after": new Date(NOW - 5000).toUTCString() }, 0],
		[{ "retry-after": "soon" }, undefined],
		[{ ratelimit: '"resolvers";r=0;t=87' }, 87],
		[{ ratelimit: '"api";r=12;t=3, "resolvers";r=0;t=40' }, 40],
		[{ ratelimit: '"resolvers";r=5;t=87' }, undefined],
		[{ "retry-after": "9", ratelimit: '"resolvers";r=0;t=87' }, 9],
		[{}, undefined],
	] as [Record<string, string>, number | undefined][])("%j is %p s", (headers, seconds) => {
		expect(retryAfter(new Headers(headers), NOW)).toBe(seconds as number);
	});
});

test("JSON is read up to its limit and no further", async () => {
	const body = JSON.stringify({ x: "y".repeat(100) });
	expect(await readJson(new Response(body), "it", body.length)).toEqual({ x: "y".repeat(100) });
	const error = await readJson(new Response(body), "it", body.length - 1).catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ reason: "bad_answer" });
});
