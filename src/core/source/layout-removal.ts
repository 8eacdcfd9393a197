/**
 * Removing a model from where another program put it: its own files, and of what that program shares between models
 * only what no other of them uses. A link is removed and never followed; of a directory only an empty one goes.
 */
import { readdir, readlink } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { rmdirBeneath, unlinkBeneath } from "../../platform/beneath.ts";
import { blobOf, directoriesOf, readRefs } from "./layout-hub.ts";
import { blobsOf, listManifests, storeOfManifest } from "./layout-ollama.ts";

export interface RemovalInput {
	kind: string;
	/** The import folder. */
	folder: string;
	/** What was adopted: a snapshot, a manifest, a folder, a file. */
	path: string;
	/** Where its files are. */
	files: readonly { path: string; realPath: string }[];
	/** Files that somebody else of ours uses. */
	inUse: ReadonlySet<string>;
}

export interface RemovedFiles {
	freedBytes: number;
	/** Files that stay because others use them. */
	kept: number;
}

export async function removeFound(input: RemovalInput): Promise<RemovedFiles> {
	switch (input.kind) {
		case "hub":
			return removeSnapshot(input);
		case "ollama":
			return removeManifest(input);
		default:
			return removeFiles(input);
	}
}

async function removeSnapshot(input: RemovalInput): Promise<RemovedFiles> {
	const { folder, path: snapshot, files, inUse } = input;
	const repository = dirname(dirname(snapshot));
	const commit = snapshot.slice(dirname(snapshot).length + 1);
	const used = new Set(inUse);
	for (const other of await directoriesOf(join(repository, "snapshots"))) {
		if (other !== commit) await addBlobs(repository, join(repository, "snapshots", other), used);
	}
	let freedBytes = 0;
	// Names go before what they lead to: a crash in between leaves a blob too many, never a name without one.
	for (const { path } of files) freedBytes += await unlinkBeneath(folder, join(snapshot, path));
	const blobs = files.filter(({ path, realPath }) => realPath !== join(snapshot, path));
	const removed = await removeAll(
		folder,
		blobs.map(({ realPath }) => realPath),
		used,
	);
	for (const [ref, to] of await readRefs(folder, repository)) {
		if (to === commit) await unlinkBeneath(folder, join(repository, "refs", ref));
	}
	await removeEmpty(folder, snapshot, files, dirname(repository));
	for (const name of ["refs", "blobs", "snapshots"]) await rmdirBeneath(folder, join(repository, name));
	await rmdirBeneath(folder, repository);
	return { freedBytes: freedBytes + removed.freedBytes, kept: removed.kept };
}

/** What the links of another snapshot lead to. */
async function addBlobs(repository: string, directory: string, used: Set<string>): Promise<void> {
	for (const entry of await readdir(directory, { withFileTypes: true })) {
		const at = join(directory, entry.name);
		if (entry.isDirectory()) await addBlobs(repository, at, used);
		const blob = entry.isSymbolicLink() ? blobOf(repository, at, await readlink(at)) : undefined;
		if (blob !== undefined) used.add(blob);
	}
}

async function removeManifest({ folder, path, files, inUse }: RemovalInput): Promise<RemovedFiles> {
	const store = storeOfManifest(path);
	const used = new Set(inUse);
	// One that cannot be read ends it here, before anything is gone.
	for (const other of await listManifests(store)) {
		if (other !== path) for (const blob of await blobsOf(folder, store, other)) used.add(blob);
	}
	const freedBytes = await unlinkBeneath(folder, path);
	const removed = await removeAll(
		folder,
		files.map(({ realPath }) => realPath),
		used,
	);
	await removeUpTo(folder, dirname(path), join(store, "manifests"));
	return { freedBytes: freedBytes + removed.freedBytes, kept: removed.kept };
}

async function removeFiles({ folder, path, files, inUse }: RemovalInput): Promise<RemovedFiles> {
	const removed = await removeAll(
		folder,
		files.map(({ realPath }) => realPath),
		inUse,
	);
	if (files.some(({ realPath }) => realPath !== path)) await removeEmpty(folder, path, files, dirname(path));
	return removed;
}

async function removeAll(
	folder: string,
	paths: readonly string[],
	used: ReadonlySet<string>,
): Promise<RemovedFiles> {
	let freedBytes = 0;
	let kept = 0;
	for (const path of new Set(paths)) {
		if (used.has(path)) kept++;
		else freedBytes += await unlinkBeneath(folder, path);
	}
	return { freedBytes, kept };
}

/** The directories of the files, deepest first, and `root` itself, as far as they are empty. */
async function removeEmpty(
	folder: string,
	root: string,
	files: readonly { path: string }[],
	end: string,
): Promise<void> {
	const directories = new Set(files.map(({ path }) => dirname(join(root, path))));
	for (const directory of [...directories].sort((a, b) => b.length - a.length))
		await removeUpTo(folder, directory, end);
}

/** Empty directories from here up to, not including, `end`; the import folder itself stays. */
async function removeUpTo(folder: string, from: string, end: string): Promise<void> {
	for (
		let at = from;
		at !== end && at !== folder && !relative(folder, at).startsWith(`..${sep}`);
		at = dirname(at)
	)
		if (!(await rmdirBeneath(folder, at))) return;
}
