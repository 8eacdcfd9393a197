/** Makes descriptions: checks the set of files and computes the source's identity. */
import { sha256Hex } from "../../platform/hash.ts";
import { foldPath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { ArchiveKind, SourceDescription, SourceFile } from "./contract.ts";

/** Far more than any model has; keeps a hostile list out of memory and rows. */
export const MAX_FILES = 100_000;

/** @throws INVALID_REQUEST unsafe_filename; RESOURCE_UNAVAILABLE too_large; TASK_FAILED no_files */
export function describeFiles(input: {
	uri: string;
	revision: Revision;
	suggestedName: ModelName;
	files: readonly SourceFile[];
	archive?: ArchiveKind | undefined;
}): SourceDescription {
	const { uri, revision, suggestedName, archive } = input;
	const files = [...input.files].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
	if (files.length === 0) {
		throw new GswarmError("TASK_FAILED", `${uri} has no files.`, { reason: "no_files" });
	}
	const problem = fileSetProblem(files.map(({ path }) => path));
	if (problem !== undefined) {
		throw new GswarmError("INVALID_REQUEST", `The files of ${uri} cannot be stored: ${problem}.`, {
			reason: "unsafe_filename",
		});
	}
	const totalBytes = files.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0);
	for (const { path, sizeBytes = 0 } of files) checkSize(path, sizeBytes);
	checkSize(uri, totalBytes);
	return { uri, revision, suggestedName, files, totalBytes, archive, sourceId: sourceId(revision, files) };
}

/** What keeps a set of safe paths from being stored side by side on every system, or undefined. */
export function fileSetProblem(paths: readonly string[]): string | undefined {
	if (paths.length > MAX_FILES) return `there are more than ${MAX_FILES}`;
	const files = new Set<string>();
	for (const path of paths) {
		const folded = foldPath(path);
		if (files.has(folded))
			return `${JSON.stringify(path)} is there twice (small and capital letters are alike)`;
		files.add(folded);
	}
	for (const path of paths) {
		const segments = path.split("/");
		for (let depth = 1; depth < segments.length; depth++) {
			const folder = segments.slice(0, depth).join("/");
			if (files.has(foldPath(folder))) return `${JSON.stringify(folder)} is a file and a folder`;
		}
	}
	return undefined;
}

/** A size that a source claims, as a whole number of bytes that can be computed with. */
function checkSize(what: string, sizeBytes: number): void {
	if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 0) return;
	throw new GswarmError("RESOURCE_UNAVAILABLE", `${what} claims ${sizeBytes} bytes; that fits nowhere.`, {
		reason: "too_large",
		details: { required: sizeBytes },
		status: 507,
	});
}

function sourceId(revision: Revision, files: readonly SourceFile[]): string {
	const rows = files.map(({ path, sizeBytes, digest }) => [
		path,
		sizeBytes ?? null,
		digest === undefined ? null : `${digest.algorithm}:${digest.hex}`,
	]);
	return sha256Hex(JSON.stringify([revision, rows]));
}
