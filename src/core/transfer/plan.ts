/** Which bytes to ask for, in which order: a description becomes files, what is missing of them becomes requests. */
import { parseSafePath, type SafePath } from "../../platform/safe-path.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { partCount, partSizeBytes } from "../../schema/manifest.ts";
import type { SourceDescription, SourceFile } from "../source/source.ts";
import { checkPlaces } from "../storage/storage.ts";

export interface PlannedFile {
	index: number;
	path: SafePath;
	source: SourceFile;
	sizeBytes: number | undefined;
	/** 0 for a file that comes as one stream: it has no parts that could be kept. */
	partSizeBytes: number;
	partCount: number;
}

/** One read of the source: parts `first` up to, not including, `end`; a whole stream has neither. */
export interface PlannedRequest {
	file: PlannedFile;
	parts: { first: number; end: number } | undefined;
	/** Undefined when the size is not known. */
	bytes: number | undefined;
}

export interface RequestLimits {
	streams: number;
	smallestBytes: number;
	largestBytes: number;
}

const MIB = 1024 * 1024;

/** Requests big enough that their cost does not count, small enough that every stream has some. */
export const WEB_REQUESTS: RequestLimits = { streams: 8, smallestBytes: 16 * MIB, largestBytes: 256 * MIB };
export const PEER_REQUESTS: RequestLimits = { streams: 4, smallestBytes: 16 * MIB, largestBytes: 64 * MIB };

/**
 * The files of a description, checked before the first byte. With `wholeFiles` each comes as one stream.
 * @throws INVALID_REQUEST unsafe_filename, bad_manifest, no_checksum_available
 */
export function planFiles(
	{ files, uri, archive }: SourceDescription,
	{ verifyChecksum, wholeFiles }: { verifyChecksum: boolean | undefined; wholeFiles: boolean },
): PlannedFile[] {
	if (files.length === 0) throw invalid("empty_source", `${uri} has no files.`);
	checkPlaces(files.map((file) => file.path));
	if (archive !== undefined && files.length !== 1) throw new Error("an archive is one file");
	return files.map((file, index) => {
		const path = parseSafePath(file.path);
		checkDigest(file, verifyChecksum);
		checkParts(file);
		const { sizeBytes } = file;
		const whole = sizeBytes === undefined || !file.rangeable || wholeFiles;
		return {
			index,
			path,
			source: file,
			sizeBytes,
			partSizeBytes: whole ? 0 : partSizeBytes(sizeBytes),
			partCount: whole ? 0 : partCount(sizeBytes),
		};
	});
}

/**
 * What to ask for: runs of missing parts, the largest file first, so that the last stream to end has little left and
 * the longest verification starts early.
 */
export function planRequests(
	files: readonly PlannedFile[],
	isThere: (file: PlannedFile, part: number) => boolean,
	limits: RequestLimits,
): PlannedRequest[] {
	const missing = files.map((file) => ({ file, parts: missingParts(file, isThere) }));
	const missingBytes = missing.reduce((sum, { file, parts }) => sum + parts.length * file.partSizeBytes, 0);
	const share = missingBytes / (limits.streams * 2);
	const wanted = Math.min(Math.max(share, limits.smallestBytes), limits.largestBytes);
	const bySize = missing.toSorted((a, b) => (b.file.sizeBytes ?? 0) - (a.file.sizeBytes ?? 0));
	return bySize.flatMap(({ file, parts }) =>
		file.partSizeBytes === 0
			? [{ file, parts: undefined, bytes: file.sizeBytes }]
			: runsOf(parts, Math.max(1, Math.floor(wanted / file.partSizeBytes))).map((run) =>
					requestFor(file, run),
				),
	);
}

/** One request for a run of parts of a file. */
export function requestFor(file: PlannedFile, parts: { first: number; end: number }): PlannedRequest {
	const { start, end } = byteRange(file, parts);
	return { file, parts, bytes: end - start };
}

export function byteRange(
	file: Pick<PlannedFile, "partSizeBytes" | "sizeBytes">,
	{ first, end }: { first: number; end: number },
): { start: number; end: number } {
	return {
		start: first * file.partSizeBytes,
		end: Math.min(end * file.partSizeBytes, file.sizeBytes ?? Number.MAX_SAFE_INTEGER),
	};
}

/** Neighbouring numbers as runs of at most `longest`. */
export function runsOf(parts: readonly number[], longest: number): { first: number; end: number }[] {
	const runs: { first: number; end: number }[] = [];
	for (const part of parts) {
		const last = runs.at(-1);
		if (last !== undefined && last.end === part && part - last.first < longest) last.end = part + 1;
		else runs.push({ first: part, end: part + 1 });
	}
	return runs;
}

function missingParts(file: PlannedFile, isThere: (file: PlannedFile, part: number) => boolean): number[] {
	return Array.from({ length: file.partCount }, (_, part) => part).filter((part) => !isThere(file, part));
}

function checkDigest({ path, digest, sizeBytes }: SourceFile, verifyChecksum: boolean | undefined): void {
	if (digest !== undefined) return;
	const unknownSize = sizeBytes === undefined && verifyChecksum !== false;
	if (verifyChecksum !== true && !unknownSize) return;
	throw new GswarmError(
		"INVALID_REQUEST",
		unknownSize
			? `The source tells neither the size nor a digest of ${path}: nobody could tell whether it came whole.`
			: `verify_checksum is on, but the source has no digest of ${path}.`,
		{
			reason: "no_checksum_available",
			details: { file: path },
			hint: "Give a checksum, or turn verify_checksum off.",
		},
	);
}

function checkParts({ path, parts, sizeBytes }: SourceFile): void {
	if (sizeBytes !== undefined && !Number.isSafeInteger(sizeBytes))
		throw badManifest(path, `its size is ${sizeBytes}`);
	if (parts === undefined) return;
	if (sizeBytes === undefined) throw badManifest(path, "it has parts but no size");
	const wanted = { size: partSizeBytes(sizeBytes), count: partCount(sizeBytes) };
	if (parts.partSizeBytes !== wanted.size || parts.xxh64.length !== wanted.count) {
		throw badManifest(
			path,
			`it has ${parts.xxh64.length} parts of ${parts.partSizeBytes} bytes, wanted ${wanted.count} of ${wanted.size}`,
		);
	}
}

function badManifest(path: string, problem: string): GswarmError {
	return invalid("bad_manifest", `The source's description of ${path} is refused: ${problem}.`, {
		file: path,
	});
}
