/** The end of an engine's log file, which only ever grows until it is trimmed. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** Most that is read back at once. */
const MAX_TAIL_BYTES = 4 << 20;
const BLOCK_BYTES = 64 << 10;
const NEWLINE = 10;

/** The last `count` whole lines, without a newline at the end; empty when there is no file. */
export function tailLines(path: string, count: number, { fromByte = 0 } = {}): string[] {
	const fd = openOrNothing(path);
	if (fd === undefined) return [];
	try {
		const endByte = fstatSync(fd).size;
		const stopByte = Math.max(fromByte, endByte - MAX_TAIL_BYTES);
		const blocks: Buffer[] = [];
		let startByte = endByte;
		let newlines = 0;
		while (startByte > stopByte && newlines <= count) {
			const block = Buffer.alloc(Math.min(BLOCK_BYTES, startByte - stopByte));
			startByte -= block.length;
			const read = readSync(fd, block, 0, block.length, startByte);
			blocks.unshift(block.subarray(0, read));
			for (const byte of block) if (byte === NEWLINE) newlines++;
		}
		const text = Buffer.concat(blocks).toString("utf8").replace(/\n$/, "");
		return text === "" ? [] : text.split("\n").slice(-count);
	} finally {
		closeSync(fd);
	}
}

/** Whole lines from a byte on, at most 4 MiB; a line that is still being written is left for the next time. */
export function linesFrom(path: string, fromByte: number): { lines: string[]; nextByte: number } {
	const fd = openOrNothing(path);
	if (fd === undefined) return { lines: [], nextByte: fromByte };
	try {
		const { size } = fstatSync(fd);
		// The file was trimmed meanwhile.
		const start = size < fromByte ? 0 : fromByte;
		const bytes = Buffer.alloc(Math.min(MAX_TAIL_BYTES, size - start));
		const read = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, start));
		const end = read.lastIndexOf(NEWLINE) + 1;
		const lines = read.toString("utf8", 0, end).split("\n").slice(0, -1);
		return { lines, nextByte: start + end };
	} finally {
		closeSync(fd);
	}
}

function openOrNothing(path: string): number | undefined {
	try {
		return openSync(path, "r");
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
		throw error;
	}
}
