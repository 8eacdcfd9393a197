/**
 * Bytes of a stream on their way into a staged file: gathered in one of two buffers, hashed per part, written while
 * the other buffer fills. Memory is two buffers per stream, whatever the size of a part.
 */
import { fileError, syncData, writeAt } from "../../platform/durable-file.ts";
import type { StreamingXxh64 } from "../../platform/hash.ts";

export const BUFFER_BYTES = 1024 * 1024;

/** Two buffers that a stream uses one request after the other. */
export type LaneBuffers = [Uint8Array, Uint8Array];

export function newLaneBuffers(): LaneBuffers {
	return [new Uint8Array(BUFFER_BYTES), new Uint8Array(BUFFER_BYTES)];
}

export interface RangeWriterInput {
	fd: number;
	/** Names the file in errors. */
	name: string;
	start: number;
	/** Undefined: until the stream ends. */
	end: number | undefined;
	/** 0: the file has no parts. */
	partSizeBytes: number;
	newXxh64: () => StreamingXxh64;
	buffers: LaneBuffers;
	/** Called after the part's bytes are in the file. */
	onPart: (part: number, xxh64: string) => Promise<void>;
	/** Asked after each written buffer; true: bring the file's bytes to the device now. */
	shouldSync: (bytes: number) => boolean;
}

export interface RangeWriter {
	/** Where the next byte belongs. */
	position(): number;
	/** Takes at most the bytes up to the end of the range; returns how many those were. */
	write(bytes: Uint8Array): Promise<number>;
	/** All bytes so far are in the file. */
	drain(): Promise<void>;
}

export function createRangeWriter(input: RangeWriterInput): RangeWriter {
	const { fd, name, partSizeBytes, newXxh64, buffers } = input;
	const end = input.end ?? Number.MAX_SAFE_INTEGER;
	let position = input.start;
	let [filling, other] = buffers;
	let filled = 0;
	let writing: Promise<void> = Promise.resolve();
	let hash = newXxh64();

	const put = async (bytes: Uint8Array, at: number): Promise<void> => {
		try {
			await writeAt(fd, bytes, at);
			if (input.shouldSync(bytes.byteLength)) await syncData(fd);
		} catch (error) {
			throw fileError(error, `Writing ${name}`);
		}
	};
	const flush = async (): Promise<void> => {
		await writing;
		if (filled === 0) return;
		writing = put(filling.subarray(0, filled), position - filled);
		// Its failure is seen by whoever waits next; until then it must not count as unhandled.
		writing.catch(() => {});
		[filling, other] = [other, filling];
		filled = 0;
	};
	const drain = async (): Promise<void> => {
		await flush();
		await writing;
	};
	const endPart = async (): Promise<void> => {
		await drain();
		const part = Math.ceil(position / partSizeBytes) - 1;
		const digest = hash.digestHex();
		hash = newXxh64();
		await input.onPart(part, digest);
	};
	return {
		position: () => position,
		drain,
		async write(bytes) {
			let at = 0;
			while (at < bytes.byteLength && position < end) {
				const partEnd =
					partSizeBytes === 0 ? end : (Math.floor(position / partSizeBytes) + 1) * partSizeBytes;
				const count = Math.min(
					bytes.byteLength - at,
					BUFFER_BYTES - filled,
					Math.min(partEnd, end) - position,
				);
				const block = bytes.subarray(at, at + count);
				filling.set(block, filled);
				if (partSizeBytes !== 0) hash.update(block);
				at += count;
				filled += count;
				position += count;
				if (filled === BUFFER_BYTES) await flush();
				if (partSizeBytes !== 0 && (position === partEnd || position === end)) await endPart();
			}
			return at;
		},
	};
}
