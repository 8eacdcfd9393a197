/**
 * One thread's share of a load or a verification. Two page-locked buffers, each with a lane of its own: while the device
 * copies from one, the other is filled from the file, so that reading and copying go on at the same time.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import type { StreamingXxh64 } from "../../../platform/hash.ts";
import type { DeviceDriver, HostBuffer, Lane } from "./driver.ts";
import type { BadPart } from "./messages.ts";
import { type PlacedFile, type Share, shareOf } from "./pieces.ts";

export interface CopyJob {
	kind: "load" | "verify";
	files: readonly PlacedFile[];
	share: SharedArrayBuffer;
	/** Past the page cache, where the filesystem can. */
	direct: boolean;
}

export interface CopyResult {
	bad: BadPart[];
	/** Whether files were read past the page cache. */
	isDirect: boolean;
}

/** A file that cannot be read, or ends too early. */
export class FileTrouble extends Error {
	readonly code: string | undefined;

	constructor(message: string, code: string | undefined, cause?: unknown) {
		super(message, { cause });
		this.name = "FileTrouble";
		this.code = code;
	}
}

export class Cancelled extends Error {}

export interface Copier {
	/** @throws Cancelled, FileTrouble, DeviceError; nothing is copied any more when it has returned or thrown */
	run(job: CopyJob): CopyResult;
}

/** Of each of the two buffers; a multiple of every filesystem's block. */
const BUFFER_BYTES = 16 * 1024 * 1024;

export function createCopier({
	driver,
	newXxh64,
	onBytes,
}: {
	driver: DeviceDriver;
	newXxh64: () => StreamingXxh64;
	onBytes: (bytes: number) => void;
}): Copier {
	const halves: { buffer: HostBuffer; lane: Lane }[] = [0, 1].map(() => ({
		buffer: driver.allocateHost(BUFFER_BYTES),
		lane: driver.createLane(),
	}));
	const half = (turn: number): { buffer: HostBuffer; lane: Lane } => {
		const one = halves[turn % halves.length];
		if (one === undefined) throw new Error("there are two halves");
		return one;
	};
	let turn = 0;

	const load = (share: Share, files: readonly PlacedFile[], readers: Readers): void => {
		for (let piece = share.next(); piece !== undefined; piece = share.next()) {
			const file = fileAt(files, piece.file);
			const { start, end } = rangeOf(file, piece.part);
			for (let at = start; at < end; at += BUFFER_BYTES) {
				if (share.isCancelled()) throw new Cancelled();
				const { buffer, lane } = half(turn++);
				// What it held last is on the device before it is filled again.
				lane.wait();
				const bytes = Math.min(BUFFER_BYTES, end - at);
				readers.fill(file, buffer.bytes, bytes, at);
				lane.copyIn(file.address + at, buffer.address, bytes);
				onBytes(bytes);
			}
		}
	};
	/** The next block is on its way while the one before it is hashed. */
	const verify = (share: Share, files: readonly PlacedFile[]): BadPart[] => {
		const bad: BadPart[] = [];
		for (let piece = share.next(); piece !== undefined; piece = share.next()) {
			const file = fileAt(files, piece.file);
			const { start, end } = rangeOf(file, piece.part);
			const hash = newXxh64();
			const ask = (at: number): { buffer: HostBuffer; lane: Lane; bytes: number } => {
				const { buffer, lane } = half(turn++);
				const bytes = Math.min(BUFFER_BYTES, end - at);
				lane.copyOut(buffer.address, file.address + at, bytes);
				return { buffer, lane, bytes };
			};
			let asked = ask(start);
			for (let at = start; at < end; at += BUFFER_BYTES) {
				if (share.isCancelled()) throw new Cancelled();
				const { buffer, lane, bytes } = asked;
				if (at + BUFFER_BYTES < end) asked = ask(at + BUFFER_BYTES);
				lane.wait();
				hash.update(buffer.bytes.subarray(0, bytes));
				onBytes(bytes);
			}
			if (hash.digestHex() !== file.xxh64[piece.part]) bad.push({ file: piece.file, part: piece.part });
		}
		return bad;
	};
	return {
		run({ kind, files, share: memory, direct }) {
			const share = shareOf(memory, files);
			const readers = createReaders(direct);
			try {
				const bad = kind === "verify" ? verify(share, files) : [];
				if (kind === "load") load(share, files, readers);
				return { bad, isDirect: readers.isDirect() };
			} finally {
				readers.close();
				// Whoever frees the memory next must not free it under a copy.
				for (const { lane } of halves) lane.wait();
			}
		},
	};
}

interface Readers {
	/** @throws FileTrouble */
	fill(file: PlacedFile, into: Uint8Array, bytes: number, position: number): void;
	isDirect(): boolean;
	close(): void;
}

/** Blocks that O_DIRECT reads in; more than any filesystem asks for. */
const DIRECT_BLOCK_BYTES = 4096;

/** Keeps the file open that was read last: parts come in order, mostly. */
function createReaders(direct: boolean): Readers {
	let open: { path: string; fd: number; isDirect: boolean } | undefined;
	let wasDirect = false;
	const close = (): void => {
		if (open !== undefined) closeSync(open.fd);
		open = undefined;
	};
	const openFile = (path: string, isDirect: boolean): { fd: number; isDirect: boolean } => {
		const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
		try {
			if (isDirect) return { fd: openSync(path, flags | constants.O_DIRECT), isDirect };
		} catch (error) {
			// The filesystem has no such thing (a tmpfs of an older kernel, some network filesystems).
			if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
		}
		return { fd: openSync(path, flags), isDirect: false };
	};
	const readAt = (path: string, into: Uint8Array, position: number, isDirect: boolean): number => {
		if (open?.path !== path || (open.isDirect && !isDirect)) {
			close();
			open = { path, ...openFile(path, isDirect) };
		}
		try {
			const wanted = open.isDirect ? alignedUp(into.byteLength) : into.byteLength;
			const count = readSync(
				open.fd,
				new Uint8Array(into.buffer, into.byteOffset, wanted),
				0,
				wanted,
				position,
			);
			wasDirect ||= open.isDirect;
			return Math.min(count, into.byteLength);
		} catch (error) {
			if (!open.isDirect || (error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
			return readAt(path, into, position, false);
		}
	};
	return {
		close,
		isDirect: () => wasDirect,
		fill({ path }, into, bytes, position) {
			try {
				for (let done = 0; done < bytes; ) {
					// A short answer leaves a place that O_DIRECT cannot go on from.
					const isAligned = done % DIRECT_BLOCK_BYTES === 0 && position % DIRECT_BLOCK_BYTES === 0;
					const count = readAt(path, into.subarray(done, bytes), position + done, direct && isAligned);
					if (count === 0)
						throw new FileTrouble(
							`${path} ends at ${position + done}, wanted ${position + bytes} bytes`,
							"SHORT",
						);
					done += count;
				}
			} catch (error) {
				if (error instanceof FileTrouble) throw error;
				const { code } = error as NodeJS.ErrnoException;
				throw new FileTrouble(`reading ${path} failed (${code ?? String(error)})`, code, error);
			}
		},
	};
}

/** Buffers have room for it: their size is a multiple of the block. */
function alignedUp(bytes: number): number {
	return Math.ceil(bytes / DIRECT_BLOCK_BYTES) * DIRECT_BLOCK_BYTES;
}

function rangeOf({ sizeBytes, partSizeBytes }: PlacedFile, part: number): { start: number; end: number } {
	const start = part * partSizeBytes;
	return { start, end: Math.min(start + partSizeBytes, sizeBytes) };
}

function fileAt(files: readonly PlacedFile[], index: number): PlacedFile {
	const file = files[index];
	if (file === undefined) throw new Error(`there is no file ${index}`);
	return file;
}
