/** What a filesystem has: sizes, kind, and which boot of the machine this is. Linux; elsewhere the portable part. */
import { readFileSync, statfsSync } from "node:fs";

export interface FilesystemSpace {
	totalBytes: number;
	/** For this user. */
	freeBytes: number;
}

export function filesystemSpace(path: string): FilesystemSpace {
	const { bsize, blocks, bavail } = statfsSync(path);
	return { totalBytes: bsize * blocks, freeBytes: bsize * bavail };
}

/** Names the boot of this machine; undefined where the system has none (then volatile copies are never trusted over a restart). */
export function readBootId(): string | undefined {
	return readOrUndefined("/proc/sys/kernel/random/boot_id")?.trim();
}

function readOrUndefined(path: string): string | undefined {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return undefined;
	}
}
