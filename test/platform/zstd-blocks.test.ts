import { expect, test } from "bun:test";
import { BLOCK_BYTES, compressedBlocks, inflatedBlocks } from "../../src/platform/zstd-blocks.ts";
import { someBytes } from "../support/faulty-source.ts";

const even = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(7);

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
	const blocks: Uint8Array[] = [];
	for await (const block of stream) blocks.push(block);
	return Buffer.concat(blocks);
}

function inflate(
	coded: Uint8Array,
	{ limitBytes = 4 * BLOCK_BYTES, step = 1000 } = {},
): { bytes: Promise<Uint8Array>; given: () => number; taken: () => number } {
	let at = 0;
	let given = 0;
	let taken = 0;
	const body = new ReadableStream<Uint8Array>({
		pull(controller) {
			if (at >= coded.length) controller.close();
			else controller.enqueue(coded.slice(at, (at += step)));
		},
	});
	const onCoded = (count: number): void => void (taken += count);
	const stream = inflatedBlocks(body, { what: "model.gguf", limitBytes, onCoded });
	const counting = stream.pipeThrough(
		new TransformStream<Uint8Array, Uint8Array>({
			transform(bytes, controller) {
				given += bytes.byteLength;
				controller.enqueue(bytes);
			},
		}),
	);
	return { bytes: bytesOf(counting), given: () => given, taken: () => taken };
}

function framed(rawBytes: number, codedBytes: number, bytes: Uint8Array): Uint8Array {
	const head = new Uint8Array(8);
	new DataView(head.buffer).setUint32(0, rawBytes, true);
	new DataView(head.buffer).setUint32(4, codedBytes, true);
	return Buffer.concat([head, bytes]);
}

const failure = (work: Promise<unknown>): Promise<unknown> =>
	work.then(
		() => "nothing failed",
		(error: unknown) => error,
	);

test.each([
	["nothing", new Uint8Array()],
	["one byte", Uint8Array.of(1)],
	["what shrinks", even(BLOCK_BYTES * 2 + 17)],
	["what does not", someBytes(BLOCK_BYTES + 5, 3)],
	["some of both", Buffer.concat([even(BLOCK_BYTES), someBytes(BLOCK_BYTES, 4), even(9)])],
])("what was compressed is what comes out, however it is cut up: %s", async (_what, bytes) => {
	const coded = await bytesOf(compressedBlocks(new Blob([new Uint8Array(bytes)])));
	for (const step of [1 + (coded.length >> 5), coded.length + 1]) {
		const { bytes: got, taken } = inflate(coded, { step });
		expect(Buffer.compare(Buffer.from(await got), Buffer.from(bytes))).toBe(0);
		expect(taken()).toBe(coded.length);
	}
	// At worst eight bytes for each block.
	expect(coded.length).toBeLessThanOrEqual(bytes.length + 8 * Math.ceil(bytes.length / BLOCK_BYTES));
});

const small = Bun.zstdCompressSync(even(1000));
const large = Bun.zstdCompressSync(even(BLOCK_BYTES + 1));
const bomb = Bun.zstdCompressSync(even(1 << 28));

test.each([
	["inflates beyond what it announced", framed(BLOCK_BYTES, bomb.length, bomb)],
	["announces more than it has", framed(1001, small.length, small)],
	["announces less than it has", framed(999, small.length, small)],
	["was cut off inside", framed(1000, small.length - 3, small.subarray(0, -3))],
	["is no zstd", framed(1000, 20, someBytes(20, 1))],
	["announces nothing", framed(0, 1, Uint8Array.of(1))],
	["announces more than a block is", framed(BLOCK_BYTES + 1, large.length, large)],
	["is longer than what it stands for", framed(10, 11, new Uint8Array(11))],
	["has no bytes", framed(10, 0, new Uint8Array())],
])("a block that %s is refused, and nothing of it given on", async (_what, bytes) => {
	const before = process.memoryUsage.rss();
	const { bytes: got, given } = inflate(Buffer.concat([framed(5, 5, even(5)), bytes]));
	expect(await failure(got)).toMatchObject({ reason: "bad_compression", retryable: true });
	expect(given()).toBe(5);
	expect(process.memoryUsage.rss() - before).toBeLessThan(128 << 20);
});

test("blocks of more bytes than were wanted are refused where they become more", async () => {
	const coded = await bytesOf(compressedBlocks(new Blob([even(3 * BLOCK_BYTES)])));
	const { bytes, given } = inflate(coded, { limitBytes: 2 * BLOCK_BYTES });
	expect(await failure(bytes)).toMatchObject({ reason: "bad_compression" });
	expect(given()).toBe(2 * BLOCK_BYTES);
});

test("a body that is cut inside a block gives the blocks before it, and ends", async () => {
	const coded = await bytesOf(compressedBlocks(new Blob([even(3 * BLOCK_BYTES)])));
	expect((await inflate(coded.subarray(0, -2)).bytes).length).toBe(2 * BLOCK_BYTES);
	expect((await inflate(coded.subarray(0, 3)).bytes).length).toBe(0);
});
