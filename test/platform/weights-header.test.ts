import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createIoPool } from "../../src/platform/io-pool.ts";
import { parseWeightsHeader, type WeightsFormat } from "../../src/platform/weights-header.ts";
import { asGswarmError, GswarmError } from "../../src/schema/errors.ts";
import { writeGguf, writeSafetensorsRepository } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(120_000);

const dir = tempDir();
const never = new AbortController().signal;
/** What a corrupt header may take at most. */
const LIMIT_MS = 100;
let gguf: Buffer;
let safetensors: Buffer;

beforeAll(() => {
	writeGguf(join(dir.path, "tiny.gguf"));
	gguf = readFileSync(join(dir.path, "tiny.gguf"));
	const repository = join(dir.path, "tiny");
	mkdirSync(repository);
	writeSafetensorsRepository(repository, { shards: 1 });
	safetensors = readFileSync(join(repository, "model.safetensors"));
});
afterAll(() => dir[Symbol.dispose]());

function parse(format: WeightsFormat, bytes: Uint8Array, sizeBytes = bytes.length) {
	const read = (offset: number, length: number) => bytes.subarray(offset, offset + length);
	return parseWeightsHeader(format, { name: "x", sizeBytes, read });
}

/** What it is refused for, or `told`. Anything that is thrown besides is a fault of the parser. */
function outcome(format: WeightsFormat, bytes: Uint8Array, sizeBytes?: number): string {
	try {
		parse(format, bytes, sizeBytes);
		return "told";
	} catch (error) {
		if (!(error instanceof GswarmError)) throw error;
		expect(error.reason).toMatch(new RegExp(`^(not|truncated|unsupported|corrupt)_${format}$`));
		return error.reason ?? "";
	}
}

test("both formats tell elements, bytes and, where they have it, what attention keeps", () => {
	const ofGguf = parse("gguf", gguf);
	const ofSafetensors = parse("safetensors", safetensors);
	expect(ofGguf).toMatchObject({
		architecture: "llama",
		contextLength: 2048,
		license: "0bsd",
		isEncoder: false,
	});
	expect(ofGguf.kvElementsPerToken).toBeGreaterThan(0);
	for (const header of [ofGguf, ofSafetensors]) {
		const elements = Object.values(header.elements).reduce((sum, count) => sum + count, 0);
		expect(header.tensorBytes).toBe(elements * 4);
	}
	expect(ofSafetensors.tensorBytes).toBe(ofGguf.tensorBytes);
});

test("a GGUF file may tell its heads of keys layer by layer", () => {
	const heads = [4, 2, 0, 2];
	const header = ggufOf([
		["general.architecture", text("hybrid")],
		["hybrid.block_count", u32(4)],
		["hybrid.embedding_length", u32(64)],
		["hybrid.attention.head_count", u32(4)],
		["hybrid.attention.head_count_kv", Buffer.concat([tag(9), tag(4), u64(heads.length), ...heads.map(tag)])],
	]);
	expect(parse("gguf", header).kvElementsPerToken).toBe(8 * (16 + 16));
});

test("whatever bytes of a header are changed, it is told or refused with a reason", () => {
	const change = fc.record({
		at: fc.nat(6000),
		byte: fc.integer({ min: 0, max: 255 }),
		cut: fc.option(fc.nat(9000), { freq: 5 }),
	});
	fc.assert(
		fc.property(
			fc.constantFrom("gguf", "safetensors"),
			fc.array(change, { maxLength: 6 }),
			(format, changes) => {
				const bytes = Buffer.from(format === "gguf" ? gguf : safetensors);
				for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
				const cut = changes.find((one) => one.cut !== null)?.cut ?? bytes.length;
				outcome(format, bytes.subarray(0, cut));
				// A file that claims to be huge.
				outcome(format, bytes, Number.MAX_SAFE_INTEGER);
			},
		),
		{ numRuns: 400 },
	);
});

test("a length that is written anywhere as huge is refused before memory is spent on it", () => {
	const most = Buffer.alloc(8, 0xff);
	const before = process.memoryUsage().rss;
	for (let at = 0; at < 400; at++) {
		const bytes = Buffer.from(gguf);
		most.copy(bytes, at);
		outcome("gguf", bytes, Number.MAX_SAFE_INTEGER);
	}
	expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
});

const MIB = 1024 * 1024;
const json = (body: string): Buffer => Buffer.concat([u64(body.length), Buffer.from(body)]);

test.each<[string, WeightsFormat, () => Buffer]>([
	["brackets without end", "safetensors", () => json("[".repeat(16 * MIB - 8))],
	["objects in objects", "safetensors", () => json('{"a":'.repeat(3 * MIB))],
	["one list of millions", "safetensors", () => json(`{"a":{"shape":[${"0,".repeat(7 * MIB)}0]}}`)],
	["millions of keys", "safetensors", () => json(`{${'"":0,'.repeat(3 * MIB)}"a":0}`)],
	["nothing but spaces", "safetensors", () => json(" ".repeat(16 * MIB - 8))],
	["a string without end", "safetensors", () => json(`{"${"a".repeat(16 * MIB - 16)}`)],
	["millions of empty strings, again and again", "gguf", () => ggufOf(manyArrays())],
	["thousands of long texts", "gguf", () => ggufOf(longTexts())],
])("a header made of %s is refused in time", (_what, format, make) => {
	const bytes = make();
	// Of the processor, because the machine has other work too.
	const times = [1, 2, 3, 4, 5].map(() => {
		const before = process.cpuUsage();
		expect(outcome(format, bytes, Number.MAX_SAFE_INTEGER)).not.toBe("told");
		const { user, system } = process.cpuUsage(before);
		return (user + system) / 1000;
	});
	expect(Math.min(...times)).toBeLessThan(LIMIT_MS);
});

test("on a thread, a link, a pipe and a folder are no files of weights", async () => {
	await using io = createIoPool({ threads: 1 });
	const at = (name: string): string => join(dir.path, name);
	symlinkSync(at("tiny.gguf"), at("link.gguf"));
	Bun.spawnSync(["mkfifo", at("pipe.gguf")]);
	mkdirSync(at("folder.gguf"));
	writeFileSync(at("short.gguf"), gguf.subarray(0, 2000));
	const read = (name: string) => io.readHeader({ path: at(name), format: "gguf" }, never);
	expect(await read("tiny.gguf")).toEqual(parse("gguf", gguf));
	expect(await read("link.gguf").catch((error: NodeJS.ErrnoException) => error.code)).toBe("ELOOP");
	for (const name of ["pipe.gguf", "folder.gguf"])
		expect((await read(name).catch(asGswarmError)) as unknown).toMatchObject({ reason: "not_gguf" });
	expect((await read("short.gguf").catch(asGswarmError)) as unknown).toMatchObject({
		code: "INVALID_REQUEST",
		reason: "truncated_gguf",
	});
});

function ggufOf(metadata: readonly (readonly [string, Buffer])[]): Buffer {
	const entries = metadata.flatMap(([key, value]) => [u64(key.length), Buffer.from(key), value]);
	const head = Buffer.concat([Buffer.from("GGUF"), tag(3), u64(0), u64(metadata.length), ...entries]);
	return head;
}

/** Lists of empty strings, each as long as is walked through at once. */
function manyArrays(): [string, Buffer][] {
	const length = 1_000_000;
	const list = Buffer.concat([tag(9), tag(8), u64(length), Buffer.alloc(length * 8)]);
	return Array.from({ length: 5 }, (_, at) => [`key${at}`, list]);
}

function longTexts(): [string, Buffer][] {
	const long = Buffer.concat([tag(8), u64(8 * MIB), Buffer.alloc(8 * MIB, 0x61)]);
	return Array.from({ length: 13 }, (_, at) => [`key${at}`, long]);
}

function tag(value: number): Buffer {
	const bytes = Buffer.alloc(4);
	bytes.writeUInt32LE(value);
	return bytes;
}

function u32(value: number): Buffer {
	return Buffer.concat([tag(4), tag(value)]);
}

function u64(value: number): Buffer {
	const bytes = Buffer.alloc(8);
	bytes.writeBigUInt64LE(BigInt(value));
	return bytes;
}

function text(value: string): Buffer {
	return Buffer.concat([tag(8), u64(value.length), Buffer.from(value)]);
}
