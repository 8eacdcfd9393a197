/** Unpacks the embedded libraries once per version; many engines may do so at the same time. */
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { GswarmError } from "../../../../schema/errors.ts";
import type { EmbeddedFile } from "./libraries.ts";

export interface Pack {
	version: string;
	hash: string;
	files: readonly EmbeddedFile[];
}

/**
 * Makes sure that `<cacheDir>/engine-<version>-<hash>` holds every file in full and returns that path.
 * The directory appears whole, by a rename; one that was damaged later is moved away and made again.
 */
export async function unpackLibraries(pack: Pack, cacheDir: string): Promise<string> {
	const target = join(cacheDir, `engine-${pack.version}-${pack.hash}`);
	try {
		mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
		requireOurs(cacheDir);
		if (isWhole(target, pack.files)) {
			requireOurs(target);
			return target;
		}
		const staging = mkdtempSync(`${target}.`);
		try {
			await writeFiles(staging, pack.files);
			publish(staging, target, pack.files);
		} finally {
			rmSync(staging, { recursive: true, force: true });
		}
	} catch (cause) {
		throw new GswarmError(
			"RESOURCE_UNAVAILABLE",
			`The engine's libraries cannot be unpacked to ${target}: ${(cause as Error).message}.`,
			{ reason: "engine_unpack_failed", hint: "Name a writable directory with --cache-dir.", cause },
		);
	}
	return target;
}

/** Sizes are enough: files are complete before the directory gets its name, so only a cut one can differ. */
export function isWhole(directory: string, files: readonly EmbeddedFile[]): boolean {
	return files.every(
		(file) => statSync(join(directory, file.path), { throwIfNoEntry: false })?.size === file.sizeBytes,
	);
}

/** Libraries are code: from a directory that somebody else can write to they are not loaded. */
function requireOurs(directory: string): void {
	const { uid, mode } = statSync(directory);
	if (uid !== process.getuid?.() || (mode & 0o022) !== 0)
		throw new Error(`${directory} belongs to another user or is writable by others`);
}

async function writeFiles(directory: string, files: readonly EmbeddedFile[]): Promise<void> {
	chmodSync(directory, 0o700);
	for (const file of files) {
		const path = join(directory, file.path);
		mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
		const content = await Bun.zstdDecompress(await Bun.file(file.asset).bytes());
		if (content.length !== file.sizeBytes)
			throw new Error(`${file.path} has ${content.length} bytes, wanted ${file.sizeBytes}`);
		writeFileSync(path, content, { mode: 0o600, flag: "wx", flush: true });
	}
}

function publish(staging: string, target: string, files: readonly EmbeddedFile[]): void {
	if (existsSync(target) && !isWhole(target, files)) {
		// Out of the way by rename, so that nobody sees a target with files missing one by one.
		const damaged = `${staging}.damaged`;
		renameSync(target, damaged);
		rmSync(damaged, { recursive: true, force: true });
	}
	try {
		renameSync(staging, target);
	} catch (error) {
		// Another engine was first: its copy is as good.
		if (!isWhole(target, files)) throw error;
	}
}
