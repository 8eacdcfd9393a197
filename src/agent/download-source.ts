/** Which source a download uses: the one given, the registered one, or the hub for a name that reads as `org/name`. */
import { atRevision } from "../core/source/source.ts";
import { modelNotFound } from "../schema/errors.ts";
import { GswarmError } from "../schema/errors.ts";

/** @throws 404 MODEL_NOT_FOUND for a bare name that nothing is known of */
export function downloadSource(
	model: string,
	given: string | undefined,
	registered: string | undefined,
	revision?: string,
): string {
	const source = given ?? registered ?? (model.split("/").length === 2 ? `hf:${model}` : undefined);
	if (source !== undefined) return revision === undefined ? source : atRevision(source, revision);
	const { code, message, details, reason } = modelNotFound(model);
	throw new GswarmError(code, message, {
		details,
		...(reason === undefined ? {} : { reason }),
		hint: `Name its source: \`gswarm model download ${model} --source hf:org/name\` (or https://…/${model}.gguf), or use a hub name such as \`org/${model}\`.`,
	});
}
