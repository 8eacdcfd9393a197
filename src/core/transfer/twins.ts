/**
 * What is on the tier already, in a copy of another model or revision, is not fetched: a transfer gets one more name of
 * it. The bytes are read and compared like those that arrive, so that no damage is handed on.
 */
import { lstat, mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError } from "../../platform/durable-file.ts";
import { partSizeBytes } from "../../schema/manifest.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { MIN_SHARED_BYTES, type Reservation, type Storage } from "../storage/storage.ts";
import type { FileRow } from "./journal.ts";
import type { Ledger } from "./ledger.ts";
import type { PlannedFile } from "./plan.ts";
import type { Meter } from "./progress.ts";

interface Tools {
	storage: Storage;
	io: IoPool;
	log: Log;
}

interface Input {
	transferId: string;
	tier: string;
	meter: Meter;
	reservation: Reservation;
	/** What was reserved at first. */
	roomBytes: number;
	signal: AbortSignal;
}

export async function takeTwins(
	tools: Tools,
	input: Input,
	{
		files,
		ledger,
		pathOf,
	}: { files: readonly PlannedFile[]; ledger: Ledger; pathOf: (file: PlannedFile) => string },
): Promise<void> {
	for (const file of files) {
		// Smaller ones are never shared, and there may be very many.
		if ((file.sizeBytes ?? 0) < MIN_SHARED_BYTES || ledger.verified(file) !== undefined) continue;
		const path = pathOf(file);
		try {
			await unlinkShared(ledger, file, path);
			if (ledger.parts(file).size > 0) continue;
			const row = await twinOf(tools, input, file, path);
			if (row === undefined) continue;
			await ledger.filesLanded([{ file, row }]);
			input.reservation.shrinkTo(input.roomBytes - input.meter.done());
			tools.log.info("transfer.file_here", {
				transfer_id: input.transferId,
				path: file.path,
				bytes: row.sizeBytes,
			});
		} catch (error) {
			input.signal.throwIfAborted();
			throw fileError(error, `Looking for ${file.path} on ${input.tier}`);
		}
	}
}

/** A name of somebody else's bytes is never written to: what is not known to be right of it comes anew. */
async function unlinkShared(ledger: Ledger, file: PlannedFile, path: string): Promise<void> {
	const info = await lstat(path).catch(absent);
	if (info === undefined || info.nlink === 1) return;
	await rm(path);
	await ledger.drop(file, undefined);
}

/** The digests of the file that is at `path` now; undefined where there was none, or another than it should be. */
async function twinOf(
	{ storage, io, log }: Tools,
	{ tier, meter, signal }: Input,
	{ index, source, sizeBytes }: PlannedFile,
	path: string,
): Promise<FileRow | undefined> {
	const { digest, parts } = source;
	if (digest?.algorithm !== "sha256" || sizeBytes === undefined) return undefined;
	const sha256 = digest.hex.toLowerCase();
	if ((await lstat(path).catch(absent)) !== undefined) return undefined;
	await mkdir(dirname(path), { recursive: true, mode: 0o700 });
	if (!(await storage.linkTwin(tier, { sha256, size_bytes: sizeBytes }, path))) return undefined;
	let counted = 0;
	const count = (bytes: number): void => {
		meter.add(bytes - counted);
		counted = bytes;
	};
	try {
		const found = await io.hashFile(
			{ path, partSizeBytes: partSizeBytes(sizeBytes), sizeBytes, gitSha1: false },
			signal,
			count,
		);
		const isSame =
			found.sha256 === sha256 &&
			(parts === undefined || found.xxh64.every((one, at) => one === parts.xxh64[at]));
		if (isSame) {
			count(sizeBytes);
			return { fileIndex: index, sizeBytes, sha256, xxh64: found.xxh64 };
		}
		log.warn("transfer.twin_damaged", { tier, path: source.path });
	} catch (error) {
		await rm(path, { force: true });
		throw error;
	}
	count(0);
	await rm(path);
	return undefined;
}

function absent(error: unknown): undefined {
	if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}
