/** Whether what a transfer would bring is there already. */
import { GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { SourceDescription } from "../source/source.ts";
import type { Storage } from "../storage/storage.ts";

/**
 * The copy that is there already, when it is what the source describes.
 * @throws CONFLICT copy_exists when it is not
 */
export function existingCopy(
	storage: Storage,
	{ tier, model, revision }: { tier: string; model: ModelName; revision: Revision },
	{ files, archive }: SourceDescription,
): ModelCopy | undefined {
	const copy = storage.copy(model, tier, revision);
	if (copy?.status !== "ready") return undefined;
	const manifest = storage.manifest(copy.content_id);
	const there = new Map(manifest?.files.map((file) => [file.path, file]));
	const differs = files.some(({ path, sizeBytes, digest }) => {
		const file = there.get(path);
		if (file === undefined || file.size_bytes !== (sizeBytes ?? file.size_bytes)) return true;
		return digest?.algorithm === "sha256" && digest.hex.toLowerCase() !== file.sha256;
	});
	if (archive !== undefined || (!differs && there.size === files.length)) return copy;
	throw new GswarmError(
		"CONFLICT",
		`${model}@${revision} is on ${tier} already with other files than the source has.`,
		{
			reason: "copy_exists",
			details: { content_id: copy.content_id },
			hint: "Use another revision or name, or delete the copy that is there.",
		},
	);
}
