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
import type { Ids } from "../../platform/ids.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { Source } from "../source/source.ts";
import type { Storage } from "../storage/storage.ts";

export type TransferPhase = "resolving" | "downloading" | "copying" | "verifying" | "publishing" | "done";

export interface TransferProgress {
	phase: TransferPhase;
	/** Over all files, never more than `bytesTotal`. */
	bytesDone: number;
	/** 0 until it is known. */
	bytesTotal: number;
	rateBytesPerSecond: number;
	etaS: number | undefined;
	/** What it waits for, in words; undefined while bytes come. */
	waitingFor: string | undefined;
}

export interface TransferInput {
	/** Stable over restarts: the task's id. */
	transferId: string;
	source: Source;
	tier: string;
	model: ModelName;
	/** Default: the source's pinned revision. */
	revision?: Revision | undefined;
	modelType: string;
	/** Default: recognised by the files' names. */
	format?: string | undefined;
	/** Stored with the copy; default: the source's uri. */
	sourceUrl?: string | null | undefined;
	/** True: every file needs a digest from its source. Undefined: what has one is checked. False: a file without size and digest is accepted too. */
	verifyChecksum?: boolean | undefined;
	/** A sealed manifest's part digests are enough (a peer over TLS, this node's own disk); sha256 is not computed again. */
	trustPartDigests?: boolean | undefined;
	/** Bytes per second over all streams. */
	bandwidthLimit?: number | undefined;
	/** Streams at once; default 8, peers want 4. */
	streams?: number | undefined;
	/** What the receiving phase is called: `downloading` (default) or `copying`. */
	receivingPhase?: "downloading" | "copying" | undefined;
	/**
	 * An abort cancels: nothing is kept. Only an abort whose reason is a retryable GswarmError (the agent stops)
	 * keeps staging and journal for the next run.
	 */
	signal: AbortSignal;
	onProgress?: ((progress: TransferProgress) => void) | undefined;
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
}

/** The room's tables and write operations, for the database's writer thread. */
export const transferModule = { room: "transfer", migrations: [], writes: {} } satisfies WriterModule;

/** Opens the journal and reserves again what interrupted transfers still need. */
export function createTransfers(_dependencies: TransferDependencies): Promise<Transfers> {
	throw new Error("not built yet");
}

// The rest of the room, through its door.
export { createGrants, type GrantInput, type Grants } from "./grants.ts";
export { type ResolvedPart, resolvePart } from "./parts.ts";
export { storageSource } from "./storage-source.ts";
