/** The serving side: which file a peer's request for a part means. The route that answers is the agent's. */
import type { Storage } from "../storage/storage.ts";

export interface ResolvedPart {
	/** Absolute path. */
	path: string;
	sizeBytes: number;
}

/**
 * The file with this index in the manifest, in the fastest ready copy of this node.
 * @throws 404 model_not_found, part_not_found
 */
export function resolvePart(_input: {
	storage: Storage;
	contentId: string;
	fileIndex: number;
}): ResolvedPart {
	throw new Error("not built yet");
}
