/**
 * Copies shown in the layout of Hugging Face's cache (`models--ORG--NAME/refs/REF` holds a commit,
 * `snapshots/COMMIT/…` are the files), so that a program with HF_HUB_OFFLINE=1 finds them there. The files are relative
 * links into the store: no bytes are taken, and a copy that goes or is damaged takes its links with it.
 */
import {
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmdirSync,
	rmSync,
	symlinkSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { isInside } from "../../platform/beneath.ts";
import { writeFileDurably } from "../../platform/durable-file.ts";
import { joinSafe, parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import { keyOf } from "./copy-index.ts";
import { type CopyRow, readManifest } from "./copy-store.ts";
import { fileAt } from "./places.ts";
import { type Presentation, readPresented } from "./presented-store.ts";
import type { Shelf } from "./shelf.ts";
import { DIRECTORY_MODE } from "./tier-root.ts";

export interface Presented extends Presentation {
	/** What the library calls the revision. */
	commit: string;
	/** The directory with the model's files. */
	snapshot: string;
}

/** Of a file that holds a commit. */
const MAX_REF_BYTES = 128;

/**
 * Shows a ready copy; what stands at the ref goes to it. Showing it again makes what is missing of it.
 * @throws CONFLICT cache_in_the_way
 */
export async function presentCopy(shelf: Shelf, row: CopyRow, shown: Presentation): Promise<Presented> {
	const { tier, model, revision } = row;
	await withdrawCopy(shelf, row, shown.cacheDir);
	requireFree(row, shown);
	await shelf.writes.present({ key: { tier, model, revision }, shown });
	shelf.presented.set(keyOf(row), [...(shelf.presented.get(keyOf(row)) ?? []), shown]);
	await makeLinks(shelf, row, shown);
	return placesOf(row, shown);
}

/** The links go, from one cache or (left out) from all. */
export async function withdrawCopy(shelf: Shelf, row: CopyRow, cacheDir?: string): Promise<number> {
	const { tier, model, revision } = row;
	const all = shelf.presented.get(keyOf(row)) ?? [];
	const going = all.filter((shown) => cacheDir === undefined || shown.cacheDir === cacheDir);
	for (const shown of going) {
		removeLinks(row, shown);
		await shelf.writes.withdraw({ key: { tier, model, revision }, cacheDir: shown.cacheDir });
	}
	const left = all.filter((shown) => !going.includes(shown));
	if (left.length === 0) shelf.presented.delete(keyOf(row));
	else shelf.presented.set(keyOf(row), left);
	return going.length;
}

/** What is shown of the copy is what it is now: there while it is ready. */
export async function refreshPresented(shelf: Shelf, row: CopyRow): Promise<void> {
	for (const shown of shelf.presented.get(keyOf(row)) ?? []) {
		if (row.state === "ready") await makeLinks(shelf, row, shown);
		else removeLinks(row, shown);
	}
}

/** At a start: what was shown is shown again, what is gone is not. */
export async function recoverPresented(shelf: Shelf): Promise<void> {
	for (const { tier, model, revision, ...shown } of readPresented(shelf.db)) {
		if (!shelf.roots.has(tier)) continue;
		const key = { tier, model, revision };
		const row = shelf.rows.get(keyOf(key));
		if (row === undefined) {
			await shelf.writes.withdraw({ key, cacheDir: shown.cacheDir });
			continue;
		}
		shelf.presented.set(keyOf(row), [...(shelf.presented.get(keyOf(row)) ?? []), shown]);
		try {
			await refreshPresented(shelf, row);
		} catch (error) {
			shelf.log.warn("storage.not_presented", { model, cache_dir: shown.cacheDir, error });
		}
	}
}

function placesOf({ revision, contentId }: CopyRow, shown: Presentation): Presented & { root: string } {
	const root = join(shown.cacheDir, `models--${shown.repository.replaceAll("/", "--")}`);
	// Libraries take 40 hex digits for a commit, and nothing else.
	const commit = /^[0-9a-f]{40}$/.test(revision) ? revision : contentId.slice(0, 40);
	return { ...shown, root, commit, snapshot: join(root, "snapshots", commit) };
}

async function makeLinks(shelf: Shelf, row: CopyRow, shown: Presentation): Promise<void> {
	const { root, commit, snapshot } = placesOf(row, shown);
	const { files } = manifestOf(shelf, row);
	const placeOf = fileAt(shelf, row);
	for (const directory of [root, join(root, "refs"), join(root, "blobs"), join(root, "snapshots"), snapshot])
		makeDirectory(directory);
	for (const { path } of files) {
		const safe = parseSafePath(path);
		const at = joinSafe(snapshot, safe);
		for (const directory of foldersOf(snapshot, path)) makeDirectory(directory);
		const there = lstatSync(at, { throwIfNoEntry: false });
		if (there !== undefined && !there.isSymbolicLink())
			throw inTheWay(at, "it is no link of the agent's own");
		rmSync(at, { force: true });
		symlinkSync(relative(dirname(at), placeOf(safe)), at);
	}
	await writeFileDurably(join(root, "refs", shown.ref), commit);
}

function removeLinks(row: CopyRow, shown: Presentation): void {
	const { root, commit, snapshot } = placesOf(row, shown);
	rmSync(snapshot, { recursive: true, force: true });
	const ref = join(root, "refs", shown.ref);
	if (lstatSync(ref, { throwIfNoEntry: false })?.isFile() === true && readFileSync(ref, "utf8") === commit)
		rmSync(ref);
	for (const directory of ["refs", "blobs", "snapshots", "."]) {
		const path = join(root, directory);
		if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true && readdirSync(path).length === 0)
			rmdirSync(path);
	}
}

/** Makes one, or finds that a directory of ours is there. */
function makeDirectory(path: string): void {
	const info = lstatSync(path, { throwIfNoEntry: false });
	if (info === undefined) mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE });
	else if (!info.isDirectory() || info.uid !== process.getuid?.()) {
		throw inTheWay(path, "it is no directory of the agent's own");
	}
}

/**
 * A snapshot that another program has put there stays as it is, and so does a ref that leads to it: what is shown
 * goes one day, and would take that along.
 */
function requireFree(row: CopyRow, shown: Presentation): void {
	const { root, commit, snapshot } = placesOf(row, shown);
	if (isAnothers(snapshot, shown.cacheDir)) throw inTheWay(snapshot, "another program has put it there");
	const ref = join(root, "refs", shown.ref);
	const info = lstatSync(ref, { throwIfNoEntry: false });
	if (info?.isFile() !== true || info.size > MAX_REF_BYTES) return;
	const named = readFileSync(ref, "utf8").trim();
	if (named === commit || !/^[0-9a-f]{40}$/.test(named)) return;
	if (isAnothers(join(root, "snapshots", named), shown.cacheDir))
		throw inTheWay(ref, "it leads to a snapshot of another program");
}

/** Ours are links out of the cache; the libraries' lead to blobs in it, or are the files themselves. */
function isAnothers(directory: string, cacheDir: string): boolean {
	if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) return false;
	return readdirSync(directory, { withFileTypes: true }).some((entry) => {
		const at = join(directory, entry.name);
		if (entry.isDirectory()) return isAnothers(at, cacheDir);
		return !entry.isSymbolicLink() || isInside(cacheDir, resolve(directory, readlinkSync(at)));
	});
}

function inTheWay(path: string, why: string): GswarmError {
	return new GswarmError("CONFLICT", `${path} is in the way: ${why}.`, {
		reason: "cache_in_the_way",
		details: { path },
		hint: "Choose another --cache-dir, or another --ref.",
	});
}

/** `a/b/c.json` has `a` and `a/b`. */
function foldersOf(root: string, path: string): string[] {
	const segments = path.split("/").slice(0, -1);
	return segments.map((_, index) => join(root, ...segments.slice(0, index + 1)));
}

function manifestOf(shelf: Shelf, row: CopyRow): Manifest {
	const manifest = readManifest(shelf.db, row.contentId);
	if (manifest === undefined) throw new Error(`the manifest ${row.contentId} of a copy is missing`);
	return manifest;
}
