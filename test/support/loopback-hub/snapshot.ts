// One commit of a repository: every file of a directory with the hashes that the hub publishes for it.
import { createHash } from "node:crypto";
import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { extname, join, relative } from "node:path";

export interface SnapshotFile {
	path: string;
	/** Where the bytes lie on this machine. */
	file: string;
	sizeBytes: number;
	/** Git blob id: of the content, or of the pointer text for a large file. */
	oid: string;
	lfs?: { sha256: string; pointerSizeBytes: number };
}

export interface Snapshot {
	/** 40 hex digits derived from paths and contents. */
	sha: string;
	files: SnapshotFile[];
}

const LARGE_BYTES = 1_000_000;
const LARGE_EXTENSIONS = new Set([".safetensors", ".gguf"]);
const BLOCK_BYTES = 1 << 20;

export function takeSnapshot(dir: string): Snapshot {
	const files = readdirSync(dir, { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name))
		.map((file) => describe(file, relative(dir, file)))
		.sort((one, other) => (one.path < other.path ? -1 : 1));
	const listing = files.map(({ path, oid, lfs }) => `${lfs?.sha256 ?? oid} ${path}\n`).join("");
	return { sha: createHash("sha1").update(listing).digest("hex"), files };
}

function describe(file: string, path: string): SnapshotFile {
	const sizeBytes = statSync(file).size;
	if (sizeBytes <= LARGE_BYTES && !LARGE_EXTENSIONS.has(extname(path))) {
		return { path, file, sizeBytes, oid: hashFile(file, "sha1", `blob ${sizeBytes}\0`) };
	}
	const sha256 = hashFile(file, "sha256", "");
	const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${sizeBytes}\n`;
	const oid = createHash("sha1").update(`blob ${pointer.length}\0${pointer}`).digest("hex");
	return { path, file, sizeBytes, oid, lfs: { sha256, pointerSizeBytes: pointer.length } };
}

function hashFile(file: string, algorithm: "sha1" | "sha256", prefix: string): string {
	const hash = new Bun.CryptoHasher(algorithm).update(prefix);
	const block = new Uint8Array(BLOCK_BYTES);
	const descriptor = openSync(file, "r");
	try {
		for (let read = readSync(descriptor, block); read > 0; read = readSync(descriptor, block)) {
			hash.update(block.subarray(0, read));
		}
	} finally {
		closeSync(descriptor);
	}
	return hash.digest("hex");
}
