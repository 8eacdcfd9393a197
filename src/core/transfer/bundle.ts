/**
 * Many small files of a sealed manifest in one request: their bytes one after the other, in the manifest's order. The
 * manifest says where each begins, so nothing stands in between. Whatever goes wrong with a bundle is left to requests
 * for its files one by one, which try again and say what the matter is.
 */
import { fileError } from "../../platform/durable-file.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, invalid, modelNotFound } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { Storage } from "../storage/storage.ts";
import type { PlannedFile } from "./plan.ts";
import type { Receiver } from "./receive.ts";
import { Stalled } from "./stall-watch.ts";

/** A larger file has a request of its own: what that costs does not count beside its bytes. */
export const SMALL_FILE_BYTES = 256 * 1024;
/** Of one request; it is in memory on both sides. */
export const BUNDLE_BYTES = 4 * 1024 * 1024;
export const BUNDLE_FILES = 2048;
/** Fewer files are not worth a bundle. */
const FEWEST_FILES = 2;

/** Small files that are missing, as runs of neighbours; the rest is for requests of their own. */
export function planBundles(
	files: readonly PlannedFile[],
	isMissing: (file: PlannedFile) => boolean,
): { bundles: PlannedFile[][]; rest: PlannedFile[] } {
	const bundles: PlannedFile[][] = [];
	const rest: PlannedFile[] = [];
	let current: PlannedFile[] = [];
	let bytes = 0;
	const close = (): void => {
		if (current.length >= FEWEST_FILES) bundles.push(current);
		else rest.push(...current);
		current = [];
		bytes = 0;
	};
	for (const file of files) {
		const size = file.sizeBytes ?? 0;
		const isSmall = file.partCount === 1 && size <= SMALL_FILE_BYTES && file.source.parts !== undefined;
		if (!isSmall || !isMissing(file)) {
			if (!isSmall) rest.push(file);
			close();
			continue;
		}
		const last = current.at(-1);
		const isNext = last === undefined || last.index + 1 === file.index;
		if (!isNext || bytes + size > BUNDLE_BYTES || current.length >= BUNDLE_FILES) close();
		current.push(file);
		bytes += size;
	}
	close();
	return { bundles, rest };
}

/**
 * The serving side: bytes of files `first` up to, not including, `end` of the canonical manifest.
 * @throws 404 model_not_found; 416 range_not_satisfiable; RESOURCE_UNAVAILABLE source_damaged
 */
export async function readBundle(
	{ storage, io }: { storage: Storage; io: IoPool },
	{ contentId, first, end }: { contentId: string; first: number; end: number },
	signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
	const copies = storage.copies().filter((copy) => copy.content_id === contentId && copy.status === "ready");
	const copy = copies.find(({ tier }) => !storage.tier(tier).durable) ?? copies[0];
	const manifest = copy === undefined ? undefined : storage.manifest(contentId);
	if (copy === undefined || manifest === undefined) throw modelNotFound(contentId);
	const files = checkedFiles(manifest, first, end);
	const entries = files.map(({ path, size_bytes: sizeBytes }) => ({
		path: storage.fileOf(copy, parseSafePath(path)),
		sizeBytes,
	}));
	try {
		return await io.readFiles(entries, signal);
	} catch (error) {
		signal.throwIfAborted();
		throw new GswarmError("RESOURCE_UNAVAILABLE", "These files cannot be read as their manifest says.", {
			reason: "source_damaged",
			cause: error,
		});
	}
}

function checkedFiles({ files }: Manifest, first: number, end: number): Manifest["files"] {
	const wanted = files.slice(first, end);
	const bytes = wanted.reduce((sum, file) => sum + file.size_bytes, 0);
	if (first < end && end <= files.length && end - first <= BUNDLE_FILES && bytes <= BUNDLE_BYTES)
		return wanted;
	throw invalid(
		"bad_bundle",
		`The files ${first} to ${end} are no bundle: wanted at most ${BUNDLE_FILES} of ${files.length} files with at most ${BUNDLE_BYTES} bytes.`,
		{ first, end },
	);
}

export interface BundleInput {
	io: IoPool;
	log: Log;
	transferId: string;
	receiver: Pick<Receiver, "source" | "clock" | "meter" | "stalls" | "throttle">;
	pathOf: (file: PlannedFile) => string;
	/** The digests of parts stand for the whole. */
	trustPartDigests: boolean;
	/** These files are there and right. */
	onFiles: (files: readonly PlannedFile[]) => void;
	/** These have to come one by one. */
	onRest: (files: readonly PlannedFile[]) => void;
}

/** Receives one bundle. Only a failure of this machine throws. */
export async function receiveBundle(
	input: BundleInput,
	files: readonly PlannedFile[],
	signal: AbortSignal,
): Promise<void> {
	const { meter } = input.receiver;
	let counted = 0;
	let bytes: Uint8Array<ArrayBuffer>;
	try {
		bytes = await readAll(input, files, signal, (count) => {
			counted += count;
			meter.add(count);
		});
	} catch (error) {
		signal.throwIfAborted();
		meter.add(-counted);
		input.log.debug("transfer.bundle_left", { transfer_id: input.transferId, files: files.length, error });
		input.onRest(files);
		return;
	}
	const entries = files.map((file) => ({ path: input.pathOf(file), sizeBytes: file.sizeBytes ?? 0 }));
	const sha256 = !input.trustPartDigests;
	const digests = await input.io.writeFiles({ entries, bytes, sha256 }, signal).catch((error: unknown) => {
		throw fileError(error, "Writing the staged files");
	});
	const right: PlannedFile[] = [];
	const wrong: PlannedFile[] = [];
	for (const [at, file] of files.entries()) {
		const { xxh64, sha256: got } = digests[at] ?? { xxh64: "", sha256: undefined };
		const claimed = file.source.digest?.algorithm === "sha256" ? file.source.digest.hex : undefined;
		const isRight =
			file.source.parts?.xxh64[0] === xxh64 &&
			claimed !== undefined &&
			(got === undefined || got === claimed);
		(isRight ? right : wrong).push(file);
	}
	if (right.length > 0) input.onFiles(right);
	if (wrong.length === 0) return;
	input.log.warn("transfer.bundle_mismatch", { transfer_id: input.transferId, files: wrong.length });
	meter.add(-wrong.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0));
	input.onRest(wrong);
}

async function readAll(
	{ receiver }: BundleInput,
	files: readonly PlannedFile[],
	signal: AbortSignal,
	onBytes: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
	const { source, stalls, throttle, meter } = receiver;
	if (source.readBundle === undefined) throw new Error("the source has no bundles");
	const size = files.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0);
	const stop = new AbortController();
	const connection = {
		signal: AbortSignal.any([signal, stop.signal]),
		cut: () => stop.abort(new Stalled(0)),
	};
	const opening = source.readBundle(
		files.map((file) => file.source),
		connection.signal,
	);
	opening.catch(() => {});
	const body = await stalls.guard(opening, connection);
	const reader = body.getReader();
	const all = new Uint8Array(size);
	const startedMs = receiver.clock.monotonicMs();
	let position = 0;
	let wireBytes = 0;
	let brokenBy: unknown;
	try {
		for (;;) {
			const { done, value } = await stalls.guard(reader.read(), connection);
			if (done) break;
			if (position + value.byteLength > size)
				throw new Error(`more than the ${size} bytes of the files came`);
			all.set(value, position);
			position += value.byteLength;
			onBytes(value.byteLength);
			const passed = (body.wireBytes?.() ?? position) - wireBytes;
			wireBytes += passed;
			await throttle.pass(passed, connection.signal);
		}
	} catch (error) {
		brokenBy = error;
		throw error;
	} finally {
		const ms = receiver.clock.monotonicMs() - startedMs;
		source.measured?.(body, { wireBytes, ms, error: brokenBy });
		if (body.wireBytes !== undefined) meter.inflated(position, wireBytes);
		reader.cancel().catch(() => {});
	}
	if (position < size) throw new Error(`the bundle ended at byte ${position} of ${size}`);
	return all;
}
