/** A copy at rest against its manifest: the whole of it, or a sample of its parts. */
import { lstat } from "node:fs/promises";
import { fileError } from "../../platform/durable-file.ts";
import { xxh64Hex } from "../../platform/hash.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { parseSafePath, type SafePath } from "../../platform/safe-path.ts";
import type { Manifest, ManifestFile } from "../../schema/manifest.ts";

export interface VerifyOptions {
	/** Reads so many percent of the parts, at least one; undefined: all. */
	samplePercent?: number | undefined;
	/** Chooses the sample: the same seed reads the same parts. */
	seed?: string | undefined;
	/** Compares the sha256 of whole files too; not with a sample. */
	sha256?: boolean | undefined;
	/** Hears now and then how many of how many bytes were read. */
	onBytes?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
}

export interface DamagedFile {
	path: string;
	/** Undefined: the whole file counts as damaged. */
	parts: number[] | undefined;
	problem: string;
}

export interface VerifyReport {
	/** Files whose bytes are not those of the manifest; empty: what was read is right. */
	damaged: DamagedFile[];
	bytesChecked: number;
	partsChecked: number;
	partsTotal: number;
}

/** Which parts of which file (by its place in the manifest) to read. */
export type PartChoice = ReadonlyMap<number, readonly number[]>;

/**
 * Every part, or those that the seed draws: the share is of all parts of the model, so that every part of a big and of
 * a small file is as likely as any other.
 */
export function choosePartsToRead(
	{ files }: Manifest,
	{ samplePercent, seed = "" }: Pick<VerifyOptions, "samplePercent" | "seed">,
): PartChoice {
	const all = files.flatMap((file, index) => file.xxh64.map((_, part) => ({ index, part })));
	const chosen = samplePercent === undefined ? all : draw(all, samplePercent, seed);
	const byFile = new Map<number, number[]>();
	for (const { index, part } of chosen) byFile.set(index, [...(byFile.get(index) ?? []), part]);
	return byFile;
}

/** Reads a published copy, whose files are where `fileAt` says. Sizes of all files are looked at, whatever the sample. */
export async function verifyFiles(
	io: IoPool,
	fileAt: (path: SafePath) => string,
	manifest: Manifest,
	options: VerifyOptions,
	signal: AbortSignal,
): Promise<VerifyReport> {
	const choice = choosePartsToRead(manifest, options);
	const partsTotal = manifest.files.reduce((sum, file) => sum + file.xxh64.length, 0);
	let bytesTotal = 0;
	for (const [index, parts] of choice) bytesTotal += bytesOf(manifest.files[index], parts);
	const report: VerifyReport = { damaged: [], bytesChecked: 0, partsChecked: 0, partsTotal };
	for (const [index, file] of manifest.files.entries()) {
		signal.throwIfAborted();
		const parts = choice.get(index) ?? [];
		const path = fileAt(parseSafePath(file.path));
		const before = report.bytesChecked;
		const onBytes = (bytes: number): void => options.onBytes?.(before + bytes, bytesTotal);
		const found =
			(await placeProblem(path, file)) ?? (await read(io, path, file, parts, options, onBytes, signal));
		if (found !== undefined) report.damaged.push({ path: file.path, ...found });
		report.bytesChecked += bytesOf(file, parts);
		report.partsChecked += parts.length;
		options.onBytes?.(report.bytesChecked, bytesTotal);
	}
	return report;
}

type Damage = Omit<DamagedFile, "path">;

/** What a directory entry tells without reading the file. */
async function placeProblem(path: string, file: ManifestFile): Promise<Damage | undefined> {
	try {
		const info = await lstat(path);
		if (!info.isFile()) return { parts: undefined, problem: "it is no regular file" };
		if (info.size === file.size_bytes) return undefined;
		return { parts: undefined, problem: `it has ${info.size} bytes, wanted ${file.size_bytes}` };
	} catch (error) {
		return unreadable(error, file.path);
	}
}

async function read(
	io: IoPool,
	path: string,
	file: ManifestFile,
	parts: readonly number[],
	{ sha256 = false }: VerifyOptions,
	onBytes: (bytes: number) => void,
	signal: AbortSignal,
): Promise<Damage | undefined> {
	if (parts.length === 0 && !(sha256 && file.size_bytes === 0)) return undefined;
	const { part_size_bytes: partSizeBytes, size_bytes: sizeBytes } = file;
	try {
		const found = sha256
			? await io.hashFile({ path, partSizeBytes, sizeBytes, gitSha1: false }, signal, onBytes)
			: { sha256: file.sha256, xxh64: await io.hashParts({ path, partSizeBytes, parts }, signal, onBytes) };
		const bad = parts.filter((part, at) => found.xxh64[at] !== file.xxh64[part]);
		const [first] = bad;
		if (first !== undefined) {
			const got = found.xxh64[parts.indexOf(first)] ?? "nothing";
			return { parts: bad, problem: `part ${first} has the digest ${got}, wanted ${file.xxh64[first]}` };
		}
		if (found.sha256 === file.sha256) return undefined;
		return { parts: undefined, problem: `it has the sha256 ${found.sha256}, wanted ${file.sha256}` };
	} catch (error) {
		signal.throwIfAborted();
		return unreadable(error, file.path);
	}
}

/** What the disk no longer gives is as damaged as what it gives wrong; what else may be the matter is not known here. */
function unreadable(error: unknown, path: string): Damage {
	const { code } = error as NodeJS.ErrnoException;
	if (code === "ENOENT" || code === "ENOTDIR") return { parts: undefined, problem: "it is missing" };
	if (code === "ELOOP") return { parts: undefined, problem: "it is no regular file" };
	if (code === "EIO") return { parts: undefined, problem: "the device cannot read it (EIO)" };
	throw fileError(error, `Reading ${path}`);
}

function bytesOf(file: ManifestFile | undefined, parts: readonly number[]): number {
	if (file === undefined) return 0;
	const { part_size_bytes: partSize, size_bytes: size } = file;
	return parts.reduce((sum, part) => sum + Math.min(partSize, size - part * partSize), 0);
}

/** The parts whose hashes with the seed are the smallest, in their order. */
function draw<T extends { index: number; part: number }>(
	all: readonly T[],
	percent: number,
	seed: string,
): T[] {
	const count = Math.min(all.length, Math.max(1, Math.ceil((all.length * percent) / 100)));
	const text = new TextEncoder();
	const lots = all.map((one) => ({ one, lot: xxh64Hex(text.encode(`${seed} ${one.index} ${one.part}`)) }));
	lots.sort((a, b) => (a.lot < b.lot ? -1 : a.lot > b.lot ? 1 : 0));
	return lots
		.slice(0, count)
		.map(({ one }) => one)
		.sort((a, b) => a.index - b.index || a.part - b.part);
}
