/**
 * A copy of this node goes to a bucket, with its manifest beside it, written last. Every part of a file is compared
 * with its digest before it is sent, so that no damage is passed on, and the service refuses what arrives otherwise.
 * A run after a crash asks the service what it has: whole objects and parts with the right ETag are not sent again.
 * What is below the prefix already and is not of this copy is never overwritten unless that was asked for.
 */
import type { Clock } from "../../platform/clock.ts";
import { fileError } from "../../platform/durable-file.ts";
import { xxh64Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import { inLanes } from "../../platform/lanes.ts";
import type { Log } from "../../platform/log.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, modelNotFound } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest, type ManifestFile } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import { BUCKET_MANIFEST, type BucketWriter, type PartBytes } from "../source/source.ts";
import type { Storage } from "../storage/storage.ts";
import type { Bandwidth } from "./bandwidth.ts";
import { createMeter, type Meter, type TransferProgress } from "./progress.ts";
import type { Throttle } from "./throttle.ts";

export interface UploadInput {
	/** Stable over restarts: the task's id. */
	transferId: string;
	copy: ModelCopy;
	writer: BucketWriter;
	/** As people know the target. */
	target: string;
	/** Other objects below the prefix are replaced where they are in the way. */
	overwrite: boolean;
	/** Bytes per second. */
	bandwidthLimit?: number | undefined;
	onProgress?: ((progress: TransferProgress) => void) | undefined;
	/** An abort whose reason is a retryable GswarmError keeps the parts at the service for the next run. */
	signal: AbortSignal;
}

export interface Uploaded {
	files: number;
	sizeBytes: number;
	/** Not sent, because the service had them. */
	bytesThere: number;
}

/** What the files of one upload share. */
interface Line extends UploadInput {
	throttle: Throttle;
	meter: Meter;
}

interface Dependencies {
	storage: Storage;
	clock: Clock;
	ids: Ids;
	log: Log;
	/** Of all that this node sends. */
	up: Bandwidth;
}

/** In memory at once, whatever the parts' size. */
const MAX_BYTES_AT_ONCE = 128 * 1024 * 1024;
const MOST_LANES = 4;
/** Of one object; S3's limit is 10,000. */
const MAX_PARTS = 10_000;
const TRIES = 4;
const FIRST_PAUSE_MS = 500;
const BEGIN_TIMEOUT_MS = 30_000;
/** What is hashed without giving way to other work. */
const HASH_BYTES = 2 * 1024 * 1024;

/** @throws GswarmError; reasons target_not_empty, copy_damaged, upload_mismatch, and those of the service */
export async function uploadCopy(d: Dependencies, input: UploadInput): Promise<Uploaded> {
	const { copy, writer, target, signal } = input;
	const meter = createMeter(d, input.onProgress ?? (() => {}));
	using throttle = d.up.join(input.transferId, input.bandwidthLimit);
	const line = { ...input, meter, throttle };
	const manifest = d.storage.manifest(copy.content_id);
	if (manifest === undefined) throw modelNotFound(copy.model_name, copy.tier);
	const held = [parseModelName(copy.model_name), parseRevision(copy.revision)] as const;
	using hold = d.storage.hold(...held, copy.tier, `being uploaded to ${target}`, "read");
	void hold;
	const there = await writer.list(manifest.files.length * 2 + 1000, signal);
	refuseOthers(there, manifest, target);
	meter.begin(0, manifest.total_bytes);
	meter.enter("uploading");
	let bytesThere = 0;
	for (const file of manifest.files) {
		const path = d.storage.fileOf(copy, parseSafePath(file.path));
		const found = there.get(file.path);
		const upload = createFileUpload(d, line, file, path);
		const known =
			found?.sizeBytes === file.size_bytes && found.etag === (await upload.expectedEtag(found.etag));
		if (known) {
			bytesThere += file.size_bytes;
			meter.add(file.size_bytes);
			continue;
		}
		if (found !== undefined && !input.overwrite) throw notEmpty(target, file.path);
		bytesThere += await upload.send();
	}
	meter.enter("verifying");
	await checkAll(writer, manifest, target, signal);
	meter.enter("publishing");
	const text = new TextEncoder().encode(canonicalManifest(manifest));
	await again(d, signal, async () => writer.put(BUCKET_MANIFEST, await hashed(text), signal));
	return { files: manifest.files.length, sizeBytes: manifest.total_bytes, bytesThere };
}

/** What is there and does not belong to this copy stays as it is. */
function refuseOthers(there: ReadonlyMap<string, unknown>, manifest: Manifest, target: string): void {
	const ours = new Set([...manifest.files.map(({ path }) => path), BUCKET_MANIFEST]);
	// With other objects beside it the manifest would not fit, so that overwriting does not help here.
	const other = [...there.keys()].find((path) => !ours.has(path) && !path.endsWith("/"));
	if (other !== undefined) throw notEmpty(target, other);
}

interface FileUpload {
	/** The ETag that the whole object has when it is this file; undefined when the form of `like` tells nothing. */
	expectedEtag(like: string): Promise<string | undefined>;
	/** Sends what is missing; the bytes that were there. */
	send(): Promise<number>;
}

function createFileUpload(d: Dependencies, input: Line, file: ManifestFile, path: string): FileUpload {
	const { writer, signal, meter, throttle } = input;
	const partBytes = file.part_size_bytes * Math.ceil(Math.max(1, file.xxh64.length) / MAX_PARTS);
	const count = Math.ceil(file.size_bytes / partBytes);
	const read = async (number: number): Promise<PartBytes & { md5: string }> => {
		const start = (number - 1) * partBytes;
		const bytes = await readPart(path, start, Math.min(file.size_bytes, start + partBytes));
		checkDigests(file, bytes, start);
		return await hashed(bytes);
	};
	const sendWhole = async (): Promise<void> => {
		const part = await read(1);
		await throttle.pass(part.bytes.length, signal);
		const etag = await again(d, signal, () => writer.put(file.path, part, signal));
		checkEtag(file.path, etag, part.md5);
		meter.add(part.bytes.length);
	};
	const sendParts = async (): Promise<number> => {
		const found = await writer.unfinished(file.path, signal).catch((error: unknown) => {
			signal.throwIfAborted();
			// Who may write need not be allowed to list: it begins anew.
			d.log.debug("upload.not_listed", { file: file.path, error });
			return undefined;
		});
		signal.throwIfAborted();
		// What is begun has to be known to be dropped, so that its answer is waited for whoever has gone.
		const begin = (): Promise<string> => writer.begin(file.path, AbortSignal.timeout(BEGIN_TIMEOUT_MS));
		const id = found?.id ?? (await again(d, signal, begin));
		let bytesThere = 0;
		try {
			const lanes = Math.max(1, Math.min(MOST_LANES, Math.floor(MAX_BYTES_AT_ONCE / partBytes)));
			const etags = await inLanes(count, lanes, async (at) => {
				const number = at + 1;
				signal.throwIfAborted();
				const part = await read(number);
				const known = found?.parts.get(number);
				if (known === `"${part.md5}"`) {
					bytesThere += part.bytes.length;
					meter.add(part.bytes.length);
					return known;
				}
				await throttle.pass(part.bytes.length, signal);
				signal.throwIfAborted();
				const etag = await again(d, signal, () => writer.putPart(file.path, { id, number }, part, signal));
				checkEtag(file.path, etag, part.md5);
				meter.add(part.bytes.length);
				return etag;
			});
			const parts = etags.map((etag, at) => ({ number: at + 1, etag }));
			await again(d, signal, () => writer.complete(file.path, id, parts, signal));
			return bytesThere;
		} catch (error) {
			if (!isForLater(error, signal)) await abandon(d, writer, file.path, id);
			throw error;
		}
	};
	return {
		async expectedEtag(like) {
			const parts = /^"[0-9a-f]{32}(?:-(\d+))?"$/.exec(like);
			if (parts === null) return undefined;
			if (count <= 1) return parts[1] === undefined ? `"${(await read(1)).md5}"` : undefined;
			if (parts[1] !== String(count)) return undefined;
			const whole = new Bun.CryptoHasher("md5");
			for (let number = 1; number <= count; number++) {
				signal.throwIfAborted();
				whole.update(Buffer.from((await read(number)).md5, "hex"));
			}
			return `"${whole.digest("hex")}-${count}"`;
		},
		async send() {
			if (count > 1) return await sendParts();
			await sendWhole();
			return 0;
		},
	};
}

/** The queue runs it again: what is at the service stays there. */
function isForLater(error: unknown, signal: AbortSignal): boolean {
	const reason: unknown = signal.aborted ? signal.reason : error;
	return reason instanceof GswarmError && reason.retryable;
}

async function abandon(d: Dependencies, writer: BucketWriter, path: string, id: string): Promise<void> {
	const limit = AbortSignal.timeout(10_000);
	await writer.abandon(path, id, limit).catch((error: unknown) => {
		// The failure that ended the upload is the one to tell.
		d.log.warn("upload.not_abandoned", { file: path, error });
	});
}

/** Sizes as the service lists them, once everything has been sent. */
async function checkAll(
	writer: BucketWriter,
	manifest: Manifest,
	target: string,
	signal: AbortSignal,
): Promise<void> {
	const there = await writer.list(manifest.files.length * 2 + 1000, signal);
	for (const { path, size_bytes: size } of manifest.files) {
		const got = there.get(path)?.sizeBytes;
		if (got !== size)
			throw mismatch(`${target}/${path}`, `${size} bytes`, got === undefined ? "nothing" : `${got} bytes`);
	}
}

/** A service that encrypts with keys of its own has other ETags; its refusal of wrong bytes has to do there. */
function checkEtag(path: string, etag: string, md5: string): void {
	if (/^"[0-9a-f]{32}"$/.test(etag) && etag !== `"${md5}"`) throw mismatch(path, `MD5 ${md5}`, etag);
}

async function readPart(path: string, start: number, end: number): Promise<Uint8Array> {
	try {
		return new Uint8Array(await Bun.file(path).slice(start, end).arrayBuffer());
	} catch (error) {
		throw fileError(error, "Reading the copy");
	}
}

/** @throws TASK_FAILED copy_damaged: what is on this disk is not what was sealed */
function checkDigests(
	{ path, part_size_bytes: size, xxh64, size_bytes: total }: ManifestFile,
	bytes: Uint8Array,
	start: number,
): void {
	const wanted = Math.min(total - start, bytes.length);
	for (let at = 0; at < Math.max(1, wanted) && total > 0; at += size) {
		const part = (start + at) / size;
		if (bytes.length === 0 || xxh64Hex(bytes.subarray(at, at + size)) !== xxh64[part]) {
			throw new GswarmError(
				"TASK_FAILED",
				`Part ${part} of ${path} is damaged on this node; it was not sent.`,
				{
					reason: "copy_damaged",
					details: { file: path, part },
					hint: "`gswarm model verify` repairs the copy where there is another one.",
				},
			);
		}
	}
}

/** Gives way between blocks: a part takes a tenth of a second. */
async function hashed(bytes: Uint8Array): Promise<PartBytes & { md5: string }> {
	const [sha256, md5] = [new Bun.CryptoHasher("sha256"), new Bun.CryptoHasher("md5")];
	for (let at = 0; at < bytes.length; at += HASH_BYTES) {
		const block = bytes.subarray(at, at + HASH_BYTES);
		sha256.update(block);
		md5.update(block);
		if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve));
	}
	return { bytes, sha256: sha256.digest("hex"), md5: md5.digest("hex") };
}

/** Again after a pause while that may help; a queue's retry begins with finding out what is there. */
async function again<T>(
	{ clock, ids }: Pick<Dependencies, "clock" | "ids">,
	signal: AbortSignal,
	work: () => Promise<T>,
): Promise<T> {
	for (let tries = 1; ; tries++) {
		try {
			return await work();
		} catch (error) {
			signal.throwIfAborted();
			if (!(error instanceof GswarmError) || !error.retryable || tries >= TRIES) throw error;
			const pauseMs = FIRST_PAUSE_MS * 2 ** (tries - 1) * (0.5 + ids.fraction() / 2);
			await clock.sleep(
				error.retryAfterS === undefined ? pauseMs : Math.min(error.retryAfterS, 60) * 1000,
				signal,
			);
			signal.throwIfAborted();
		}
	}
}

function notEmpty(target: string, path: string): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${target} has ${JSON.stringify(path.slice(0, 200))} already, which is not of this copy.`,
		{
			reason: "target_not_empty",
			details: { path: path.slice(0, 200) },
			hint: "Choose a prefix where nothing is; --overwrite replaces objects with the names of the model's files.",
		},
	);
}

function mismatch(what: string, wanted: string, got: string): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`${what} is not what was sent: wanted ${wanted}, got ${got.slice(0, 80)}.`,
		{
			reason: "upload_mismatch",
			details: { wanted, got: got.slice(0, 80) },
		},
	);
}
