/** The serving side: which file a peer's request for a part means. The route that answers is the agent's. */
import { parseSafePath } from "../../platform/safe-path.ts";
import { modelNotFound, notFound } from "../../schema/errors.ts";
import type { Storage } from "../storage/storage.ts";

export interface ResolvedPart {
	/** Absolute path. */
	path: string;
	/** As the manifest has it. */
	name: string;
	sizeBytes: number;
}

/**
 * The file with this index in the canonical manifest, in the fastest ready copy of this node.
 * @throws 404 model_not_found, file_not_found
 */
export function resolvePart({
	storage,
	contentId,
	fileIndex,
}: {
	storage: Storage;
	contentId: string;
	fileIndex: number;
}): ResolvedPart {
	const copies = storage.copies().filter((copy) => copy.content_id === contentId && copy.status === "ready");
	const copy = copies.find(({ tier }) => !storage.tier(tier).durable) ?? copies[0];
	const manifest = copy === undefined ? undefined : storage.manifest(contentId);
	if (copy === undefined || manifest === undefined) throw modelNotFound(contentId);
	const file = manifest.files[fileIndex];
	if (file === undefined) throw notFound("file", String(fileIndex));
	return {
		path: storage.fileOf(copy, parseSafePath(file.path)),
		name: file.path,
		sizeBytes: file.size_bytes,
	};
}
