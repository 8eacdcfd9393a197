/** Whether a part goes out compressed: the sender finds out on a sample of it. */
import type { Clock } from "../../platform/clock.ts";
import { compressedBlocks, compressedSize } from "../../platform/zstd-blocks.ts";
import type { AcceptedCoding } from "../../schema/compression.ts";

export interface Sampled {
	bytes: number;
	compressedBytes: number;
	/** What compressing it took. */
	ms: number;
}

const SAMPLE_BYTES = 64 * 1024;
/** A smaller part is on its way before it is looked at. */
const SMALLEST_BYTES = 64 * 1024;
/** Nothing compresses at such a rate: no sample is taken. */
const FASTEST_BYTES_PER_SECOND = 1_500_000_000;
/** It has to become at least so much smaller. */
const WORTH = 0.9;
/**
 * Where the processors have no time left: what a byte costs on its way over the line (TLS, sockets), at both ends, is
 * then saved first where so much of them goes.
 */
const WORTH_WHEN_BUSY = 0.7;
/** A line that is nearly as fast as compressing gains nothing: the machine has other work, too. */
const MARGIN = 0.7;

/**
 * Only what shrinks, on a busy machine only what shrinks well, and only over a line that is slower than compressing is;
 * one of an unknown rate is what is asked for, whatever else there is to do.
 */
export function isWorthCompressing(
	sample: Sampled,
	{ rateBytesPerSecond: rate }: AcceptedCoding,
	isBusy: boolean,
): boolean {
	const worth = isBusy && rate !== undefined ? WORTH_WHEN_BUSY : WORTH;
	if (sample.compressedBytes > sample.bytes * worth) return false;
	return rate === undefined || rate < (sample.bytes / Math.max(sample.ms, 0.001)) * 1000 * MARGIN;
}

/** The part as blocks, where that is worth it; undefined: it goes as it is. */
export async function compressedPart(
	{ clock, isBusy }: { clock: Clock; isBusy: () => boolean },
	part: Blob,
	accepted: AcceptedCoding | undefined,
): Promise<ReadableStream<Uint8Array> | undefined> {
	if (accepted === undefined || part.size < SMALLEST_BYTES) return undefined;
	if ((accepted.rateBytesPerSecond ?? 0) > FASTEST_BYTES_PER_SECOND) return undefined;
	return isWorthCompressing(await sampled(clock, part), accepted, isBusy())
		? compressedBlocks(part)
		: undefined;
}

/** Of its beginning and of its middle: headers say little about weights. */
async function sampled(clock: Clock, part: Blob): Promise<Sampled> {
	const sample: Sampled = { bytes: 0, compressedBytes: 0, ms: 0 };
	for (const start of [0, Math.floor(part.size / 2)]) {
		const bytes = new Uint8Array(await part.slice(start, start + SAMPLE_BYTES).arrayBuffer());
		const startedMs = clock.monotonicMs();
		sample.compressedBytes += compressedSize(bytes);
		sample.ms += clock.monotonicMs() - startedMs;
		sample.bytes += bytes.byteLength;
	}
	return sample;
}
