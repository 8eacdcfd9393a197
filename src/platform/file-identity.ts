/** Tells a file that is not ours from what it was when it was last read: nobody rewrites one without changing these. */
import { type BigIntStats, lstatSync } from "node:fs";

/** Device, inode, size, and when contents and inode changed last, in nanoseconds. */
export function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
	return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/** Of the regular file at `path`; undefined where there is none. A link is none. */
export function identityAt(path: string): string | undefined {
	let stats: BigIntStats | undefined;
	try {
		stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
	} catch {
		// A folder above it is gone, or may not be entered any more.
		return undefined;
	}
	return stats?.isFile() === true ? identityOf(stats) : undefined;
}
