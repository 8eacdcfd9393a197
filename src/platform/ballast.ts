/**
 * Room kept back for a full disk: even deleting a model is a row that has to be committed first. The file is given up
 * when a commit meets a full disk, and made again at a later start.
 */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { filesystemSpace } from "./filesystem.ts";

/** SQLite folds its log back at 4 MB, so this is room for a good many commits. */
export const BALLAST_BYTES = 16 * 1024 * 1024;
/** A filesystem with less is small or full already. */
const LEAST_FREE_BYTES = 64 * BALLAST_BYTES;
const BLOCK = new Uint8Array(1024 * 1024);

/** Makes the file where it is missing and there is room for it. Real blocks: a hole would reserve nothing. */
export function ensureBallast(directory: string): void {
	const path = join(directory, "ballast");
	if (existsSync(path) || filesystemSpace(directory).freeBytes < LEAST_FREE_BYTES) return;
	const staged = `${path}.new`;
	rmSync(staged, { force: true });
	const fd = openSync(staged, "wx", 0o600);
	try {
		for (let written = 0; written < BALLAST_BYTES; ) {
			written += writeSync(fd, BLOCK, 0, Math.min(BLOCK.byteLength, BALLAST_BYTES - written));
		}
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
	renameSync(staged, path);
}

/** Gives the room up; false when there was none. */
export function releaseBallast(directory: string): boolean {
	const path = join(directory, "ballast");
	if (!existsSync(path)) return false;
	rmSync(path, { force: true });
	return true;
}
