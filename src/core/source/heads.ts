/** The first bytes of a model's files: of a source, which is asked for ranges, or of files on this machine. */
import type { IoPool } from "../../platform/io-pool.ts";
import { parseWeightsHeader, type WeightsFormat, type WeightsHeader } from "../../platform/weights-header.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ByteRange, Source, SourceFile } from "./contract.ts";
import { readRange } from "./read-range.ts";

export interface HeadReader {
	paths: readonly string[];
	/** At most so many bytes of the start of a small file; undefined when there is none, or it is empty. */
	text(path: string, mostBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined>;
	/** @throws INVALID_REQUEST when there is no header that can be read */
	header(path: string, format: WeightsFormat, signal: AbortSignal): Promise<WeightsHeader>;
}

/** A file on this machine. */
export interface LocalFile {
	/** As the model has it. */
	path: string;
	/** Absolute. */
	place: string;
	sizeBytes: number;
}

/** Bytes that a header is asked for at once; most end within the first. */
const WINDOW_BYTES: Readonly<Record<WeightsFormat, number>> = {
	safetensors: 64 * 1024,
	gguf: 4 * 1024 * 1024,
};
const MAX_HEADER_READ_BYTES = 48 * 1024 * 1024;

export function sourceHeads(source: Source, files: readonly SourceFile[]): HeadReader {
	const byPath = new Map(files.map((file) => [file.path as string, file]));
	return {
		paths: [...byPath.keys()],
		async text(path, mostBytes, signal) {
			const file = byPath.get(path);
			if (file === undefined || (file.sizeBytes ?? 0) === 0) return undefined;
			return await readRange(
				source,
				file,
				{ start: 0, end: Math.min(file.sizeBytes ?? 0, mostBytes) },
				signal,
			);
		},
		async header(path, format, signal) {
			const file = byPath.get(path);
			if (file === undefined) throw new Error(`${path} is not a file of the source`);
			return await fetchHeader(source, file, format, signal);
		},
	};
}

/** The files are read and parsed by threads of the pool. */
export function localHeads(
	io: Pick<IoPool, "readFiles" | "readHeader">,
	files: readonly LocalFile[],
): HeadReader {
	const byPath = new Map(files.map((file) => [file.path, file]));
	return {
		paths: [...byPath.keys()],
		async text(path, mostBytes, signal) {
			const file = byPath.get(path);
			if (file === undefined || file.sizeBytes === 0) return undefined;
			const sizeBytes = Math.min(file.sizeBytes, mostBytes);
			return await io.readFiles([{ path: file.place, sizeBytes }], signal).catch((error: unknown) => {
				throw unreadable(error, path);
			});
		},
		async header(path, format, signal) {
			const file = byPath.get(path);
			if (file === undefined) throw new Error(`${path} is not one of the files`);
			return await io.readHeader({ path: file.place, format }, signal).catch((error: unknown) => {
				throw unreadable(error, path);
			});
		},
	};
}

/** A file that is gone, shorter than it was or a link tells nothing; what else may be the matter is for the caller. */
function unreadable(error: unknown, path: string): unknown {
	const { code } = error as NodeJS.ErrnoException;
	if (code !== "ENOENT" && code !== "ENOTDIR" && code !== "ELOOP" && code !== "SHORT_FILE") return error;
	return new GswarmError("INVALID_REQUEST", `${path} is not there as a regular file (${code}).`, {
		reason: "unreadable_file",
		cause: error,
	});
}

/** Thrown to the parser's caller: it wants bytes that are not here yet. */
class Wanted extends Error {
	readonly range: ByteRange;

	constructor(range: ByteRange) {
		super("bytes that are not here yet");
		this.range = range;
	}
}

/** The parser reads at once or not at all: what it misses is fetched, and it begins again. */
async function fetchHeader(
	source: Source,
	file: SourceFile,
	format: WeightsFormat,
	signal: AbortSignal,
): Promise<WeightsHeader> {
	const sizeBytes = knownSize(file);
	const windows: { start: number; bytes: Uint8Array }[] = [];
	let totalBytes = 0;
	const reader = {
		name: file.path,
		sizeBytes,
		read(start: number, length: number): Uint8Array {
			const end = start + length;
			const window = windows.find((each) => each.start <= start && each.start + each.bytes.length >= end);
			if (window === undefined) throw new Wanted({ start, end });
			return window.bytes.subarray(start - window.start, end - window.start);
		},
	};
	for (;;) {
		try {
			return parseWeightsHeader(format, reader);
		} catch (error) {
			if (!(error instanceof Wanted)) throw error;
			const { start } = error.range;
			const end = Math.min(sizeBytes, Math.max(error.range.end, start + WINDOW_BYTES[format]));
			totalBytes += end - start;
			if (totalBytes > MAX_HEADER_READ_BYTES) throw tooLong(file.path);
			windows.push({ start, bytes: await readRange(source, file, { start, end }, signal) });
		}
	}
}

function knownSize({ path, sizeBytes }: SourceFile): number {
	if (sizeBytes !== undefined) return sizeBytes;
	throw new GswarmError("INVALID_REQUEST", `the length of ${path} is not known.`, {
		reason: "unknown_length",
	});
}

function tooLong(path: string): GswarmError {
	return new GswarmError(
		"INVALID_REQUEST",
		`the header of ${path} is longer than ${MAX_HEADER_READ_BYTES} bytes.`,
		{ reason: "header_too_long" },
	);
}
