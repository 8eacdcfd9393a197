/**
 * Bytes as a row of blocks, each compressed with zstd (RFC 8878) where that makes it smaller: eight bytes that say how
 * many bytes the block is and how many of them follow (little endian; alike for a block that follows as it is), then
 * those. Blocks stand for themselves, so that a body that is cut is worth what came of it, and none is inflated beyond
 * what it announced.
 */
import { zstdDecompressSync } from "node:zlib";
import { GswarmError } from "../schema/errors.ts";

/** Of one block before it is compressed. */
export const BLOCK_BYTES = 512 * 1024;

const HEAD_BYTES = 8;
/** The fastest: who compresses here does so because a line is slow, and other work goes on beside it. */
const LEVEL = 1;
/** A block that does not shrink by a sixteenth goes as it is: inflating costs time, too. */
const WORTH = 15 / 16;

/** The bytes, block by block, read as they are asked for. */
export function compressedBlocks(bytes: Blob): ReadableStream<Uint8Array> {
	let at = 0;
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				if (at >= bytes.size) {
					controller.close();
					return;
				}
				const end = Math.min(at + BLOCK_BYTES, bytes.size);
				const raw = new Uint8Array(await bytes.slice(at, end).arrayBuffer());
				// A file that became shorter: the reader sees that less came than was announced.
				if (raw.byteLength < end - at) {
					controller.error(new Error("the file is shorter than it was"));
					return;
				}
				at = end;
				const coded = await Bun.zstdCompress(raw, { level: LEVEL });
				controller.enqueue(framed(raw.byteLength, coded.length <= raw.length * WORTH ? coded : raw));
			},
		},
		{ highWaterMark: 0 },
	);
}

/** How many bytes a sample has when it is compressed. */
export function compressedSize(sample: Uint8Array<ArrayBuffer>): number {
	return Bun.zstdCompressSync(sample, { level: LEVEL }).length;
}

/**
 * What such blocks were made of, at most `limitBytes`; `onCoded` hears how many bytes were taken for that. A body that
 * ends inside a block just ends; the reader counts.
 * @throws NETWORK_ERROR bad_compression, of the stream's reads
 */
export function inflatedBlocks(
	body: ReadableStream<Uint8Array>,
	{ what, limitBytes, onCoded }: { what: string; limitBytes: number; onCoded: (bytes: number) => void },
): ReadableStream<Uint8Array> {
	const reader = body.getReader();
	const block = createBlockReader(what);
	let rest: Uint8Array = new Uint8Array();
	let given = 0;
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				for (;;) {
					while (rest.byteLength > 0) {
						const { taken, raw } = block.take(rest);
						rest = rest.subarray(taken);
						if (raw === undefined) continue;
						given += raw.byteLength;
						if (given > limitBytes) throw badBlock(what, `it is more than the ${limitBytes} bytes wanted`);
						controller.enqueue(raw);
						return;
					}
					const { done, value } = await reader.read();
					if (done) {
						controller.close();
						return;
					}
					onCoded(value.byteLength);
					rest = value;
				}
			},
			cancel: (reason) => reader.cancel(reason),
		},
		{ highWaterMark: 0 },
	);
}

/** Gathers one block after the other. */
function createBlockReader(what: string): {
	take(bytes: Uint8Array): { taken: number; raw: Uint8Array | undefined };
} {
	const head = new Uint8Array(HEAD_BYTES);
	const announced = new DataView(head.buffer);
	let coded: Uint8Array | undefined;
	let filled = 0;
	return {
		take(bytes) {
			const into = coded ?? head;
			const taken = Math.min(bytes.byteLength, into.byteLength - filled);
			into.set(bytes.subarray(0, taken), filled);
			filled += taken;
			if (filled < into.byteLength) return { taken, raw: undefined };
			filled = 0;
			const [rawBytes, codedBytes] = [announced.getUint32(0, true), announced.getUint32(4, true)];
			if (coded === undefined) {
				if (rawBytes === 0 || rawBytes > BLOCK_BYTES || codedBytes === 0 || codedBytes > rawBytes)
					throw badBlock(what, `a block of ${codedBytes} bytes says that it is ${rawBytes}`);
				coded = new Uint8Array(codedBytes);
				return { taken, raw: undefined };
			}
			const whole = coded;
			coded = undefined;
			return { taken, raw: codedBytes === rawBytes ? whole : inflated(whole, rawBytes, what) };
		},
	};
}

function inflated(coded: Uint8Array, rawBytes: number, what: string): Uint8Array {
	let raw: Uint8Array;
	try {
		raw = zstdDecompressSync(coded, { maxOutputLength: rawBytes });
	} catch (error) {
		throw badBlock(what, `a block is not what ${rawBytes} bytes were compressed to`, error);
	}
	if (raw.byteLength === rawBytes) return raw;
	throw badBlock(what, `a block announced ${rawBytes} bytes and has ${raw.byteLength}`);
}

function framed(rawBytes: number, bytes: Uint8Array): Uint8Array {
	const block = new Uint8Array(HEAD_BYTES + bytes.byteLength);
	const head = new DataView(block.buffer);
	head.setUint32(0, rawBytes, true);
	head.setUint32(4, bytes.byteLength, true);
	block.set(bytes, HEAD_BYTES);
	return block;
}

/** Another try, without compression, may bring it. */
function badBlock(what: string, problem: string, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `What came of ${what} is compressed wrongly: ${problem}.`, {
		reason: "bad_compression",
		retryable: true,
		cause,
	});
}
