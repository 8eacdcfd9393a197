/**
 * Bytes from a source to a tier of this node. The receiver pulls: resolving → receiving → verifying → publishing.
 * Every part is hashed as it lands and its row committed after its bytes are in the file, so that a run with the
 * same transfer id after a crash, a cut or a stop fetches only parts without a row. Nothing becomes visible before
 * the whole is verified against the digests the source claims and the storage room has published it.
 * A transfer that fails for good, or is cancelled, leaves no staging and no copy; one that may succeed later keeps
 * both staging and journal until it is run again or discarded.
 * It does not decide when to run again (queue), and it never changes its source.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database, WriterModule } from "../../platform/database.ts";
import { createXxh64Factory, sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { joinSafe } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import { canonicalManifest, type ManifestFile } from "../../schema/manifest.ts";
import type { CopyPurpose, ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import { detectModel, type Source, type SourceDescription } from "../source/source.ts";
import type { Reservation, Storage } from "../storage/storage.ts";
import { readTransfer, readTransfers, type TransferRow, transferWrites } from "./journal.ts";
import { type Bandwidth, createBandwidth } from "./bandwidth.ts";
import { existingCopy } from "./existing-copy.ts";
import { planFiles } from "./plan.ts";
import { createMeter, type Meter, type TransferProgress } from "./progress.ts";
import { RECEIVE_LIMITS } from "./receive.ts";
import type { DataPlane } from "./plane/data-process.ts";
import {
	createKeptLimits,
	type KeptLimits,
	type Limits,
	type LimitScope,
	limitWrites,
} from "./kept-limits.ts";
import migration1 from "./sql/0001_transfer.sql" with { type: "text" };
import migration2 from "./sql/0002_bandwidth.sql" with { type: "text" };
import migration3 from "./sql/0003_runs.sql" with { type: "text" };
import type { Swarm } from "./swarm.ts";
import type { Tags } from "./tags.ts";
import { RangeIgnored, receiveModel, type RunTools, type TransferLimits } from "./transfer-run.ts";

export interface TransferInput {
	/** Stable over restarts: the task's id. */
	transferId: string;
	source: Source;
	tier: string;
	model: ModelName;
	/** Default: the source's pinned revision. */
	revision?: Revision | undefined;
	/** Default: guessed from the files and config.json. */
	modelType?: string | undefined;
	/** Default: recognised by the files' names. */
	format?: string | undefined;
	/** Stored with the copy; default: the source's uri. */
	sourceUrl?: string | null | undefined;
	/** True: every file needs a digest from its source. Undefined: what has one is checked. False: a file without size and digest is accepted too. */
	verifyChecksum?: boolean | undefined;
	/** A sealed manifest's part digests are enough (a peer over TLS, this node's own disk); sha256 is not computed again. */
	trustPartDigests?: boolean | undefined;
	/** What the manifest must be of, where somebody has said so before: another content is not published. */
	contentId?: string | undefined;
	/** Bytes per second over all streams. */
	bandwidthLimit?: number | undefined;
	/** Streams at once; default 8, peers want 4. */
	streams?: number | undefined;
	/** What the receiving phase is called: `downloading` (default) or `copying`. */
	receivingPhase?: "downloading" | "copying" | undefined;
	/** Default: somebody asked for it. */
	purpose?: CopyPurpose | undefined;
	/** Whether other copies may go for it, where the tier evicts by itself; default true. */
	mayEvict?: boolean | undefined;
	/**
	 * Asked for the room that the transfer will take, before any of it is taken; a retryable failure keeps what is staged.
	 * Left out: the tier alone says whether it fits.
	 */
	room?: ((bytes: number) => Promise<void>) | undefined;
	/** Called before other copies go for it: whether it is worth that. @throws what is wrong with the source */
	checkSource?: ((signal: AbortSignal) => Promise<void>) | undefined;
	/** Others receive the same at the same time; `source` is the swarm's. */
	swarm?: Swarm | undefined;
	/**
	 * An abort cancels: nothing is kept. Only an abort whose reason is a retryable GswarmError (the agent stops)
	 * keeps staging and journal for the next run.
	 */
	signal: AbortSignal;
	onProgress?: ((progress: TransferProgress) => void) | undefined;
}

/** What a transfer asks for before its first byte. */
export interface RoomRequest {
	model: ModelName;
	tier: string;
	bytes: number;
	/** Of them, what lies in the transfer's staging already. */
	writtenBytes: number;
	transferId: string;
	mayEvict: boolean;
	/** @throws what is wrong with the source */
	checkSource(signal: AbortSignal): Promise<void>;
	signal: AbortSignal;
}

export interface Transfers extends AsyncDisposable {
	/**
	 * @throws GswarmError; `retryable` says whether staging was kept for another run. Reasons: insufficient_space,
	 * no_checksum_available, checksum_mismatch, truncated_source, source_changed, stalled, unsafe_filename, cancelled.
	 */
	run(input: TransferInput): Promise<ModelCopy>;
	/** Drops staging, journal and reservation of a transfer that will not be run again. */
	discard(transferId: string): Promise<void>;
	/** Transfers with a journal: those that wait for another run. Their owner discards the ones it no longer knows. */
	known(): string[];
}

export interface TransferDependencies {
	db: Database;
	storage: Storage;
	io: IoPool;
	clock: Clock;
	ids: Ids;
	log: Log;
	/** Reserves room, and may make it; default: what is there or nothing. @throws 507 insufficient_space */
	makeRoom?: ((request: RoomRequest) => Promise<Reservation>) | undefined;
	/** Of all that this node receives; default: without a limit of its own. */
	bandwidth?: Bandwidth | undefined;
	/** Receives what may be received without TLS; its owner ends it after the transfers. */
	plane?: DataPlane | undefined;
	/** Tags what is received, where somebody may receive it from here without TLS. */
	tags?: { store: Tags; isWanted: () => boolean } | undefined;
}

/** The room's tables and write operations, for the database's writer thread. */
export const transferModule = {
	room: "transfer",
	migrations: [migration1, migration2, migration3],
	writes: { ...transferWrites, ...limitWrites },
} satisfies WriterModule;

/** Limits that were set at run time, over what the configuration says. */
export function openKeptLimits(db: Database, scope: LimitScope, configured: Limits): KeptLimits {
	return createKeptLimits({ db, writes: db.writer(transferModule) }, scope, configured);
}

const LIMITS: TransferLimits = {
	...RECEIVE_LIMITS,
	stallMs: 30_000,
	partTries: 3,
	syncBytes: 64 * 1024 * 1024,
	rowsWaiting: 256,
};

/** How often the source may change under one transfer before it is given up. */
const START_OVERS = 1;
/** An archive lies beside its contents until it is unpacked. */
const ARCHIVE_ROOM = 2;

/** Opens the journal. `limits` are for tests. */
export async function createTransfers(
	dependencies: TransferDependencies,
	limits: Partial<TransferLimits> = {},
): Promise<Transfers> {
	const { db, storage, log } = dependencies;
	const writes = db.writer(transferModule);
	const newXxh64 = await createXxh64Factory();
	const bandwidth = dependencies.bandwidth ?? createBandwidth(dependencies);
	const tools: RunTools = { ...dependencies, bandwidth, writes, newXxh64, limits: { ...LIMITS, ...limits } };
	const reservations = new Map<string, Reservation>();
	const running = new Map<string, Promise<ModelCopy>>();
	const closing = new AbortController();
	const { makeRoom = async ({ tier, bytes, ...room }) => storage.reserve(tier, bytes, room) } = dependencies;

	const giveRoomBack = (transferId: string): void => {
		reservations.get(transferId)?.[Symbol.dispose]();
		reservations.delete(transferId);
	};
	const drop = async (transferId: string): Promise<void> => {
		await storage.dropStaging(transferId);
		await writes.end(transferId);
		giveRoomBack(transferId);
	};
	/** Who asked its owner for room has it, unless somebody else filled the disk meanwhile: that passes. */
	const waiting = async (take: () => Promise<Reservation>): Promise<Reservation> => {
		try {
			return await take();
		} catch (error) {
			if (!(error instanceof GswarmError) || error.reason !== "insufficient_space") throw error;
			const { code, message, details, hint, status } = error;
			throw new GswarmError(code, message, {
				reason: "disk_full",
				details,
				...(hint === undefined ? {} : { hint }),
				status,
				retryable: true,
				cause: error,
			});
		}
	};
	const reserve = async (
		{ transferId, tier, roomBytes: bytes }: TransferRow,
		{ model, mayEvict = true, checkSource = () => Promise.resolve(), room }: TransferInput,
		signal: AbortSignal,
	): Promise<Reservation> => {
		const held = reservations.get(transferId);
		if (held !== undefined) return held;
		const writtenBytes = storage.stagedBytes(transferId);
		const take = (): Promise<Reservation> =>
			makeRoom({ model, tier, bytes, writtenBytes, transferId, mayEvict, checkSource, signal });
		const reservation = await (room === undefined ? take() : waiting(take));
		reservations.set(transferId, reservation);
		return reservation;
	};
	const startOver = async (
		row: TransferRow | undefined,
		next: Omit<TransferRow, "startedOver">,
		change: GswarmError | undefined,
	): Promise<TransferRow> => {
		const startedOver = row === undefined || row.tier !== next.tier ? 0 : row.startedOver + 1;
		if (startedOver > START_OVERS) throw changedAgain(next.transferId, change);
		if (row !== undefined)
			log.warn("transfer.started_over", { transfer_id: next.transferId, times: startedOver });
		await drop(next.transferId);
		const fresh = { ...next, startedOver };
		await writes.begin(fresh);
		return fresh;
	};
	/** The journal's row for this source; what was fetched from another one is gone. */
	const prepare = async (
		{ transferId, tier }: TransferInput,
		{ sourceId, totalBytes, archive }: SourceDescription,
		change: GswarmError | undefined,
	): Promise<TransferRow> => {
		const bootId = storage.bootId ?? null;
		const row = readTransfer(db, transferId);
		const staged = storage.staged().some((one) => one.transferId === transferId && one.tier === tier);
		const roomBytes = totalBytes * (archive === undefined ? 1 : ARCHIVE_ROOM);
		const next = { transferId, tier, sourceId, roomBytes, bootId };
		if (row !== undefined && row.sourceId === sourceId && row.tier === tier && change === undefined) {
			if (staged) return row;
			// Staging that went with its boot, or by hand: the same source again, from the start.
			await drop(transferId);
			const fresh = { ...next, startedOver: row.startedOver };
			await writes.begin(fresh);
			return fresh;
		}
		return startOver(row, next, change);
	};
	const receive = async (input: TransferInput, meter: Meter, signal: AbortSignal): Promise<ModelCopy> => {
		const { transferId, tier, model, source } = input;
		let wholeFiles = false;
		for (let change: GswarmError | undefined; ; ) {
			const description = await source.describe(signal);
			const revision = input.revision ?? description.revision;
			const there = existingCopy(storage, { tier, model, revision }, description);
			if (there !== undefined) return there;
			planFiles(description, { verifyChecksum: input.verifyChecksum, wholeFiles });
			const row = await prepare(input, description, change);
			change = undefined;
			await input.room?.(row.roomBytes);
			const reservation = await reserve(row, input, signal);
			await storage.openStaging(tier, transferId);
			const { tags } = dependencies;
			const tagging = tags?.isWanted() === true ? tags.store.collect(source.tagKey) : undefined;
			const recheck = row.bootId === null || row.bootId !== storage.bootId;
			try {
				const files = await receiveModel(tools, {
					transferId,
					tier,
					source,
					description,
					wholeFiles,
					recheck,
					reservation,
					roomBytes: row.roomBytes,
					verifyChecksum: input.verifyChecksum,
					trustPartDigests: input.trustPartDigests ?? false,
					bandwidthLimit: input.bandwidthLimit,
					streams: input.streams,
					receivingPhase: input.receivingPhase ?? "downloading",
					swarm: input.swarm,
					tagging,
					meter,
					signal,
				});
				if (input.contentId !== undefined) checkContent(files, input.contentId, model);
				meter.enter("publishing");
				const directory = storage.stagingPath(tier, transferId);
				// A sealed copy's identity is its content: what is known of that need not be read again.
				const known = storage.detected(input.contentId ?? description.sourceId);
				const detected =
					known ?? (await detectModel(tools.io, (path) => joinSafe(directory, path), files, signal));
				const copy = await storage.publish({
					tier,
					transferId,
					model,
					revision,
					manifest: { files, total_bytes: files.reduce((sum, file) => sum + file.size_bytes, 0) },
					modelType: input.modelType ?? detected.model_type,
					sourceUrl: input.sourceUrl === undefined ? description.uri : input.sourceUrl,
					format: input.format ?? detected.format,
					detected,
					purpose: input.purpose,
				});
				tagging?.sealed(copy.content_id);
				return copy;
			} catch (error) {
				if (error instanceof RangeIgnored) wholeFiles = true;
				else if (error instanceof GswarmError && error.reason === "source_changed") change = error;
				else throw error;
			}
		}
	};
	const run = async (input: TransferInput): Promise<ModelCopy> => {
		const { transferId, tier, model } = input;
		const signal = AbortSignal.any([input.signal, closing.signal]);
		const meter = createMeter(dependencies, input.onProgress ?? (() => {}));
		try {
			signal.throwIfAborted();
			storage.tier(tier);
			const copy = await receive(input, meter, signal);
			await drop(transferId);
			meter.enter("done");
			return copy;
		} catch (error) {
			const failure = signal.aborted ? abortFailure(signal.reason, model) : error;
			if (!(failure instanceof GswarmError && failure.retryable)) {
				// The failure that ended the transfer is the one to tell.
				await drop(transferId).catch((cause: unknown) =>
					log.error("transfer.drop_failed", { transfer_id: transferId, error: cause }),
				);
			}
			throw failure;
		} finally {
			// What waits for another run holds nothing meanwhile; what it has staged is on the disk and counts there.
			giveRoomBack(transferId);
		}
	};

	return {
		run(input) {
			const { transferId } = input;
			if (running.has(transferId)) {
				return Promise.reject(
					new GswarmError("CONFLICT", `${transferId} is running already.`, { reason: "already_running" }),
				);
			}
			const work = run(input).finally(() => running.delete(transferId));
			running.set(transferId, work);
			return work;
		},
		async discard(transferId) {
			await running.get(transferId)?.catch(() => {});
			await drop(transferId);
		},
		known: () => readTransfers(db).map((row) => row.transferId),
		async [Symbol.asyncDispose]() {
			closing.abort(
				new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
					reason: "stopping",
					retryable: true,
				}),
			);
			await Promise.allSettled(running.values());
			for (const reservation of reservations.values()) reservation[Symbol.dispose]();
			reservations.clear();
		},
	};
}

function checkContent(files: readonly ManifestFile[], wanted: string, model: ModelName): void {
	const total = files.reduce((sum, file) => sum + file.size_bytes, 0);
	const got = sha256Hex(canonicalManifest({ files: [...files], total_bytes: total }));
	if (got === wanted) return;
	throw new GswarmError("TASK_FAILED", `What came for ${model} is not the content that was announced.`, {
		reason: "wrong_content",
		details: { wanted, got },
		hint: "Nothing was kept; its source changed in between.",
	});
}

/** Why a run was stopped: the agent's stop keeps what is there, anything else is a cancel. */
function abortFailure(reason: unknown, model: ModelName): GswarmError {
	if (reason instanceof GswarmError) return reason;
	return new GswarmError("TASK_FAILED", `The transfer of ${model} was cancelled.`, {
		reason: "cancelled",
		cause: reason,
	});
}

/** `change` says what was seen; undefined when it is another source than that of the run before. */
function changedAgain(transferId: string, change: GswarmError | undefined): GswarmError {
	const seen = change?.message ?? `The source of ${transferId} is not what it was in the last run.`;
	return new GswarmError("CONFLICT", `${seen} It had been started over for that once already.`, {
		reason: "source_changed",
		details: change?.details ?? {},
		hint: "Start it again when the source is at rest, or pin a revision.",
		cause: change,
	});
}

// The rest of the room, through its door.
export { hasPartsSince } from "./journal.ts";
export { type CheckedGrant, createGrants, type Grants } from "./grants.ts";
export { type Bandwidth, createBandwidth, type Rate } from "./bandwidth.ts";
export type { KeptLimits, Limits } from "./kept-limits.ts";
export { readBundle } from "./bundle.ts";
export { compressedPart } from "./compressed-part.ts";
export { mendingSource } from "./mending-source.ts";
export { resolvePart } from "./parts.ts";
export { createShares, type Shares } from "./shares.ts";
export { createSwarm, type Swarm } from "./swarm.ts";
export type { SwarmView } from "./swarm-peers.ts";
export { createDataPlane } from "./plane/data-process.ts";
export type { TransferProgress } from "./progress.ts";
export { createTags, type Tags } from "./tags.ts";
export { severalSources } from "./several-sources.ts";
export { storageSource } from "./storage-source.ts";
export { exportCopy } from "./export.ts";
export { type Uploaded, uploadCopy } from "./upload.ts";
export type { TransferLimits } from "./transfer-run.ts";
