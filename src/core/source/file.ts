/**
 * Import folders: directories that the agent's configuration names, so that callers may say file:///… for what is in
 * them and for nothing else. Symlinks count as what they lead to, which must be inside the folder too: the snapshots
 * of a Hugging Face cache are relative links to its blobs. There is no digest but the one in such a blob's name.
 */
import type { Stats } from "node:fs";
import { type FileHandle, lstat, readdir, realpath } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import { sha256Hex } from "../../platform/hash.ts";
import { parseSafePath, type SafePath } from "../../platform/safe-path.ts";
import { GswarmError, invalid, notFound } from "../../schema/errors.ts";
import { parseRevision } from "../../schema/names.ts";
import { sourceChanged } from "./answer.ts";
import { isInside, openBeneath } from "../../platform/beneath.ts";
import type { ByteRange, Source, SourceDigest } from "./contract.ts";
import { describeFiles, MAX_FILES } from "./description.ts";
import { matchesPattern } from "./fnmatch.ts";
import { archiveKind, type FileUri, formatSourceUri, suggestedName } from "./source-uri.ts";

export interface ImportFolders {
	/** Absolute paths. */
	importDirectories: readonly string[];
	include?: readonly string[] | undefined;
	exclude?: readonly string[] | undefined;
}

/** A file as it was when it was described. */
interface FoundFile {
	path: SafePath;
	/** Resolved. */
	realPath: string;
	stats: Stats;
}

const BLOCK_BYTES = 1024 * 1024;
const MAX_DEPTH = 32;

export function createFileSource(uri: FileUri, options: ImportFolders): Source {
	let root: string | undefined;
	let files = new Map<string, FoundFile>();

	return {
		async describe(signal) {
			const folder = await realpath(importFolderOf(uri, options.importDirectories));
			const target = await resolveInside(folder, uri.path);
			const isFolder = (await lstat(target)).isDirectory();
			// Names are those that the caller sees; what they lead to is resolved file by file.
			const base = isFolder ? target : join(await realpath(dirname(uri.path)), basename(uri.path));
			const found = isFolder
				? await walk(folder, base, signal)
				: [await findFile(folder, dirname(base), base)];
			const chosen = found.filter(({ path }) => isWanted(path, options));
			root = folder;
			files = new Map(chosen.map((file) => [file.path, file]));
			return describeFiles({
				uri: formatSourceUri(uri),
				revision: revisionOf(chosen),
				suggestedName: suggestedName(uri),
				archive: isFolder ? undefined : archiveKind(base),
				files: chosen.map(({ path, realPath, stats }) => ({
					path,
					sizeBytes: stats.size,
					digest: digestOfBlob(realPath),
					rangeable: true,
					parts: undefined,
				})),
			});
		},
		async read(file, range, signal) {
			const found = files.get(file.path);
			if (root === undefined || found === undefined) throw notFound("file", file.path);
			const handle = await openBeneath(root, found.realPath);
			try {
				const now = await handle.stat();
				if (identity(now) !== identity(found.stats)) {
					throw sourceChanged(`file ${file.path}`, "what was described", "another or changed file");
				}
				signal.throwIfAborted();
				return streamOf(handle, range ?? { start: 0, end: found.stats.size }, signal);
			} catch (error) {
				await handle.close();
				throw error;
			}
		},
	};
}

/**
 * The import folder that the path is in by its name; the answer for any other path does not tell whether it exists.
 * @throws INVALID_REQUEST scheme_not_allowed
 */
export function importFolderOf(
	uri: FileUri,
	folders: readonly string[],
	allowed = "file: sources are allowed only",
): string {
	for (const folder of folders) {
		if (isInside(folder.replace(/\/+$/, "") || "/", uri.path)) return folder;
	}
	throw invalid(
		"scheme_not_allowed",
		folders.length === 0
			? `${allowed} in import folders, and this agent has none.`
			: `${allowed} in the agent's import folders; this path is in none of them.`,
		{ scheme: "file" },
		"Import folders are named in the agent's configuration: `import_folders: [/srv/models]` in config.yaml of its data directory.",
	);
}

async function resolveInside(folder: string, path: string): Promise<string> {
	let target: string;
	try {
		target = await realpath(path);
	} catch (cause) {
		throw new GswarmError("NOT_FOUND", `${path} cannot be read.`, {
			reason: "file_not_found",
			cause,
		});
	}
	if (isInside(folder, target)) return target;
	throw new GswarmError("FORBIDDEN", `${path} leads out of its import folder.`, {
		reason: "outside_import_folder",
	});
}

async function walk(folder: string, base: string, signal: AbortSignal): Promise<FoundFile[]> {
	const found: FoundFile[] = [];
	const queue = [base];
	for (let directory = queue.pop(); directory !== undefined; directory = queue.pop()) {
		signal.throwIfAborted();
		const entries = await readdir(directory, { withFileTypes: true });
		for (const entry of entries) {
			const path = join(directory, entry.name);
			if (entry.isDirectory()) queue.push(path);
			else found.push(await findFile(folder, base, path));
		}
		const depth = relative(base, directory).split(sep).length;
		if (found.length + queue.length > MAX_FILES || depth > MAX_DEPTH) {
			throw invalid("too_many_files", `${base} has more than ${MAX_FILES} files or ${MAX_DEPTH} levels.`);
		}
	}
	return found;
}

/** @throws INVALID_REQUEST unsupported_entry, unsafe_filename; FORBIDDEN outside_import_folder */
async function findFile(folder: string, base: string, path: string): Promise<FoundFile> {
	const safePath = parseSafePath(relative(base, path).split(sep).join("/"));
	const realPath = await resolveInside(folder, path);
	const handle = await openRegular(folder, realPath, safePath);
	try {
		return { path: safePath, realPath, stats: await handle.stat() };
	} finally {
		await handle.close();
	}
}

async function openRegular(folder: string, realPath: string, path: string): Promise<FileHandle> {
	// Opening a device can do things; look first, and look again at what was opened.
	const refuse = (): GswarmError => invalid("unsupported_entry", `${path} is not a regular file.`, { path });
	if (!(await lstat(realPath)).isFile()) throw refuse();
	const handle = await openBeneath(folder, realPath);
	if ((await handle.stat()).isFile()) return handle;
	await handle.close();
	throw refuse();
}

function isWanted(path: string, { include = [], exclude = [] }: ImportFolders): boolean {
	const matches = (patterns: readonly string[]): boolean =>
		patterns.some((pattern) => matchesPattern(path, pattern));
	return (include.length === 0 || matches(include)) && !matches(exclude);
}

function identity({ dev, ino, size, mtimeMs }: Stats): string {
	return `${dev} ${ino} ${size} ${mtimeMs}`;
}

function revisionOf(files: readonly FoundFile[]): ReturnType<typeof parseRevision> {
	const rows = files.map(({ path, stats }) => `${identity(stats)} ${path}`).sort();
	return parseRevision(`file-${sha256Hex(rows.join("\n")).slice(0, 40)}`);
}

/** Blobs of a Hugging Face cache are named by their hash. */
function digestOfBlob(realPath: string): SourceDigest | undefined {
	const [, hex = ""] = /\/models--[^/]+\/blobs\/([0-9a-f]+)$/.exec(realPath) ?? [];
	if (hex.length === 64) return { algorithm: "sha256", hex };
	return hex.length === 40 ? { algorithm: "git-sha1", hex } : undefined;
}

/** Reads on demand, a block at a time; closes the file at the end, on cancel and on abort. */
function streamOf(
	handle: FileHandle,
	{ start, end }: ByteRange,
	signal: AbortSignal,
): ReadableStream<Uint8Array> {
	let at = start;
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				try {
					signal.throwIfAborted();
					const block = new Uint8Array(Math.min(BLOCK_BYTES, end - at));
					const { bytesRead } =
						block.length === 0 ? { bytesRead: 0 } : await handle.read(block, 0, block.length, at);
					at += bytesRead;
					if (bytesRead > 0) controller.enqueue(block.subarray(0, bytesRead));
					if (bytesRead > 0 && at < end) return;
					await handle.close();
					controller.close();
				} catch (error) {
					await handle.close();
					throw error;
				}
			},
			cancel: () => handle.close(),
		},
		{ highWaterMark: 0 },
	);
}
