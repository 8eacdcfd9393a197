/** The files of a staged or published model against its manifest, and their way to the device. */
import { type Dirent, lstatSync, readdirSync } from "node:fs";
import { chmod, lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { syncPath } from "../../platform/durable-file.ts";
import { joinSafe, parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import { DIRECTORY_MODE, FILE_MODE } from "./tier-root.ts";

const SYNCS_AT_ONCE = 8;
/** Fewer are synced one by one: whatever else waits on the filesystem is not waited for. */
export const MANY_FILES = 64;
/** Files looked at before others have their turn. */
const FILES_AT_ONCE = 256;
const MODE_BITS = 0o7777;
/** Of st_blocks, whatever the filesystem's own are (POSIX). */
const BLOCK_BYTES = 512;

interface Tree {
	/** By relative path. */
	files: Map<string, { sizeBytes: number; mode: number; names: number }>;
	/** Absolute, parents before children, the root first. */
	directories: string[];
}

/**
 * Exactly the manifest's files must be there, regular, with its sizes; a file more would be published unverified.
 * @throws INTERNAL_ERROR staging_differs naming the first difference
 */
export async function checkTree(root: string, manifest: Manifest): Promise<Tree> {
	const tree = await readTree(root, manifest.files.length);
	for (const { path, size_bytes: size } of manifest.files) {
		const found = tree.files.get(path)?.sizeBytes;
		if (found !== size) throw differs(`${path} has ${found ?? "no"} bytes, wanted ${size}`);
	}
	if (tree.files.size > manifest.files.length) {
		const known = new Set(manifest.files.map((file) => file.path));
		const extra = [...tree.files.keys()].find((path) => !known.has(path));
		throw differs(`${JSON.stringify(extra)} is not in the manifest`);
	}
	return tree;
}

/**
 * Gives everything our modes and, on a durable tier, brings files and directories to the device: many files by one
 * sync of their filesystem, which `syncFilesystem` answers with false where it cannot be had.
 */
export async function settleTree(
	root: string,
	tree: Tree,
	{ durable, syncFilesystem }: { durable: boolean; syncFilesystem: (directory: string) => Promise<boolean> },
): Promise<void> {
	const files = [...tree.files];
	for (const [path, { mode, names }] of files) {
		// One that has another name has our mode already, or an owner who chose another.
		if (mode !== FILE_MODE && names === 1) await chmod(joinSafe(root, parseSafePath(path)), FILE_MODE);
	}
	for (const directory of tree.directories.toReversed()) await chmod(directory, DIRECTORY_MODE);
	if (!durable) return;
	if (files.length >= MANY_FILES && (await syncFilesystem(root))) return;
	const paths = files.values();
	const lane = async (): Promise<void> => {
		for (const [path] of paths) await syncPath(joinSafe(root, parseSafePath(path)));
	};
	await Promise.all(Array.from({ length: SYNCS_AT_ONCE }, lane));
	for (const directory of tree.directories.toReversed()) await syncPath(directory);
}

/** Whether the published files are there with their sizes; cheap enough for every start. */
export function sizesMatch(root: string, manifest: Manifest): boolean {
	return manifest.files.every((file) => {
		const info = lstatSync(joinSafe(root, parseSafePath(file.path)), { throwIfNoEntry: false });
		return info?.isFile() === true && info.size === file.size_bytes;
	});
}

/** The same, and no file was written to since it was published (seconds since the epoch). */
export function isUnchanged(root: string, manifest: Manifest, readyAt: number): boolean {
	return manifest.files.every((file) => {
		const info = lstatSync(joinSafe(root, parseSafePath(file.path)), { throwIfNoEntry: false });
		return info?.isFile() === true && info.size === file.size_bytes && info.mtimeMs <= readyAt * 1000;
	});
}

/** Bytes that go when the directory goes; a file with another name elsewhere keeps its bytes. */
export async function treeBytes(root: string): Promise<number> {
	let bytes = 0;
	for (const entry of await readdir(root, { withFileTypes: true })) {
		const path = join(root, entry.name);
		if (entry.isDirectory()) bytes += await treeBytes(path);
		else {
			const info = await lstat(path);
			if (info.nlink === 1) bytes += info.size;
		}
	}
	return bytes;
}

/**
 * What the files below a directory take on their filesystem; holes in them take nothing, and neither does what comes or
 * goes meanwhile.
 */
export function allocatedBytes(root: string): number {
	let bytes = 0;
	for (const entry of entriesOf(root)) {
		const path = join(root, entry.name);
		if (entry.isDirectory()) bytes += allocatedBytes(path);
		else bytes += (lstatSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_BYTES;
	}
	return bytes;
}

function entriesOf(directory: string): Dirent[] {
	try {
		return readdirSync(directory, { withFileTypes: true });
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw error;
	}
}

async function readTree(root: string, expectedFiles: number): Promise<Tree> {
	const tree: Tree = { files: new Map(), directories: [] };
	const walk = async (directory: string, prefix: string): Promise<void> => {
		tree.directories.push(directory);
		for (const entry of await readdir(directory, { withFileTypes: true })) {
			const path = `${prefix}${entry.name}`;
			if (entry.isDirectory()) await walk(join(directory, entry.name), `${path}/`);
			else if (!entry.isFile()) throw differs(`${JSON.stringify(path)} is neither a file nor a folder`);
			else {
				const place = join(directory, entry.name);
				const info = tree.files.size % FILES_AT_ONCE === 0 ? await lstat(place) : lstatSync(place);
				tree.files.set(path, { sizeBytes: info.size, mode: info.mode & MODE_BITS, names: info.nlink });
			}
			// One more than wanted is enough to refuse it.
			if (tree.files.size > expectedFiles) return;
		}
	};
	await walk(root, "");
	return tree;
}

function differs(problem: string): GswarmError {
	return new GswarmError("INTERNAL_ERROR", `The staged model is not what its manifest says: ${problem}.`, {
		reason: "staging_differs",
	});
}
