/** The serving side of tags: those of a file's parts under the secret of a grant, made from the bytes that are read. */
import type { IoPool } from "../../platform/io-pool.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { partCount, partSizeBytes } from "../../schema/manifest.ts";
import { MAX_TAGS } from "../../schema/part-tags.ts";
import type { Storage } from "../storage/storage.ts";
import type { CheckedGrant } from "./grants.ts";
import { type ResolvedPart, resolvePart } from "./parts.ts";

export interface TagQuestion {
	contentId: string;
	fileIndex: number;
	/** Up to, not including, `end`. */
	first: number;
	end: number;
}

/**
 * What was made under a key once is told again as it was: two tags of different bytes with the same number would give
 * the key away.
 * @throws 404 model_not_found, file_not_found; 416 range_not_satisfiable; RESOURCE_UNAVAILABLE source_damaged
 */
export async function tagParts(
	{ storage, io }: { storage: Storage; io: IoPool },
	{ tagKey, tags }: Pick<CheckedGrant, "tagKey" | "tags">,
	question: TagQuestion,
	signal: AbortSignal,
): Promise<string[]> {
	const file = resolvePart({ storage, ...question });
	const parts = partsOf(file, question);
	const nameOf = (part: number): string => `${question.fileIndex} ${part}`;
	const missing = parts.filter((part) => !tags.has(nameOf(part)));
	if (missing.length > 0) {
		const input = {
			path: file.path,
			file: question.fileIndex,
			partSizeBytes: partSizeBytes(file.sizeBytes),
			parts: missing,
			key: tagKey,
		};
		const made = await io.tagParts(input, signal).catch((cause: unknown) => {
			signal.throwIfAborted();
			throw new GswarmError("RESOURCE_UNAVAILABLE", "This file cannot be read as its manifest says.", {
				reason: "source_damaged",
				cause,
			});
		});
		// Two who asked at once have made the same; the first word counts all the same.
		for (const [at, part] of missing.entries())
			if (!tags.has(nameOf(part))) tags.set(nameOf(part), made[at] ?? "");
	}
	return parts.map((part) => tags.get(nameOf(part)) ?? "");
}

function partsOf({ sizeBytes }: ResolvedPart, { first, end }: TagQuestion): number[] {
	const count = partCount(sizeBytes);
	if (first < end && end <= count && end - first <= MAX_TAGS)
		return Array.from({ length: end - first }, (_, at) => first + at);
	throw invalid(
		"range_not_satisfiable",
		`The parts ${first} to ${end} cannot be tagged: wanted at most ${MAX_TAGS} of the ${count} that there are.`,
		{ first, end },
	);
}
