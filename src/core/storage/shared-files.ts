/**
 * Files with the same bytes are stored once on a tier: a copy that brings one that another copy has gets a hard link to
 * it. So several names may lead to one inode; its bytes count once, go with the last name, and when they are damaged
 * all copies that have them are. Nothing in the store is ever written to, which is what makes this safe.
 */
import { lstatSync } from "node:fs";
import { link, lstat, rename, rm } from "node:fs/promises";
import { joinSafe, parseSafePath } from "../../platform/safe-path.ts";
import type { Manifest, ManifestFile } from "../../schema/manifest.ts";
import { type CopyRow, findFiles } from "./copy-store.ts";
import { keyOf } from "./copy-index.ts";
import type { Shelf } from "./shelf.ts";
import { copyPath, type TierRoot } from "./tier-root.ts";

/** As in the table storage_file: a smaller file is not looked for. */
export const MIN_SHARED_BYTES = 64 * 1024;
/** Of one content no more places are tried. */
const MAX_TRIED = 8;

/**
 * Links a file that a ready copy on the tier has to `to`, which is not there yet. Nobody has read it meanwhile:
 * whoever asks compares its bytes, or takes it away again.
 * @returns false where there is none, or it cannot be linked
 */
export async function linkTwin(
	shelf: Shelf,
	root: TierRoot,
	file: Pick<ManifestFile, "sha256" | "size_bytes">,
	to: string,
): Promise<boolean> {
	if (file.size_bytes < MIN_SHARED_BYTES) return false;
	for (const path of twinsOf(shelf, root, file)) {
		try {
			if ((await lstat(path)).size !== file.size_bytes) continue;
			await link(path, to);
			return true;
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			// Gone in between; as many names as the filesystem allows; a filesystem without links.
			if (!["ENOENT", "EMLINK", "EPERM", "EOPNOTSUPP", "ENOSYS", "EXDEV"].includes(code ?? "")) throw error;
		}
	}
	return false;
}

/** Staged files whose bytes a copy on the tier has already become links to those, once they were compared. */
export async function shareStaged(
	shelf: Shelf,
	root: TierRoot,
	staged: string,
	{ files }: Manifest,
): Promise<void> {
	for (const file of files) {
		const own = joinSafe(staged, parseSafePath(file.path));
		if (file.size_bytes < MIN_SHARED_BYTES || (await lstat(own)).nlink > 1) continue;
		const twin = `${staged}.twin`;
		if (!(await linkTwin(shelf, root, file, twin))) continue;
		try {
			if (await shelf.isRight(twin, file)) await rename(twin, own);
			else shelf.log.warn("storage.twin_damaged", { tier: root.tier.name, sha256: file.sha256 });
		} finally {
			await rm(twin, { force: true });
		}
	}
}

/** Notes which files of a copy that is there now are files of others too. */
export function noteShared(shelf: Shelf, root: TierRoot, row: CopyRow, manifest: Manifest): void {
	for (const { path, sha256, size_bytes } of manifest.files) {
		if (size_bytes < MIN_SHARED_BYTES) continue;
		const inode = sharedInode(copyPath(root, row), path);
		if (inode === undefined) continue;
		hold(shelf, root, row, inode, size_bytes);
		for (const other of findFiles(shelf.db, { tier: root.tier.name, sha256, sizeBytes: size_bytes })) {
			const held = shelf.rows.get(keyOf(other));
			if (held === undefined || held.place !== "store") continue;
			if (sharedInode(copyPath(root, held), other.path) === inode) hold(shelf, root, held, inode, size_bytes);
		}
	}
}

/** The copy is gone, and its names with it. */
export function forgetShared(shelf: Shelf, row: CopyRow): void {
	const key = keyOf(row);
	for (const [inode, { holders }] of shelf.shared) {
		if (!holders.delete(key)) continue;
		if (holders.size <= 1) shelf.shared.delete(inode);
	}
}

/** Bytes that copies of a tier count twice or more. */
export function sharedBytes(shelf: Shelf, tier: string): number {
	let bytes = 0;
	for (const [inode, { sizeBytes, holders }] of shelf.shared)
		if (inode.startsWith(`${tier} `)) bytes += sizeBytes * (holders.size - 1);
	return bytes;
}

/** Bytes of a copy, those of files that others have too in equal shares, or left out (`alone`). */
export function bytesOf(shelf: Shelf, row: CopyRow, { alone }: { alone: boolean }): number {
	let bytes = row.sizeBytes;
	for (const { sizeBytes, holders } of shelf.shared.values()) {
		if (!holders.has(keyOf(row)) || holders.size < 2) continue;
		bytes -= alone ? sizeBytes : Math.floor(sizeBytes * (1 - 1 / holders.size));
	}
	return bytes;
}

/** The other copies that have this file of a copy. */
export function sharersOf(shelf: Shelf, root: TierRoot, row: CopyRow, path: string): CopyRow[] {
	const inode = sharedInode(copyPath(root, row), path);
	const holders = inode === undefined ? undefined : shelf.shared.get(`${root.tier.name} ${inode}`)?.holders;
	return [...(holders ?? [])].flatMap((key) => {
		const other = shelf.rows.get(key);
		return other === undefined || key === keyOf(row) ? [] : [other];
	});
}

function hold(shelf: Shelf, root: TierRoot, row: CopyRow, inode: bigint, sizeBytes: number): void {
	const key = `${root.tier.name} ${inode}`;
	const known = shelf.shared.get(key);
	if (known === undefined) shelf.shared.set(key, { sizeBytes, holders: new Set([keyOf(row)]) });
	else known.holders.add(keyOf(row));
}

/** Undefined for a file with one name. */
function sharedInode(directory: string, path: string): bigint | undefined {
	const info = lstatSync(joinSafe(directory, parseSafePath(path)), { bigint: true, throwIfNoEntry: false });
	return info?.isFile() === true && info.nlink > 1n ? info.ino : undefined;
}

function twinsOf(
	shelf: Shelf,
	root: TierRoot,
	{ sha256, size_bytes: sizeBytes }: Pick<ManifestFile, "sha256" | "size_bytes">,
): string[] {
	return findFiles(shelf.db, { tier: root.tier.name, sha256, sizeBytes })
		.slice(0, MAX_TRIED)
		.flatMap(({ path, ...key }) => {
			const row = shelf.rows.get(keyOf(key));
			const isUsable = row?.state === "ready" && row.place === "store";
			return isUsable ? [joinSafe(copyPath(root, row), parseSafePath(path))] : [];
		});
}
