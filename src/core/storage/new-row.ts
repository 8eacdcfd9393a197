/** The row of a copy that comes to be, whether it is received or adopted. */
import type { CopyKey, CopyRow } from "./copy-store.ts";
import type { SealedManifest } from "./sealed-manifest.ts";
import type { Shelf } from "./shelf.ts";

/** What is said of a copy when it comes. */
export interface NewCopy extends CopyKey {
	modelType: string;
	/** Without secrets. */
	sourceUrl: string | null;
	format: string;
}

/** Ready (or to be) from now on; nobody has used it or pinned it yet. */
export function newRow(
	{ clock }: Pick<Shelf, "clock">,
	{ tier, model, revision, modelType, sourceUrl, format }: NewCopy,
	{ contentId, manifest }: Pick<SealedManifest, "contentId" | "manifest">,
	own: Pick<CopyRow, "state" | "bootId" | "purpose" | "place" | "adoptedFrom">,
): CopyRow {
	return {
		tier,
		model,
		revision,
		modelType,
		sourceUrl,
		format,
		contentId,
		sizeBytes: manifest.total_bytes,
		readyAt: clock.nowMs() / 1000,
		lastUsedAt: null,
		pinned: false,
		...own,
	};
}
