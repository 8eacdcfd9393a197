/** Which copy of this node a request means, and on which tier. */
import type { Storage } from "../../core/storage/storage.ts";
import { formatDevice, parseDevice } from "../../schema/device.ts";
import { asGswarmError, invalid, modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName } from "../../schema/names.ts";

/** The tier of a device of this node, as the storage room names it. */
export function tierOf(device: string): string {
	return formatDevice({ ...parseDevice(device), node: undefined });
}

/** The ready copy of a model on a tier; without a revision the newest. @throws 404 MODEL_NOT_FOUND naming the device */
export function requireCopy(
	storage: Storage,
	model: ModelName,
	tier: string,
	nodeName: string,
	revision?: string,
): ModelCopy {
	storage.tier(tier);
	const copy =
		revision === undefined
			? storage.copy(model, tier)
			: ofRevision(
					storage.copies().filter((c) => c.model_name === model && c.tier === tier),
					revision,
				);
	const what = revision === undefined ? model : `${model}@${revision}`;
	if (copy === undefined || copy.status !== "ready") throw modelNotFound(what, `${nodeName}:${tier}`);
	return copy;
}

/** The one of this revision, or the only one whose revision begins so. @throws 400 ambiguous_revision */
export function ofRevision(copies: readonly ModelCopy[], revision: string): ModelCopy | undefined {
	const exact = copies.find((c) => c.revision === revision);
	const [only, ...others] =
		exact === undefined ? copies.filter((c) => c.revision.startsWith(revision)) : [exact];
	if (others.length === 0) return only;
	const revisions = [only, ...others].map((c) => c?.revision);
	throw invalid("ambiguous_revision", `${JSON.stringify(revision)} begins several revisions.`, { revisions });
}

/**
 * What a task of a copy is submitted with: with dependencies the copy may not be there yet, and then it is looked for
 * when the task begins.
 */
export function copyNowOr(
	dependencies: readonly string[] | undefined,
	find: () => ModelCopy,
): ModelCopy | undefined {
	try {
		return find();
	} catch (error) {
		const mayCome = (dependencies ?? []).length > 0 && asGswarmError(error).code === "MODEL_NOT_FOUND";
		if (mayCome) return undefined;
		throw error;
	}
}
