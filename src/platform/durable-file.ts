/**
 * Writing that is still there after a power cut: write in a loop (a write may be short without an error), fsync,
 * rename, fsync the directory. An fsync that failed is a failure of the file; it is never tried again on it.
 */
import { close, constants, fdatasync, fsync, ftruncate, open, write } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { GswarmError } from "../schema/errors.ts";

/** Opens (making it if needed, 0600) a file of ours for reading and writing; a symbolic link is refused. */
export function openOurs(path: string): Promise<number> {
	const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
	return call<number>((done) => open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600, done));
}

export function closeFile(fd: number): Promise<void> {
	return call<void>((done) => close(fd, done));
}

/** Writes all bytes at the position. The buffer must not change until it resolves. */
export async function writeAt(fd: number, bytes: Uint8Array, position: number): Promise<void> {
	let written = 0;
	while (written < bytes.byteLength) {
		const at = written;
		const count = await call<number>((done) =>
			write(fd, bytes, at, bytes.byteLength - at, position + at, done),
		);
		if (count === 0) throw new Error(`writing ${bytes.byteLength - at} bytes wrote none`);
		written += count;
	}
}

/** Gives the file its final length, so that parts may land in any order. */
export function setLength(fd: number, sizeBytes: number): Promise<void> {
	return call<void>((done) => ftruncate(fd, sizeBytes, done));
}

/** The file's bytes and length reach the device. */
export function syncData(fd: number): Promise<void> {
	return call<void>((done) => fdatasync(fd, done));
}

/** A file, or the names in a directory, reach the device. */
export async function syncPath(path: string): Promise<void> {
	const fd = await call<number>((done) => open(path, constants.O_RDONLY | constants.O_NOFOLLOW, done));
	try {
		await call<void>((done) => fsync(fd, done));
	} finally {
		await closeFile(fd);
	}
}

/** Renames, and the new name is there after a power cut; the contents must have been synced before. */
export async function renameDurably(from: string, to: string): Promise<void> {
	await rename(from, to);
	await syncPath(dirname(to));
	if (dirname(from) !== dirname(to)) await syncPath(dirname(from));
}

/**
 * Replaces a small file: a reader sees the old or the new text, never a part, also after a power cut. Mode 0600.
 * Where several processes may write at once each has a `staging` name of its own.
 */
export async function writeFileDurably(path: string, text: string, staging = `${path}.new`): Promise<void> {
	await rm(staging, { force: true });
	const { O_WRONLY, O_CREAT, O_EXCL } = constants;
	const fd = await call<number>((done) => open(staging, O_WRONLY | O_CREAT | O_EXCL, 0o600, done));
	try {
		await writeAt(fd, Buffer.from(text), 0);
		await call<void>((done) => fsync(fd, done));
	} finally {
		await closeFile(fd);
	}
	await renameDurably(staging, path);
}

/** An error of the filesystem as an operating failure; anything else comes back as it is. `what` completes "… failed". */
export function fileError(error: unknown, what: string): unknown {
	if (!(error instanceof Error) || error instanceof GswarmError) return error;
	const { code } = error as NodeJS.ErrnoException;
	switch (code) {
		case "ENOSPC":
		case "EDQUOT":
			return new GswarmError("RESOURCE_UNAVAILABLE", `${what} failed: the disk is full.`, {
				reason: "disk_full",
				status: 507,
				hint: "Free space on the device, or use another one, then start it again.",
				cause: error,
			});
		case "EMFILE":
		case "ENFILE":
		case "ENOMEM":
			return new GswarmError(
				"RESOURCE_UNAVAILABLE",
				`${what} failed: the system has no more of it (${code}).`,
				{
					reason: "system_limit",
					retryable: true,
					hint: "Raise the limit on open files, or run fewer tasks at once.",
					cause: error,
				},
			);
		case "EIO":
		case "EROFS":
		case "EACCES":
		case "EPERM":
		case "ENODEV":
			return new GswarmError("RESOURCE_UNAVAILABLE", `${what} failed: the device answered ${code}.`, {
				reason: "io_error",
				details: { errno: code },
				hint: "Check the disk and the owner of the data directory.",
				cause: error,
			});
		default:
			return error;
	}
}

/** A callback API as a promise. */
function call<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
	return new Promise((resolve, reject) => {
		start((error, value) => {
			if (error === null || error === undefined) resolve(value as T);
			else reject(error);
		});
	});
}
