/** What a filesystem has: sizes, kind, and which boot of the machine this is. Linux; elsewhere the portable part. */
import { readFileSync, statfsSync } from "node:fs";

export interface FilesystemSpace {
	totalBytes: number;
	/** For this user. */
	freeBytes: number;
}

const KIB = 1024;

export function filesystemSpace(path: string): FilesystemSpace {
	const { bsize, blocks, bavail } = statfsSync(path);
	return { totalBytes: bsize * blocks, freeBytes: bsize * bavail };
}

/** Memory that could be used without swapping; a tmpfs promises more than there is. Undefined where it is not told. */
export function availableMemoryBytes(): number | undefined {
	const text = readOrUndefined("/proc/meminfo");
	const match = /^MemAvailable:\s+(\d+) kB$/m.exec(text ?? "");
	return match?.[1] === undefined ? undefined : Number(match[1]) * KIB;
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
