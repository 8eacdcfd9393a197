/** syncfs(2): all that was written to a filesystem reaches the device. It blocks, so it is for a thread of its own. */
import { dlopen } from "bun:ffi";
import { closeSync, constants, openSync } from "node:fs";

const SYMBOLS = { syncfs: { args: ["i32"], returns: "i32" } } as const;

/**
 * Whether it was done; false where the system's library is not there, and the caller syncs file by file.
 * Linux tells of what could not be written since the directory was opened (5.8 and later), as a failure of this call.
 * @throws Error with code EIO
 */
export function syncFilesystem(directory: string): boolean {
	const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
	try {
		const syncfs = find();
		if (syncfs === undefined) return false;
		if (syncfs(fd) === 0) return true;
		throw Object.assign(new Error("syncfs failed"), { code: "EIO" });
	} finally {
		closeSync(fd);
	}
}

function find(): ((fd: number) => number) | undefined {
	for (const name of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
		try {
			return dlopen(name, SYMBOLS).symbols.syncfs;
		} catch {
			// Not this library.
		}
	}
	return undefined;
}
