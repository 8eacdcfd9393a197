/**
 * What must hold between the entries of a tar stream (POSIX pax, ustar) and what tar-stream does not look at:
 * entries follow each other without a gap, extended headers are short, two zero blocks end the archive, and nothing
 * stands behind them. It sees the bytes on their way to the parser, and hears from the parser where entries are.
 */

export const TAR_BLOCK_BYTES = 512;
/** Names are at most 1 KiB; the rest is room for other records of pax. */
const MAX_EXTENDED_BYTES = 64 * 1024;
/**
 * How far the bytes may be ahead of the last entry's end: far more than the buffers between hold, and little enough
 * that neither endless headers nor an endless tail keeps anybody busy.
 */
const MAX_AHEAD_BYTES = 32 * 1024 * 1024;

export interface StructureProblem {
	reason: "bad_archive" | "unsupported_entry";
	message: string;
}

export interface TarStructure {
	/** Every byte of the archive, in order, before the parser gets it. */
	see(bytes: Uint8Array): StructureProblem | undefined;
	/** The parser came to an entry whose contents begin at `offset`. */
	entry(offset: number, sizeBytes: number): StructureProblem | undefined;
	/** The parser has read all bytes. */
	end(): StructureProblem | undefined;
	/** How many bytes were seen. */
	totalBytes(): number;
}

export function createTarStructure(): TarStructure {
	let total = 0;
	/** Where the entry that the parser is at ends, and the next header or the end marker begins. */
	let expected = 0;
	/** Offsets of zero blocks from `expected` on. */
	const zeroBlocks = new Set<number>();
	let blockIsZero = true;

	const seeBlockPart = (part: Uint8Array): void => {
		if (total % TAR_BLOCK_BYTES === 0) blockIsZero = true;
		blockIsZero &&= part.every((byte) => byte === 0);
		total += part.byteLength;
		if (blockIsZero && total % TAR_BLOCK_BYTES === 0) zeroBlocks.add(total - TAR_BLOCK_BYTES);
	};
	return {
		see(bytes) {
			for (let at = 0; at < bytes.byteLength; ) {
				const inEntry = Math.max(0, expected - total);
				const length = inEntry > 0 ? inEntry : TAR_BLOCK_BYTES - (total % TAR_BLOCK_BYTES);
				const part = bytes.subarray(at, at + length);
				if (inEntry > 0) total += part.byteLength;
				else seeBlockPart(part);
				at += part.byteLength;
				if (total - expected > MAX_AHEAD_BYTES) {
					return { reason: "bad_archive", message: "it has more than 32 MiB that belong to no entry" };
				}
			}
			return undefined;
		},
		entry(offset, sizeBytes) {
			if (zeroBlocks.has(expected)) {
				return { reason: "bad_archive", message: "an entry stands behind the end of the archive" };
			}
			if (offset - TAR_BLOCK_BYTES - expected > MAX_EXTENDED_BYTES) {
				return { reason: "unsupported_entry", message: "an entry has more than 64 KiB of extended headers" };
			}
			expected = offset + Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
			for (const block of zeroBlocks) if (block < expected) zeroBlocks.delete(block);
			return undefined;
		},
		end() {
			if (expected === 0) return { reason: "bad_archive", message: "the archive has no entries" };
			if (!zeroBlocks.has(expected) || !zeroBlocks.has(expected + TAR_BLOCK_BYTES)) {
				return { reason: "bad_archive", message: "the archive has no end marker; it may have been cut off" };
			}
			return undefined;
		},
		totalBytes: () => total,
	};
}
