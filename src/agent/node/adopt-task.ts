/**
 * A model that lies on this node already becomes one of its copies: every file of it is read once, for the digests
 * that the manifest has and to compare with those that its layout promises, and nothing of it is written.
 */
import type { BigIntStats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import type { TaskContext } from "../../core/queue/queue.ts";
import { detectModel, findModel, type FoundModel, type SourceContext } from "../../core/source/source.ts";
import type { AdoptedFile, Storage } from "../../core/storage/storage.ts";
import { linkFiles } from "./adopt-link.ts";
import { atBeneath, openBeneath } from "../../platform/beneath.ts";
import { fileError } from "../../platform/durable-file.ts";
import { identityOf } from "../../platform/file-identity.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { GswarmError } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest, type ManifestFile, partSizeBytes } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";

export interface AdoptRequest {
	model_name: string;
	path: string;
	device: string;
	/** null: guess. */
	model_type: string | null;
	/** It becomes the store's own by links. Left out: it stays where it lies. */
	link?: boolean;
}

export interface AdoptDependencies {
	storage: Storage;
	io: IoPool;
	sources: SourceContext;
}

type FoundFile = FoundModel["files"][number];

/** Digests of a file as it was; what an earlier attempt has read is not read again. */
interface ReadFile {
	identity: string;
	file: ManifestFile;
}

/** Reading less again is not worth a row. */
const KEPT_BYTES = 256 * 1024 * 1024;

/** @throws INVALID_REQUEST not_adoptable, …; CONFLICT copy_exists, source_changed; TASK_FAILED checksum_mismatch */
export async function adoptTask(
	{ storage, io, sources }: AdoptDependencies,
	context: TaskContext,
	tier: string,
): Promise<ModelCopy> {
	const request = context.request as unknown as AdoptRequest;
	const { importDirectories = [] } = sources;
	context.report({ phase: "resolving" });
	const found = await findModel(request.path, { importDirectories }, context.signal);
	const bytesTotal = found.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
	const kept = new Map(Object.entries((context.state?.["files"] ?? {}) as Record<string, ReadFile>));
	const files: ManifestFile[] = [];
	const adopted: AdoptedFile[] = [];
	let bytesDone = 0;
	for (const one of found.files) {
		context.signal.throwIfAborted();
		const { path, realPath } = one;
		const report = (bytes: number): void =>
			context.report({ phase: "verifying", bytesDone: bytesDone + bytes, bytesTotal });
		report(0);
		const read = await readOne(io, found.folder, one, {
			kept: kept.get(path),
			report,
			signal: context.signal,
		});
		bytesDone += one.sizeBytes;
		files.push(read.file);
		adopted.push({ path, realPath, identity: read.identity });
		if (one.sizeBytes < KEPT_BYTES || kept.get(path)?.identity === read.identity) continue;
		kept.set(path, read);
		await context.saveState({ files: Object.fromEntries(kept) });
	}
	context.report({ phase: "publishing", bytesDone, bytesTotal });
	const manifest = { files, total_bytes: bytesTotal };
	const places = new Map(found.files.map(({ path, realPath }) => [path, realPath]));
	const detected = await detectModel(io, (path) => places.get(path) ?? "", files, context.signal);
	const what = {
		tier,
		model: parseModelName(request.model_name),
		revision: found.revision ?? revisionOf(manifest),
		manifest,
		modelType: request.model_type ?? detected.model_type,
		sourceUrl: found.sourceUrl,
		format: detected.format,
		detected,
	};
	if (request.link === true) {
		const transferId = context.taskId;
		await linkFiles(adopted, await storage.openStaging(tier, transferId));
		return await storage.publish({ ...what, transferId });
	}
	return await storage.adopt({
		...what,
		adoption: { kind: found.kind, folder: found.folder, path: found.path, files: adopted },
	});
}

/** The digests of a file that is the same before and after it was read. */
async function readOne(
	io: IoPool,
	folder: string,
	{ path, realPath, sizeBytes, digest }: FoundFile,
	{
		kept,
		report,
		signal,
	}: { kept: ReadFile | undefined; report: (bytes: number) => void; signal: AbortSignal },
): Promise<ReadFile> {
	try {
		const before = await look(folder, realPath, path);
		if (kept?.identity === before) return kept;
		const partSize = partSizeBytes(sizeBytes);
		const gitSha1 = digest?.algorithm === "git-sha1";
		const input = { partSizeBytes: partSize, sizeBytes, gitSha1 };
		// By no path that somebody could lead elsewhere meanwhile.
		const got = await reached(path, () =>
			atBeneath(folder, realPath, (place) => io.hashFile({ ...input, path: place }, signal, report)),
		);
		if ((await look(folder, realPath, path)) !== before || got.sizeBytes !== sizeBytes) throw changed(path);
		const hex = gitSha1 ? got.gitSha1 : got.sha256;
		if (digest !== undefined && digest.hex !== hex) throw mismatch(path, digest.hex, hex ?? "");
		return {
			identity: before,
			file: {
				path,
				size_bytes: sizeBytes,
				sha256: got.sha256,
				part_size_bytes: partSize,
				xxh64: got.xxh64,
			},
		};
	} catch (error) {
		signal.throwIfAborted();
		throw fileError(error, `Reading ${path}`);
	}
}

/** What the file is now, reached without following a link anywhere below the import folder. */
async function look(folder: string, realPath: string, path: string): Promise<string> {
	const handle: FileHandle = await reached(path, () => openBeneath(folder, realPath));
	try {
		const stats: BigIntStats = await handle.stat({ bigint: true });
		if (!stats.isFile()) throw changed(path);
		return identityOf(stats);
	} finally {
		await handle.close();
	}
}

/** What cannot be reached any more as it was found has changed. */
async function reached<T>(path: string, work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ELOOP" || code === "ENOTDIR" || code === "ENOENT") throw changed(path, error);
		throw error;
	}
}

/** Of what has no revision of its own; the same content has the same. */
function revisionOf(manifest: Manifest): ReturnType<typeof parseRevision> {
	return parseRevision(`content-${sha256Hex(canonicalManifest(manifest)).slice(0, 40)}`);
}

function changed(path: string, cause?: unknown): GswarmError {
	return new GswarmError("CONFLICT", `${path} changed while it was read.`, {
		reason: "source_changed",
		details: { file: path },
		hint: "Adopt it again when nobody writes to it.",
		cause,
	});
}

function mismatch(path: string, wanted: string, got: string): GswarmError {
	return new GswarmError("TASK_FAILED", `${path} is not what its name says: wanted ${wanted}, got ${got}.`, {
		reason: "checksum_mismatch",
		details: { file: path, wanted, got },
		hint: "It is damaged, or was never whole. Let the program that owns it fetch it again, or download the model.",
	});
}
