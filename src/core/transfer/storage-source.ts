/** A copy on this node as a source, for disk → dram and back. */
import { parseSafePath } from "../../platform/safe-path.ts";
import { modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { Source, SourceFile } from "../source/source.ts";
import type { Storage } from "../storage/storage.ts";

/**
 * Holds the copy until it is disposed: `using source = storageSource(storage, copy, "copy to dram")`.
 * @throws 404 model_not_found when the copy is not ready
 */
export function storageSource(storage: Storage, copy: ModelCopy, why: string): Source & Disposable {
	const model = parseModelName(copy.model_name);
	const revision = parseRevision(copy.revision);
	const manifest = storage.manifest(copy.content_id);
	if (manifest === undefined) throw modelNotFound(model, copy.tier);
	const hold = storage.hold(model, revision, copy.tier, why, "copy");
	const files = manifest.files.map(
		(file): SourceFile => ({
			path: parseSafePath(file.path),
			sizeBytes: file.size_bytes,
			digest: { algorithm: "sha256", hex: file.sha256 },
			rangeable: true,
			parts: { partSizeBytes: file.part_size_bytes, xxh64: file.xxh64 },
		}),
	);
	return {
		localPath: (file) => storage.fileOf(copy, file.path),
		describe: () =>
			Promise.resolve({
				uri: `${copy.tier}:${model}@${revision}`,
				revision,
				// What a sealed manifest pins is all that is described.
				sourceId: copy.content_id,
				suggestedName: model,
				files,
				totalBytes: manifest.total_bytes,
				archive: undefined,
			}),
		read: (file, range) => {
			const whole = Bun.file(storage.fileOf(copy, file.path));
			return Promise.resolve((range === undefined ? whole : whole.slice(range.start, range.end)).stream());
		},
		[Symbol.dispose]: () => hold[Symbol.dispose](),
	};
}
