/**
 * The cache of Hugging Face's libraries (huggingface_hub, `constants.HF_HUB_CACHE`): `models--ORG--NAME` with `blobs`
 * named by ETag (sha256 of large files, git's sha1 of others), `snapshots/COMMIT/…` of relative links to them, and
 * `refs/BRANCH` that hold commits.
 */
import { type Dirent } from "node:fs";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { openBeneath } from "../../platform/beneath.ts";
import { parseSafePath, pathProblem } from "../../platform/safe-path.ts";
import { isModelName, parseModelName, parseRevision } from "../../schema/names.ts";
import type { SourceDigest } from "./contract.ts";
import { fileSetProblem, MAX_FILES } from "./description.ts";
import { type FoundFile, type FoundModel, inOrder, problemOf, refused } from "./layout.ts";

export const HUB_REPOSITORY = /^models--(?<name>[A-Za-z0-9][\w.-]*)$/;
/** As libraries name a snapshot; nothing else is looked into. */
const COMMIT = /^[0-9a-f]{40}$/;
/** ETags without their quotes. */
const BLOB = /^[A-Za-z0-9][\w.-]{0,127}$/;
const MAX_REFS = 1000;
const MAX_REF_BYTES = 128;
const MAX_DEPTH = 16;

interface Place {
	folder: string;
	/** The cache, one repository, or one snapshot. */
	target: string;
}

/** Whether the path is a snapshot of a repository. */
export function isSnapshot(path: string): boolean {
	const repository = dirname(dirname(path));
	return (
		COMMIT.test(basename(path)) &&
		basename(dirname(path)) === "snapshots" &&
		HUB_REPOSITORY.test(basename(repository))
	);
}

/** One model per snapshot; of a repository the one that `main` names comes last, as its newest. */
export async function findInHub({ folder, target }: Place, signal: AbortSignal): Promise<FoundModel[]> {
	if (isSnapshot(target)) {
		const repository = dirname(dirname(target));
		return [
			await snapshot(
				{ folder, repository, commit: basename(target), refs: await readRefs(folder, repository) },
				signal,
			),
		];
	}
	const repositories = HUB_REPOSITORY.test(basename(target))
		? [target]
		: (await directoriesOf(target))
				.filter((name) => HUB_REPOSITORY.test(name))
				.map((name) => join(target, name));
	const found: FoundModel[] = [];
	for (const repository of repositories) {
		signal.throwIfAborted();
		const refs = await readRefs(folder, repository);
		const commits = (await directoriesOf(join(repository, "snapshots"))).filter((name) => COMMIT.test(name));
		const main = refs.get("main");
		commits.sort((a, b) => Number(a === main) - Number(b === main));
		for (const commit of commits) found.push(await snapshot({ folder, repository, commit, refs }, signal));
	}
	return found;
}

/** `org/name` of a repository's directory. */
export function repositoryName(directory: string): string {
	return (HUB_REPOSITORY.exec(basename(directory))?.groups?.["name"] ?? "").replace("--", "/");
}

/** What each ref of a repository holds. */
export async function readRefs(folder: string, repository: string): Promise<Map<string, string>> {
	const root = join(repository, "refs");
	const refs = new Map<string, string>();
	const walk = async (directory: string, depth: number): Promise<void> => {
		for (const entry of await entriesOf(directory)) {
			const path = join(directory, entry.name);
			if (entry.isDirectory() && depth < MAX_DEPTH) await walk(path, depth + 1);
			if (!entry.isFile() || refs.size >= MAX_REFS) continue;
			const text = await readSmall(folder, path, MAX_REF_BYTES);
			if (COMMIT.test(text)) refs.set(relative(root, path), text);
		}
	};
	await walk(root, 1);
	return refs;
}

async function snapshot(
	{
		folder,
		repository,
		commit,
		refs,
	}: { folder: string; repository: string; commit: string; refs: ReadonlyMap<string, string> },
	signal: AbortSignal,
): Promise<FoundModel> {
	const name = repositoryName(repository);
	const path = join(repository, "snapshots", commit);
	const files: FoundFile[] = [];
	const walk = async (directory: string, depth: number): Promise<void> => {
		signal.throwIfAborted();
		for (const entry of await readdir(directory, { withFileTypes: true })) {
			const at = join(directory, entry.name);
			if (entry.isDirectory()) {
				if (depth >= MAX_DEPTH) throw refused(`it is deeper than ${MAX_DEPTH} folders`);
				await walk(at, depth + 1);
			} else files.push(await fileOf(repository, path, at, entry));
			if (files.length > MAX_FILES) throw refused(`it has more than ${MAX_FILES} files`);
		}
	};
	const problem = await walk(path, 1).then(
		() => (files.length === 0 ? "it has no files" : fileSetProblem(files.map((file) => file.path))),
		problemOf,
	);
	return {
		kind: "hub",
		folder,
		path,
		modelName: isModelName(name) ? parseModelName(name) : undefined,
		revision: parseRevision(commit),
		sourceUrl: `hf:${name}@${commit}`,
		refs: [...refs].filter(([, to]) => to === commit).map(([ref]) => ref),
		files: problem === undefined ? inOrder(files) : [],
		problem,
	};
}

/** Where links cannot be made (Windows), the library leaves the files themselves in the snapshot. */
async function fileOf(repository: string, root: string, at: string, entry: Dirent): Promise<FoundFile> {
	const name = relative(root, at);
	const problem = pathProblem(name);
	if (problem !== undefined) throw refused(`of the name ${JSON.stringify(name)}, ${problem}`);
	const path = parseSafePath(name);
	if (entry.isFile()) return { path, realPath: at, sizeBytes: (await lstat(at)).size, digest: undefined };
	if (!entry.isSymbolicLink()) throw refused(`${JSON.stringify(name)} is no regular file`);
	const blob = blobOf(repository, at, await readlink(at));
	if (blob === undefined)
		throw refused(`the link ${JSON.stringify(name)} leads out of the repository's blobs`);
	const info = await lstat(blob).catch(() => undefined);
	if (info?.isFile() !== true)
		throw refused(`the blob of ${JSON.stringify(name)} is missing, or no regular file`);
	return { path, realPath: blob, sizeBytes: info.size, digest: digestOf(basename(blob)) };
}

/** The blob that a snapshot's link names; a link is read, never followed. */
export function blobOf(repository: string, at: string, link: string): string | undefined {
	if (link.startsWith("/")) return undefined;
	const blob = join(dirname(at), link);
	return dirname(blob) === join(repository, "blobs") && BLOB.test(basename(blob)) ? blob : undefined;
}

function digestOf(etag: string): SourceDigest | undefined {
	if (/^[0-9a-f]{64}$/.test(etag)) return { algorithm: "sha256", hex: etag };
	return /^[0-9a-f]{40}$/.test(etag) ? { algorithm: "git-sha1", hex: etag } : undefined;
}

/** Names of the directories at a path; none where it is not there. */
export async function directoriesOf(path: string): Promise<string[]> {
	return (await entriesOf(path))
		.filter((entry) => entry.isDirectory())
		.map(({ name }) => name)
		.sort();
}

async function entriesOf(path: string): Promise<Dirent[]> {
	try {
		return await readdir(path, { withFileTypes: true });
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw error;
	}
}

/** What is in a small file; nothing of one that is larger. */
async function readSmall(folder: string, path: string, maxBytes: number): Promise<string> {
	const handle = await openBeneath(folder, path);
	try {
		if ((await handle.stat()).size > maxBytes) return "";
		return (await readFile(handle, "utf8")).trim();
	} finally {
		await handle.close();
	}
}
