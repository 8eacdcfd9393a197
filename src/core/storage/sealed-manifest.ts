/** A manifest that comes from a transfer or another node, checked and brought into its one order. */
import { sha256Hex } from "../../platform/hash.ts";
import { foldPath, parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest, partCount, partSizeBytes } from "../../schema/manifest.ts";

export const MAX_MANIFEST_FILES = 100_000;

export interface SealedManifest {
	contentId: string;
	/** Canonical JSON. */
	text: string;
	/** Files in canonical order: a file's index is the same on every node. */
	manifest: Manifest;
}

/**
 * @throws INVALID_REQUEST unsafe_filename, bad_manifest: a path that is not safe, two files at one place (also by
 * letter case, because a node may have a filesystem that does not tell them apart), sums or part counts that are wrong
 */
export function sealManifest(manifest: Manifest): SealedManifest {
	const { files } = manifest;
	if (files.length === 0) throw bad("it has no files");
	if (files.length > MAX_MANIFEST_FILES)
		throw bad(`it has ${files.length} files, at most ${MAX_MANIFEST_FILES} are allowed`);
	checkPlaces(files.map((file) => parseSafePath(file.path)));
	let total = 0;
	for (const file of files) {
		total += file.size_bytes;
		const parts = partCount(file.size_bytes);
		if (file.part_size_bytes !== partSizeBytes(file.size_bytes) || file.xxh64.length !== parts) {
			throw bad(
				`${file.path} has ${file.xxh64.length} parts of ${file.part_size_bytes} bytes, wanted ${parts} of ${partSizeBytes(file.size_bytes)}`,
			);
		}
	}
	if (total !== manifest.total_bytes)
		throw bad(`its files have ${total} bytes, it says ${manifest.total_bytes}`);
	const text = canonicalManifest(manifest);
	return { contentId: sha256Hex(text), text, manifest: JSON.parse(text) as Manifest };
}

/**
 * No two paths at one place, no path below another.
 * @throws INVALID_REQUEST bad_manifest
 */
export function checkPlaces(paths: readonly string[]): void {
	const files = new Set(paths.map(foldPath));
	if (files.size !== paths.length)
		throw bad("two of its files have the same path, or paths that differ in letter case only");
	for (const path of paths) {
		for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
			if (files.has(foldPath(path.slice(0, at)))) throw bad(`${path.slice(0, at)} is a file and a folder`);
		}
	}
}

function bad(problem: string): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The manifest is refused: ${problem}.`, {
		reason: "bad_manifest",
	});
}
