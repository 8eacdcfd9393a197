/**
 * Unpacks a downloaded tar archive into a fresh directory. It refuses, it never repairs: an entry that is not a
 * regular file or a folder, a name that is not safe or is there twice, sizes over the limits, bytes outside the
 * archive's structure. Then the whole archive fails and the directory is removed.
 * tar-stream parses; what it lets pass is found by tar-structure.ts. Nothing is synced: publishing does that.
 */
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { foldPath, joinSafe, pathProblem, type SafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ArchiveKind } from "./contract.ts";
import { createTarStructure, TAR_BLOCK_BYTES, type TarStructure } from "./tar-structure.ts";

export interface ArchiveLimits {
	maxFiles: number;
	/** Of all contents together, unpacked. */
	maxBytes: number;
}

export interface ArchiveInput {
	/** The downloaded archive. */
	path: string;
	kind: ArchiveKind;
	/** Must not exist; is made with mode 0700, its files with 0600. */
	targetDirectory: string;
	limits: ArchiveLimits;
	signal: AbortSignal;
}

export interface UnpackedArchive {
	/** As they lie below the directory, in the archive's order. */
	files: { path: SafePath; sizeBytes: number }[];
	totalBytes: number;
}

/** A header as tar-stream 3 really gives it: the type is null where it knows none. */
type ReadHeader = Omit<Header, "type" | "pax"> & {
	type: Header["type"] | null;
	byteOffset: number;
	pax: Record<string, string> | null;
};

const READ_BYTES = 256 * 1024;
/** Headers and padding that an entry may need besides its contents. */
const OVERHEAD_BYTES = 4 * TAR_BLOCK_BYTES;
const MARKER_BYTES = 1024 * 1024;

/**
 * A folder that holds all the rest is left out: `tiny/config.json` becomes `config.json`.
 * @throws INVALID_REQUEST unsafe_entry, unsupported_entry, bad_archive; RESOURCE_UNAVAILABLE too_large; errors of the
 * filesystem with their `code`
 */
export async function extractArchive(input: ArchiveInput): Promise<UnpackedArchive> {
	const { targetDirectory, signal } = input;
	await mkdir(targetDirectory, { mode: 0o700 });
	try {
		const unpacked = await unpack(input);
		return await withoutTopFolder(unpacked, targetDirectory);
	} catch (error) {
		await rm(targetDirectory, { recursive: true, force: true });
		signal.throwIfAborted();
		throw asArchiveError(error);
	}
}

async function unpack({
	path,
	kind,
	targetDirectory,
	limits,
	signal,
}: ArchiveInput): Promise<UnpackedArchive> {
	const structure = createTarStructure();
	const entries = extract();
	const failures: unknown[] = [];
	const failed = (error: unknown): void => void failures.push(error);
	// Stays for good: tar-stream reports a cut archive even after its pipeline has ended.
	entries.on("error", failed);
	const mostBytes = limits.maxBytes + limits.maxFiles * OVERHEAD_BYTES + MARKER_BYTES;
	const seen = (bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> =>
		watched(bytes, structure, mostBytes);
	const reading = createReadStream(path, { highWaterMark: READ_BYTES });
	const feeding =
		kind === "tar"
			? pipeline(reading, seen, entries, { signal })
			: pipeline(reading, createGunzip(), seen, entries, { signal });
	const fed = feeding.catch(failed);

	const writer = createWriter(targetDirectory, limits);
	try {
		for await (const entry of entries) {
			const header = entry.header as unknown as ReadHeader;
			refuse(structure.entry(header.byteOffset, header.size));
			await writer.write(entry as AsyncIterable<Uint8Array>, header);
		}
	} catch (error) {
		failed(error);
	}
	await fed;
	if (failures.length > 0) throw firstCause(failures);
	refuse(structure.end());
	return writer.done();
}

/** Our own refusal stops the streams, and they complain about that; what is not ours came first. */
function firstCause(failures: readonly unknown[]): Error {
	const cause = failures.find((failure) => failure instanceof GswarmError) ?? failures[0];
	return cause instanceof Error ? cause : new Error(String(cause));
}

async function* watched(
	bytes: AsyncIterable<Uint8Array>,
	structure: TarStructure,
	mostBytes: number,
): AsyncGenerator<Uint8Array> {
	for await (const block of bytes) {
		refuse(structure.see(block));
		if (structure.totalBytes() > mostBytes) throw tooLarge(`more than ${mostBytes} bytes unpacked`);
		yield block;
	}
}

interface Writer {
	write(contents: AsyncIterable<Uint8Array>, header: ReadHeader): Promise<void>;
	done(): UnpackedArchive;
}

function createWriter(directory: string, limits: ArchiveLimits): Writer {
	const files: UnpackedArchive["files"] = [];
	/** Case-folded path → what is there. */
	const known = new Map<string, "file" | "folder">();
	let totalBytes = 0;

	const makeFolders = async (path: string): Promise<void> => {
		const segments = path.split("/");
		for (let depth = 1; depth <= segments.length; depth++) {
			const folder = segments.slice(0, depth).join("/");
			const there = known.get(foldPath(folder));
			if (there === "file") throw twice(folder);
			await mkdir(join(directory, folder), { mode: 0o700, recursive: there === "folder" });
			known.set(foldPath(folder), "folder");
		}
	};
	return {
		async write(contents, header) {
			const sizeBytes = checkEntry(header);
			const name = header.name.replace(/^\.\//, "").replace(/\/$/, "");
			if (header.type === "directory" && (name === "" || name === ".")) return;
			const path = checkName(name);
			if (known.size + 1 > limits.maxFiles) throw tooLarge(`more than ${limits.maxFiles} entries`);
			totalBytes += sizeBytes;
			if (totalBytes > limits.maxBytes) throw tooLarge(`more than ${limits.maxBytes} bytes of contents`);
			if (header.type === "directory") return await makeFolders(path);
			if (path.includes("/")) await makeFolders(dirname(path));
			if (known.has(foldPath(path))) throw twice(path);
			known.set(foldPath(path), "file");
			files.push({ path, sizeBytes });
			const written = await writeFile(joinSafe(directory, path), contents);
			if (written !== sizeBytes) throw problem("bad_archive", `${path} has ${written} of ${sizeBytes} bytes`);
		},
		done: () => ({ files, totalBytes }),
	};
}

/** @returns the size of the contents */
function checkEntry({ type, size, name, pax }: ReadHeader): number {
	const isSparse = Object.keys(pax ?? {}).some((key) => key.startsWith("GNU.sparse."));
	if ((type !== "file" && type !== "directory") || isSparse) {
		const kind = isSparse ? "sparse file" : (type ?? "unknown entry");
		throw problem("unsupported_entry", `${shown(name)} is a ${kind}; only files and folders are unpacked`);
	}
	if (!Number.isSafeInteger(size) || size < 0 || (type === "directory" && size > 0)) {
		throw problem("bad_archive", `${shown(name)} claims ${size} bytes`);
	}
	return size;
}

function checkName(name: string): SafePath {
	// A replacement character stands for bytes that were no UTF-8: the real name is lost.
	const wrong = pathProblem(name) ?? (name.includes("\uFFFD") ? "it is not UTF-8" : undefined);
	if (wrong !== undefined) throw problem("unsafe_entry", `the name ${shown(name)} is not safe: ${wrong}`);
	return name as SafePath; // checked in the line above
}

async function writeFile(path: string, contents: AsyncIterable<Uint8Array>): Promise<number> {
	const handle = await open(path, "wx", 0o600);
	try {
		let at = 0;
		for await (const block of contents) at += await writeAll(handle, block, at);
		return at;
	} finally {
		await handle.close();
	}
}

/** A write may take less than it was given. */
async function writeAll(handle: FileHandle, block: Uint8Array, at: number): Promise<number> {
	for (let done = 0; done < block.byteLength; ) {
		const { bytesWritten } = await handle.write(block, done, block.byteLength - done, at + done);
		done += bytesWritten;
	}
	return block.byteLength;
}

async function withoutTopFolder(unpacked: UnpackedArchive, directory: string): Promise<UnpackedArchive> {
	const [top, ...others] = await readdir(directory, { withFileTypes: true });
	if (top === undefined || others.length > 0 || !top.isDirectory()) return unpacked;
	const outer = `${directory}.outer`;
	await rename(directory, outer);
	await rename(join(outer, top.name), directory);
	await rmdir(outer);
	return {
		...unpacked,
		files: unpacked.files.map(({ path, sizeBytes }) => ({
			path: path.slice(top.name.length + 1) as SafePath, // the end of a safe path is one
			sizeBytes,
		})),
	};
}

function refuse(found: { reason: string; message: string } | undefined): void {
	if (found !== undefined) throw problem(found.reason, found.message);
}

function problem(reason: string, what: string, cause?: unknown): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The archive was not unpacked: ${what}.`, { reason, cause });
}

function twice(path: string): GswarmError {
	return problem("unsafe_entry", `${shown(path)} is there twice (small and capital letters are alike)`);
}

function tooLarge(what: string): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `The archive was not unpacked: it has ${what}.`, {
		reason: "too_large",
		status: 507,
	});
}

function shown(name: string): string {
	return JSON.stringify(name.slice(0, 120));
}

/** Errors of the parser and of gunzip mean a bad archive; those of the filesystem stay what they are. */
function asArchiveError(error: unknown): unknown {
	if (error instanceof GswarmError || !(error instanceof Error) || "syscall" in error) return error;
	return problem("bad_archive", error.message.replace(/\.$/, ""), error);
}
