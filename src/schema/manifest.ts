/**
 * The manifest: the list of a model's files with their digests, sealed when every file is whole and checked.
 * `content_id` is the sha256 of its canonical JSON; part size is a pure function of file size, so equal bytes
 * make equal manifests wherever they were received.
 */
import { z } from "zod";

export const manifestFileSchema = z.object({
	/** Relative POSIX path inside the model's directory. */
	path: z.string(),
	size_bytes: z.number().int().nonnegative(),
	/** Hex. */
	sha256: z.string().regex(/^[0-9a-f]{64}$/),
	part_size_bytes: z.number().int().positive(),
	/** XXH64 (seed 0) of each part, 16 hex digits, in order; empty for an empty file. */
	xxh64: z.array(z.string().regex(/^[0-9a-f]{16}$/)),
});
export type ManifestFile = z.infer<typeof manifestFileSchema>;

export const manifestSchema = z.object({
	files: z.array(manifestFileSchema),
	total_bytes: z.number().int().nonnegative(),
});
export type Manifest = z.infer<typeof manifestSchema>;

const MIB = 1024 * 1024;

/** Part size for a file: 8 MiB up to 1 GiB, 16 up to 8 GiB, 32 up to 64 GiB, 64 above. */
export function partSizeBytes(fileSizeBytes: number): number {
	if (fileSizeBytes <= 1024 * MIB) return 8 * MIB;
	if (fileSizeBytes <= 8 * 1024 * MIB) return 16 * MIB;
	if (fileSizeBytes <= 64 * 1024 * MIB) return 32 * MIB;
	return 64 * MIB;
}

/** How many parts a file of this size has; 0 for an empty file. */
export function partCount(fileSizeBytes: number): number {
	return Math.ceil(fileSizeBytes / partSizeBytes(fileSizeBytes));
}

/** The canonical JSON whose sha256 is the content id: files sorted by path (code units), fixed key order, no spaces. */
export function canonicalManifest(manifest: Manifest): string {
	const files = [...manifest.files]
		.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
		.map((f) => ({
			path: f.path,
			size_bytes: f.size_bytes,
			sha256: f.sha256,
			part_size_bytes: f.part_size_bytes,
			xxh64: f.xxh64,
		}));
	return JSON.stringify({ files, total_bytes: manifest.total_bytes });
}
