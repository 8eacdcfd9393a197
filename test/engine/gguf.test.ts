import { describe, expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { type ByteReader } from "../../src/platform/gguf-cursor.ts";
import { parseGguf, readGgufFile } from "../../src/platform/gguf.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";

function readerOf(bytes: Uint8Array, sizeBytes = bytes.length): ByteReader {
	return { name: "tiny.gguf", sizeBytes, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

function reasonOf(bytes: Uint8Array, sizeBytes = bytes.length): string {
	try {
		parseGguf(readerOf(bytes, sizeBytes));
		return "accepted";
	} catch (error) {
		if (error instanceof GswarmError) return error.reason ?? "";
		throw error;
	}
}

function model(): Uint8Array {
	using dir = tempDir();
	writeGguf(join(dir.path, "tiny.gguf"));
	return readFileSync(join(dir.path, "tiny.gguf"));
}

/** A GGUF string: its length and its bytes; `claimed` is what the length says instead. */
function text(value: string, claimed = Buffer.byteLength(value)): Buffer {
	return Buffer.concat([number(claimed, 8), Buffer.from(value)]);
}

function number(value: number, size: 4 | 8): Buffer {
	const bytes = Buffer.alloc(size);
	bytes.writeUInt32LE(value);
	return bytes;
}

const REFUSALS = ["not_gguf", "truncated_gguf", "unsupported_gguf", "corrupt_gguf"];

describe("the GGUF header", () => {
	test("says what the model is and how large its file must be", () => {
		const bytes = model();
		const header = parseGguf(readerOf(bytes));
		expect(header).toMatchObject({
			version: 3,
			architecture: "llama",
			contextLength: 2048,
			fileType: "F32",
			splitCount: 1,
			requiredBytes: bytes.length,
		});
		const weights = bytes.length - header.dataOffsetBytes;
		expect(Math.abs(header.parameterCount * 4 - weights)).toBeLessThan(32 * header.tensors.length);
	});

	test("keeps of an array its element type and length", () => {
		const { metadata } = parseGguf(readerOf(model()));
		expect(metadata.get("tokenizer.ggml.tokens")).toEqual({ arrayOf: 8, length: expect.any(Number) });
		expect(typeof metadata.get("tokenizer.chat_template")).toBe("string");
	});

	test("of a file that lacks weights is refused with the file's name and both sizes", () => {
		using dir = tempDir();
		const path = join(dir.path, "tiny.gguf");
		const { sizeBytes } = writeGguf(path);
		truncateSync(path, 1_000_000);
		expect(() => readGgufFile(path)).toThrow(
			`tiny.gguf is truncated: header needs ${sizeBytes} bytes, file has 1000000.`,
		);
	});

	test("of a missing file is refused with its path", () => {
		expect(() => readGgufFile("/nowhere/tiny.gguf")).toThrow(/\/nowhere\/tiny\.gguf cannot be opened/);
	});

	test("cut anywhere is refused as truncated", () => {
		const bytes = model();
		const { dataOffsetBytes } = parseGguf(readerOf(bytes));
		fc.assert(
			fc.property(fc.integer({ min: 8, max: dataOffsetBytes }), (length) => {
				expect(reasonOf(bytes.subarray(0, length))).toBe("truncated_gguf");
			}),
		);
	});

	test("of arbitrary bytes is refused by name, never with another error", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
				expect(REFUSALS).toContain(reasonOf(bytes));
			}),
		);
	});

	test("of arbitrary bytes behind a valid start costs no more memory than the file has", () => {
		const start = [0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0];
		let largest = 0;
		fc.assert(
			fc.property(fc.uint8Array({ minLength: 16, maxLength: 400 }), (rest) => {
				const bytes = Uint8Array.from([...start, ...rest]);
				const reader = readerOf(bytes);
				const read = reader.read;
				reader.read = (offset, length) => {
					largest = Math.max(largest, length);
					return read(offset, length);
				};
				try {
					parseGguf(reader);
				} catch (error) {
					expect(REFUSALS).toContain((error as GswarmError).reason ?? "");
				}
			}),
			{ numRuns: 1000 },
		);
		expect(largest).toBeLessThanOrEqual(408);
	});

	test("with one byte changed is accepted or refused by name", () => {
		const bytes = model();
		const { dataOffsetBytes } = parseGguf(readerOf(bytes));
		fc.assert(
			fc.property(
				fc.integer({ min: 0, max: dataOffsetBytes - 1 }),
				fc.integer({ min: 1, max: 255 }),
				(at, change) => {
					const changed = bytes.slice(0, dataOffsetBytes);
					changed[at] = (changed[at] ?? 0) ^ change;
					expect(["accepted", ...REFUSALS]).toContain(reasonOf(changed, bytes.length));
				},
			),
			{ numRuns: 300 },
		);
	});

	test("of a text file, an old version and a big-endian file is refused with the reason", () => {
		const of = (...head: number[]) => reasonOf(Uint8Array.from([...head, ...new Uint8Array(64)]));
		expect(of(...Buffer.from("<html>"))).toBe("not_gguf");
		expect(of(...Buffer.from("GGUF"), 1, 0, 0, 0)).toBe("unsupported_gguf");
		expect(() => parseGguf(readerOf(Uint8Array.from([...Buffer.from("GGUF"), 0, 0, 0, 3])))).toThrow(
			/big-endian/,
		);
		expect(reasonOf(new Uint8Array(0))).toBe("truncated_gguf");
	});

	test("whose key occurs twice is refused", () => {
		const pair = Buffer.concat([text("general.name"), number(8, 4), text("a")]);
		const head = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(0, 8)]);
		expect(reasonOf(Buffer.concat([head, number(1, 8), pair, Buffer.alloc(64)]))).toBe("accepted");
		expect(reasonOf(Buffer.concat([head, number(2, 8), pair, pair, Buffer.alloc(64)]))).toBe("corrupt_gguf");
	});

	test("whose last string would end behind the file is refused as truncated", () => {
		const array = (claimed: number) =>
			Buffer.concat([text("tokens"), number(9, 4), number(8, 4), number(1, 8), text("word", claimed)]);
		const head = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(0, 8), number(1, 8)]);
		expect(reasonOf(Buffer.concat([head, array(4)]))).toBe("accepted");
		expect(reasonOf(Buffer.concat([head, array(5)]))).toBe("truncated_gguf");
	});

	test("is read from the file in windows and gives what the whole file gives", () => {
		using dir = tempDir();
		const path = join(dir.path, "model.gguf");
		writeGguf(path, { sizeBytes: 20_000_000 });
		const whole = parseGguf(readerOf(readFileSync(path)));
		expect(readGgufFile(path)).toEqual(whole);
		// A file may be larger than its header needs.
		writeFileSync(path, "more", { flag: "a" });
		expect(readGgufFile(path).requiredBytes).toBe(whole.requiredBytes);
	});

	test.each([
		["tensors", 131_073, 0],
		["keys", 0, 16_385],
	])("with more %s than any model has is refused at once, however large the file", (_what, tensors, keys) => {
		const start = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(tensors, 8), number(keys, 8)]);
		expect(reasonOf(start, 2 ** 40)).toBe("corrupt_gguf");
	});

	test("with an array of millions of texts is refused before it is walked", () => {
		const key = Buffer.concat([
			text("tokenizer.ggml.tokens"),
			number(9, 4),
			number(8, 4),
			number(4_000_001, 8),
		]);
		const start = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(0, 8), number(1, 8), key]);
		expect(reasonOf(start, 2 ** 40)).toBe("corrupt_gguf");
	});

	test("with an unknown tensor type is not believed a shape that no file can hold", () => {
		const shape = Buffer.concat([number(4, 4), ...Array.from({ length: 4 }, () => number(4_000_000_000, 8))]);
		const tensor = Buffer.concat([text("t"), shape, number(9999, 4), number(0, 8)]);
		const start = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(1, 8), number(0, 8), tensor]);
		expect(reasonOf(start, 2 ** 40)).toBe("corrupt_gguf");
	});

	test("is not believed more elements than can be counted, though they would take few bytes", () => {
		// Q4_0 takes 18 bytes for 32 elements: 3 × 2^52 of them have a size that can still be computed with.
		const shape = Buffer.concat([number(2, 4), number(3 * 2 ** 26, 8), number(2 ** 26, 8)]);
		const tensor = Buffer.concat([text("t"), shape, number(2, 4), number(0, 8)]);
		const start = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(1, 8), number(0, 8), tensor]);
		expect(reasonOf(start, Number.MAX_SAFE_INTEGER)).toBe("corrupt_gguf");
	});

	test("of garbage behind any valid start is refused within 100 ms", () => {
		const starts = [model().subarray(0, 200), Buffer.from("GGUF"), Buffer.alloc(0)];
		for (const [seed, start] of starts.entries()) {
			const garbage = new Uint8Array(4 << 20);
			for (let at = 0; at < garbage.length; at++) garbage[at] = (at * 2_654_435_761 + seed) >>> 24;
			const bytes = Buffer.concat([start, garbage]);
			const startedMs = performance.now();
			expect(REFUSALS).toContain(reasonOf(bytes, 2 ** 45));
			expect(performance.now() - startedMs).toBeLessThan(100);
		}
	});
});
