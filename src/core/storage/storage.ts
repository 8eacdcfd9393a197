/**
 * The tiers of one node and the model copies on them.
 * A copy goes staging → publishing → ready → removing → gone. Files are received into a staging directory, and
 * `publish` makes them a copy in one rename; a reader never sees a partial file at the final path. Every change of
 * state is a row first or last, so that `openStorage` can finish or undo what a crash interrupted.
 * Capacity is counted with what is in flight: bytes are reserved before the first one is written.
 * It does not fetch, does not hash while writing and knows no other node: that is transfer, source and the host.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database, WriterModule } from "../../platform/database.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";

/** One place for models on this node. */
export interface Tier {
	/** As the wire writes it: `disk`, `disk1`, `dram`. */
	name: string;
	kind: "disk" | "dram";
	/** Absolute path of a directory that belongs to this agent alone. */
	root: string;
	/** Keeps its bytes over a restart of the machine. */
	durable: boolean;
	/** Budget for model bytes; undefined: what the filesystem has. */
	limitBytes: number | undefined;
}

export interface TierOptions {
	name: string;
	kind: "disk" | "dram";
	root: string;
	limitBytes?: number | undefined;
	/** Bytes of the filesystem that are never used; default max(1 GiB, 2 %) on disk and 2 % on dram. */
	floorBytes?: number | undefined;
}

/** A hold on bytes of a tier that are still to be written, or were written but not published. */
export interface Reservation extends Disposable {
	readonly tier: string;
	/** Says how many of the bytes are still to be written; the rest is on the filesystem already. */
	shrinkTo(bytesToWrite: number): void;
}

export interface PublishInput {
	tier: string;
	transferId: string;
	model: ModelName;
	revision: Revision;
	manifest: Manifest;
	modelType: string;
	/** Without secrets. */
	sourceUrl: string | null;
	format: string;
}

export interface VerifyReport {
	/** Paths of files whose bytes are not those of the manifest; empty: the copy is whole. */
	damaged: string[];
	bytesChecked: number;
}

export interface Storage extends AsyncDisposable {
	tiers(): readonly Tier[];
	/** @throws 404 device_not_found */
	tier(name: string): Tier;
	usage(name: string): TierUsage;
	/**
	 * Reserves room for `bytes`, of which `writtenBytes` lie in staging already.
	 * @throws RESOURCE_UNAVAILABLE 507 insufficient_space with `{ required, available, device }`
	 */
	reserve(tier: string, bytes: number, options?: { writtenBytes?: number }): Reservation;
	/** Makes the staging directory of a transfer and its row; calling it again changes nothing. Resolves to stagingPath. */
	openStaging(tier: string, transferId: string): Promise<string>;
	/** The directory whose contents become the copy. */
	stagingPath(tier: string, transferId: string): string;
	/** A directory for files that are not part of the copy, e.g. an archive before it is unpacked; made on demand. */
	scratchPath(tier: string, transferId: string): string;
	/** Removes what a transfer has staged, on whichever tier. */
	dropStaging(transferId: string): Promise<void>;
	/** The transfers that have staging. */
	staged(): { transferId: string; tier: string }[];
	/**
	 * Makes a staged model a copy: fsync of files and directories, rename, fsync of the parent, row. The staging is
	 * gone afterwards. The same manifest there already is a success; another one is CONFLICT copy_exists.
	 */
	publish(input: PublishInput): Promise<ModelCopy>;
	copies(): ModelCopy[];
	/** The copy on a tier; without a revision the newest ready one. */
	copy(model: ModelName, tier: string, revision?: Revision): ModelCopy | undefined;
	manifest(contentId: string): Manifest | undefined;
	/** The directory an engine gets. @throws when the copy is not ready */
	pathOf(copy: ModelCopy): string;
	/** Marks a copy as in use, by whom in words; `remove` refuses meanwhile. @throws 404 model_not_found */
	hold(model: ModelName, revision: Revision, tier: string, why: string): Disposable;
	/** @throws CONFLICT in_use naming the holders, 404 model_not_found */
	remove(model: ModelName, revision: Revision, tier: string): Promise<{ freedBytes: number }>;
	/** Reads the whole copy; a damaged one becomes `unavailable`. */
	verify(copy: ModelCopy, signal: AbortSignal): Promise<VerifyReport>;
	/** Rises with every change of the set of copies, also over restarts. */
	inventoryVersion(): number;
	onChange(listener: () => void): Disposable;
}

export interface StorageDependencies {
	db: Database;
	clock: Clock;
	log: Log;
	io: IoPool;
}

export interface StorageOptions {
	tiers: readonly TierOptions[];
	/** Names the boot of this machine (/proc/sys/kernel/random/boot_id); copies on dram go with it. */
	bootId: string;
}

/** The room's tables and write operations, for the database's writer thread. */
export const storageModule = { room: "storage", migrations: [], writes: {} } satisfies WriterModule;

/**
 * Opens the tiers: makes their directories (0700), finishes removals, undoes or completes publications that a crash
 * interrupted, drops rows whose files are gone and staging that no transfer knows.
 * @throws RESOURCE_UNAVAILABLE tier_not_ours, tier_not_mounted
 */
export function openStorage(_dependencies: StorageDependencies, _options: StorageOptions): Promise<Storage> {
	throw new Error("not built yet");
}
