/** A downloaded archive becomes the model's files. */
import { rm } from "node:fs/promises";
import { fileError } from "../../platform/durable-file.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { joinSafe } from "../../platform/safe-path.ts";
import { type ManifestFile, partSizeBytes } from "../../schema/manifest.ts";
import { unbundle } from "./unbundle.ts";
import { type ArchiveKind, extractArchive } from "../source/source.ts";

const MAX_FILES = 100_000;

export interface UnpackInput {
	path: string;
	kind: ArchiveKind;
	/** Emptied first: what an interrupted run left there is not trusted. */
	targetDirectory: string;
	maxBytes: number;
}

/** Unpacks, removes the archive, and hashes what came out of it. */
export async function unpackModel(
	io: IoPool,
	input: UnpackInput,
	signal: AbortSignal,
): Promise<ManifestFile[]> {
	const { path, kind, targetDirectory, maxBytes } = input;
	try {
		await rm(targetDirectory, { recursive: true, force: true });
		const limits = { maxFiles: MAX_FILES, maxBytes };
		const { files } = await extractArchive({ path, kind, targetDirectory, limits, signal });
		const entries: ManifestFile[] = [];
		for (const file of files) {
			const partSize = partSizeBytes(file.sizeBytes);
			const found = await io.hashFile(
				{
					path: joinSafe(targetDirectory, file.path),
					partSizeBytes: partSize,
					sizeBytes: file.sizeBytes,
					gitSha1: false,
				},
				signal,
			);
			entries.push({
				path: file.path,
				size_bytes: found.sizeBytes,
				sha256: found.sha256,
				part_size_bytes: partSize,
				xxh64: found.xxh64,
			});
		}
		await rm(path, { force: true });
		return await unbundle(targetDirectory, entries);
	} catch (error) {
		throw fileError(error, "Unpacking the archive");
	}
}
