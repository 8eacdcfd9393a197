/** A received file against what its source claims and what was hashed while it came. */
import { fileError } from "../../platform/durable-file.ts";
import type { FileDigests } from "../../platform/io-jobs.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { GswarmError } from "../../schema/errors.ts";
import { partSizeBytes } from "../../schema/manifest.ts";
import type { Follower } from "./follower.ts";
import type { FileRow } from "./journal.ts";
import type { PlannedFile } from "./plan.ts";

export interface VerifyInput {
	file: PlannedFile;
	/** Absolute. */
	path: string;
	sizeBytes: number;
	/** XXH64 of the parts as they came; undefined for a file that came as one stream. */
	landed: ReadonlyMap<number, string> | undefined;
	/** The part digests of a sealed manifest, all compared already, stand for the whole. */
	trustPartDigests: boolean;
	/** Under which its parts are tagged in the same pass. */
	tagKey: string | undefined;
}

/** Whole and right, or what is wrong with it and which parts to fetch again (undefined: all). */
export type Verdict =
	| { row: FileRow; tags?: readonly string[] | undefined }
	| { problem: Problem; badParts: number[] | undefined };

export interface Problem {
	wanted: string;
	got: string;
}

export async function verifyFile(
	io: IoPool,
	input: VerifyInput,
	{ follower, signal }: { follower: Pick<Follower, "digests"> | undefined; signal: AbortSignal },
): Promise<Verdict> {
	const { file, sizeBytes, tagKey } = input;
	const { digest, parts } = file.source;
	if (input.trustPartDigests && digest?.algorithm === "sha256" && parts !== undefined) {
		return { row: { fileIndex: file.index, sizeBytes, sha256: digest.hex, xxh64: [...parts.xxh64] } };
	}
	const followed = input.landed === undefined ? undefined : await follower?.digests(file);
	if (followed !== undefined) {
		// Read with the source's digest alone, the parts' digests are those of the bytes as they came.
		const xxh64 = followed.xxh64.length > 0 ? followed.xxh64 : inOrder(input.landed, file.partCount);
		const verdict = judge(input, { ...followed, xxh64 });
		if ("row" in verdict) return verdict;
	}
	// Read again, part by part: that tells which of them to fetch again.
	const path = input.path;
	const gitSha1 = digest?.algorithm === "git-sha1";
	const found = await io
		.hashFile({ path, partSizeBytes: partSizeBytes(sizeBytes), sizeBytes, gitSha1, tagKey }, signal)
		.catch((error: unknown) => {
			throw fileError(error, `Reading ${file.path}`);
		});
	return judge(input, found);
}

function judge({ file, sizeBytes, landed }: VerifyInput, found: FileDigests): Verdict {
	const { digest } = file.source;
	const badParts = [...(landed ?? [])].flatMap(([part, xxh64]) =>
		found.xxh64[part] === xxh64 ? [] : [part],
	);
	if (found.sizeBytes !== sizeBytes) {
		return {
			problem: { wanted: `${sizeBytes} bytes`, got: `${found.sizeBytes} bytes` },
			badParts: undefined,
		};
	}
	if (badParts.length > 0) {
		const part = badParts[0] ?? 0;
		const wanted = `xxh64 ${landed?.get(part)} of part ${part}`;
		return { problem: { wanted, got: `xxh64 ${found.xxh64[part]}` }, badParts };
	}
	const got = digest?.algorithm === "git-sha1" ? found.gitSha1 : found.sha256;
	if (digest !== undefined && got !== digest.hex.toLowerCase()) {
		return {
			problem: { wanted: `${digest.algorithm} ${digest.hex}`, got: `${digest.algorithm} ${got}` },
			badParts: undefined,
		};
	}
	return {
		row: { fileIndex: file.index, sizeBytes, sha256: found.sha256, xxh64: found.xxh64 },
		tags: found.tags,
	};
}

function inOrder(landed: ReadonlyMap<number, string> | undefined, count: number): string[] {
	return Array.from({ length: count }, (_, part) => landed?.get(part) ?? "");
}

/** The bytes are not those that the source promised; asking again did not help. */
export function checksumMismatch(path: string, { wanted, got }: Problem): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`${path} is not what its source promised: wanted ${wanted}, got ${got}.`,
		{
			reason: "checksum_mismatch",
			details: { file: path, wanted, got },
			hint: "Nothing was kept. If it happens again, the source is damaged: use another one.",
		},
	);
}
