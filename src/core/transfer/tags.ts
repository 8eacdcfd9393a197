/**
 * Tags of the parts that this node has, for receivers without TLS: each under the secret of its content. Those of
 * files that are hashed or compared anyway while they are received are made in the same pass; others when somebody
 * asks, from the bytes that are read. They live in memory, and after a restart there are other secrets.
 */
import { fileTagKey } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { partCount, partSizeBytes } from "../../schema/manifest.ts";
import { MAX_TAGS } from "../../schema/part-tags.ts";
import type { Storage } from "../storage/storage.ts";
import { type ResolvedPart, resolvePart } from "./parts.ts";

export interface Tags {
	/** The secret of this content, for those to whom the host gives it over TLS. */
	keyOf(contentId: string): string;
	/** Under a secret that its source has given, or one of its own. */
	collect(key: string | undefined): TagCollection;
	/**
	 * What was made under a key once is told again as it was: two tags of different bytes with the same number would
	 * give the key away.
	 * @throws 404 model_not_found, file_not_found; 416 range_not_satisfiable; RESOURCE_UNAVAILABLE source_damaged
	 */
	parts(key: string, question: TagQuestion, signal: AbortSignal): Promise<string[]>;
}

/** What is tagged while it is received. */
export interface TagCollection {
	keyOf(path: string): string;
	/** Of all parts of a file. */
	add(path: string, tags: readonly string[]): void;
	/** It has become this content: from now on its parts are given under this secret. */
	sealed(contentId: string): void;
}

export interface TagQuestion {
	contentId: string;
	fileIndex: number;
	/** Up to, not including, `end`. */
	first: number;
	end: number;
}

/** The oldest go first; who still has their secret makes its tags anew. */
export const MAX_TAGGED_CONTENTS = 256;
/** Of a secret, about 256 bits. */
const SECRET_LENGTH = 43;

/** By path and part. */
type Made = Map<string, Map<number, string>>;

export function createTags({ storage, io, ids }: { storage: Storage; io: IoPool; ids: Ids }): Tags {
	const keys = new Map<string, string>();
	const made = new Map<string, Made>();
	const open = (contentId: string, key: string): void => {
		for (const [oldest, before] of keys) {
			if (keys.size < MAX_TAGGED_CONTENTS) break;
			keys.delete(oldest);
			made.delete(before);
		}
		keys.set(contentId, key);
	};
	/** Secrets of no content any more, of whom a grant still knows. */
	const dropOrphans = (but: string): void => {
		const current = new Set(keys.values());
		for (const key of made.keys()) if (key !== but && !current.has(key)) made.delete(key);
	};
	const tagsOf = (key: string, path: string): Map<number, string> => {
		const files: Made = made.get(key) ?? new Map();
		made.set(key, files);
		if (made.size > MAX_TAGGED_CONTENTS) dropOrphans(key);
		const tags = files.get(path) ?? new Map<number, string>();
		files.set(path, tags);
		return tags;
	};
	return {
		keyOf(contentId) {
			const known = keys.get(contentId);
			if (known !== undefined) return known;
			const key = ids.secret(SECRET_LENGTH);
			open(contentId, key);
			return key;
		},
		collect(given) {
			const key = given ?? ids.secret(SECRET_LENGTH);
			const files = new Map<string, readonly string[]>();
			return {
				keyOf: (path) => fileTagKey(key, path),
				add: (path, tags) => void files.set(path, tags),
				sealed(contentId) {
					// Somebody may have been given another one, for another copy of the same.
					if (keys.has(contentId)) return;
					open(contentId, key);
					for (const [path, list] of files) {
						const tags = tagsOf(key, path);
						for (const [part, tag] of list.entries()) tags.set(part, tag);
					}
				},
			};
		},
		async parts(key, question, signal) {
			const file = resolvePart({ storage, ...question });
			const parts = partsOf(file, question);
			const tags = tagsOf(key, file.name);
			const missing = parts.filter((part) => !tags.has(part));
			if (missing.length > 0) {
				const digests = storage.manifest(question.contentId)?.files[question.fileIndex]?.xxh64 ?? [];
				const input = {
					path: file.path,
					partSizeBytes: partSizeBytes(file.sizeBytes),
					parts: missing,
					wanted: missing.map((part) => digests[part] ?? ""),
					key: fileTagKey(key, file.name),
				};
				const found = await io.tagParts(input, signal).catch((cause: unknown) => {
					signal.throwIfAborted();
					throw new GswarmError("RESOURCE_UNAVAILABLE", "This file cannot be read as its manifest says.", {
						reason: "source_damaged",
						cause,
					});
				});
				// Of two who asked at once the first word counts.
				for (const [at, part] of missing.entries()) if (!tags.has(part)) tags.set(part, found[at] ?? "");
			}
			return parts.map((part) => tags.get(part) ?? "");
		},
	};
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
