/**
 * The tiers of one node and the model copies on them.
 * A copy goes staging → publishing → ready → removing → gone. Files are received into a staging directory, and
 * `publish` makes them a copy in one rename; a reader never sees a partial file at the final path. Every change of
 * state is a row first or last, so that `openStorage` can finish or undo what a crash interrupted.
 * Capacity is counted with what is in flight: bytes are reserved before the first one is written.
 * It does not fetch, does not hash while writing and knows no other node: that is transfer, source and the host.
 */
import { join } from "node:path";
import { mkdir } from "node:fs/promises";
import type { Clock } from "../../platform/clock.ts";
import type { Database, WriterModule } from "../../platform/database.ts";
import { fileError } from "../../platform/durable-file.ts";
import type { Ids } from "../../platform/ids.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { createMemoryReader } from "../../platform/memory.ts";
import type { SafePath } from "../../platform/safe-path.ts";
import { modelNotFound } from "../../schema/errors.ts";
import type { Detected } from "../../schema/detected.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type ModelName, parseModelName, parseRevision, type Revision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";
import { type Claim, createReservations, type Reservation } from "./capacity.ts";
import {
	type CopyKey,
	type CopyRow,
	readDetected,
	readInventoryVersion,
	readManifest,
	storageWrites,
	toModelCopy,
} from "./copy-store.ts";
import { adoptionWrites } from "./adoption-store.ts";
import type { Adoption } from "./adoption-store.ts";
import { type AdoptInput, adoptFiles, lookAgain, requireUnchanged, takeBack } from "./adopted.ts";
import { viewPath } from "./adopted-view.ts";
import { dropStaging, type PublishInput, publishStaging } from "./publish.ts";
import { recover } from "./recovery.ts";
import { removeRow } from "./removal.ts";
import { bytesOf, linkTwin, sharedBytes, sharersOf } from "./shared-files.ts";
import { adoptionOf, fileAt } from "./places.ts";
import {
	type Presented,
	presentCopy,
	recoverPresented,
	refreshPresented,
	withdrawCopy,
} from "./presented.ts";
import { type Presentation, presentedWrites } from "./presented-store.ts";
import { createStagedBytes } from "./staged-bytes.ts";
import { isListed, keyOf } from "./copy-index.ts";
import { createShelf, rootOf, setDetected, setPinned, type Shelf, setState } from "./shelf.ts";
import { allocatedBytes, isUnchanged } from "./staged-tree.ts";
import { type VerifyOptions, type VerifyReport, verifyFiles } from "./verification.ts";
import { createUseRecord, type CopyUse, type UseListener } from "./use.ts";
import migration1 from "./sql/0001_storage.sql" with { type: "text" };
import migration6 from "./sql/0006_presented.sql" with { type: "text" };
import migration5 from "./sql/0005_files.sql" with { type: "text" };
import migration4 from "./sql/0004_adopted.sql" with { type: "text" };
import migration2 from "./sql/0002_budgets.sql" with { type: "text" };
import migration3 from "./sql/0003_detected.sql" with { type: "text" };
import {
	copyPath,
	DIRECTORY_MODE,
	openTierRoot,
	stagingRootOf,
	type Tier,
	type TierOptions,
	tierSpace,
} from "./tier-root.ts";

export type { Claim, Reservation } from "./capacity.ts";
export {
	chooseVictims,
	type EvictionCandidate,
	judge,
	type Verdict,
} from "./eviction.ts";
export { placeInOrder } from "./copy-index.ts";
export type { Presented } from "./presented.ts";
export type { PublishInput } from "./publish.ts";
export type { AdoptedFile, Adoption } from "./adoption-store.ts";
export type { AdoptInput } from "./adopted.ts";
export { checkPlaces } from "./sealed-manifest.ts";
export { MIN_SHARED_BYTES } from "./shared-files.ts";
export type { Tier, TierOptions } from "./tier-root.ts";
export type { CopyUse } from "./use.ts";
export type { DamagedFile, VerifyOptions, VerifyReport } from "./verification.ts";

export interface Storage extends AsyncDisposable {
	tiers(): readonly Tier[];
	/** @throws 404 device_not_found */
	tier(name: string): Tier;
	usage(name: string): TierUsage;
	/** The filesystem below a tier, whoever uses it, and what of it is never used. */
	filesystem(name: string): { total: number; available: number; floor: number };
	/**
	 * Bytes that transfers may take together on a tier: what is free now, and what those under way were promised or have
	 * staged there.
	 */
	roomForAll(name: string): number;
	/**
	 * Reserves room for `bytes`, of which `writtenBytes` lie in the transfer's staging already.
	 * @throws RESOURCE_UNAVAILABLE 507 insufficient_space with `{ required, available, device }`
	 */
	reserve(tier: string, bytes: number, options?: ReserveOptions): Reservation;
	/** The same, also where there is no room yet: whoever asks makes it, or disposes the reservation. */
	claim(tier: string, bytes: number, options?: ReserveOptions): Claim;
	/** Makes the staging directory of a transfer and its row; calling it again changes nothing. Resolves to stagingPath. */
	openStaging(tier: string, transferId: string): Promise<string>;
	/** The directory whose contents become the copy. */
	stagingPath(tier: string, transferId: string): string;
	/** A directory for files that are not part of the copy, e.g. an archive before it is unpacked; made on demand. */
	scratchPath(tier: string, transferId: string): string;
	/**
	 * Gives a file that a ready copy on the tier has to a transfer, as one more name of it, at a path in its staging where
	 * nothing is. Its bytes are to be compared before anybody relies on them, and never to be written.
	 * @returns whether there was one
	 */
	linkTwin(tier: string, file: { sha256: string; size_bytes: number }, to: string): Promise<boolean>;
	/** Bytes that go with a copy: its own, but for those of files that other copies have too, and of adopted ones. */
	bytesAlone(copy: ModelCopy): number;
	/** The same, with its share of the bytes that several copies have: what eviction counts with. */
	bytesShare(copy: ModelCopy): number;
	/** Removes what a transfer has staged, on whichever tier. */
	dropStaging(transferId: string): Promise<void>;
	/** Bytes that a transfer's staging takes on its filesystem now. */
	stagedBytes(transferId: string): number;
	/** The transfers that have staging. */
	staged(): { transferId: string; tier: string }[];
	/**
	 * Makes a staged model a copy: fsync of files and directories, rename, fsync of the parent, row. The staging is
	 * gone afterwards. The same manifest there already is a success; another one is CONFLICT copy_exists.
	 */
	publish(input: PublishInput): Promise<ModelCopy>;
	/** All, in the order in which they came; of one model, or on one tier. */
	copies(of?: { model: string } | { tier: string }): ModelCopy[];
	/**
	 * Names of the models that have copies, in order; of those with a copy of this type (as their first one says), on this
	 * tier, with a ready copy or without one.
	 */
	models(filter?: {
		type?: string | undefined;
		tier?: string | undefined;
		isReady?: boolean | undefined;
	}): readonly string[];
	/** The copy on a tier; without a revision the newest ready one. */
	copy(model: ModelName, tier: string, revision?: Revision): ModelCopy | undefined;
	manifest(contentId: string): Manifest | undefined;
	/** What was read from the files of a content that is here. */
	detected(contentId: string): Detected | undefined;
	/** Keeps what was read from a content's files for as long as one of its copies is here. */
	setDetected(contentId: string, detected: Detected): Promise<void>;
	/**
	 * Registers files that stay where they are (see adopted.ts), and whose digests the manifest has. They are counted on
	 * no tier, and `remove` forgets them. @throws CONFLICT copy_exists
	 */
	adopt(input: AdoptInput): Promise<ModelCopy>;
	/** The copies that were adopted. */
	adopted(): ModelCopy[];
	/** Where an adopted copy is; undefined for one of the store's. @throws 404 model_not_found */
	adoption(copy: ModelCopy): Adoption | undefined;
	/**
	 * Shows a ready copy in the layout of Hugging Face's cache, in a directory of ours alone, until it is withdrawn,
	 * removed or damaged. @throws 404 model_not_found, CONFLICT cache_in_the_way
	 */
	present(copy: ModelCopy, how: Presentation): Promise<Presented>;
	/** Ends that, in one cache directory or in all; how often it was shown. */
	withdraw(copy: ModelCopy, cacheDir?: string): Promise<number>;
	/** The directory an engine gets. @throws when the copy is not ready, RESOURCE_UNAVAILABLE adopted_changed */
	pathOf(copy: ModelCopy): string;
	/** Where one file of a ready copy is: regular, no link. @throws as pathOf */
	fileOf(copy: ModelCopy, path: SafePath): string;
	/**
	 * Marks a copy as in use, by whom in words; `remove` refuses meanwhile. With `use` its beginning and its end are
	 * touches. @throws 404 model_not_found
	 */
	hold(model: ModelName, revision: Revision, tier: string, why: string, use?: CopyUse): Disposable;
	/**
	 * Marks a ready copy as used now: what eviction goes by. Called where a copy is held for a reader, and again while it
	 * is read; a hold with a use does it by itself. Nothing happens where the copy has gone in between.
	 */
	touch(copy: ModelCopy, use: CopyUse): void;
	/** Hears of every touch. */
	onUse(listener: UseListener): Disposable;
	/** A pinned copy is never evicted. @throws 404 model_not_found */
	pin(model: ModelName, revision: Revision, tier: string, pinned: boolean): Promise<ModelCopy>;
	/** @throws CONFLICT in_use naming the holders, 404 model_not_found */
	remove(model: ModelName, revision: Revision, tier: string): Promise<{ freedBytes: number }>;
	/**
	 * Reads a copy at rest. A damaged one becomes `unavailable`: nobody is given it any more; one that was unavailable
	 * and of which every part is right becomes `ready` again.
	 * @throws 404 model_not_found
	 */
	verify(copy: ModelCopy, options: VerifyOptions, signal: AbortSignal): Promise<VerifyReport>;
	/**
	 * Whether the files of a ready copy have the sizes of its manifest and were not changed since it was published: what
	 * reading all of it would tell, but for what the device itself lost.
	 */
	isUntouched(copy: ModelCopy): boolean;
	/** The directory of an unavailable copy, for what of it is still right. @throws 404 model_not_found */
	remainsOf(copy: ModelCopy): string;
	/** Why the copy is in use, once per holder. */
	holders(copy: ModelCopy): readonly string[];
	/** Rises with every change of the set of copies, also over restarts. */
	inventoryVersion(): number;
	/** Names the boot of this machine: what was written before another one may not have reached the device. */
	readonly bootId: string | undefined;
	onChange(listener: () => void): Disposable;
}

/** Of a reservation. */
interface ReserveOptions {
	writtenBytes?: number;
	/** Whose staging it is for; what it has staged is counted with the reservation meanwhile. */
	transferId?: string;
}

export interface StorageDependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
	io: IoPool;
}

export interface StorageOptions {
	tiers: readonly TierOptions[];
	/** Names the boot of this machine (readBootId); copies on dram go with it, and are not kept where it is undefined. */
	bootId: string | undefined;
}

/** The room's tables and write operations, for the database's writer thread. */
export const storageModule = {
	room: "storage",
	migrations: [migration1, migration2, migration3, migration4, migration5, migration6],
	writes: { ...storageWrites, ...adoptionWrites, ...presentedWrites },
} satisfies WriterModule;

/** Manifests kept parsed; a peer asks for the parts of one again and again. */
const CACHED_MANIFESTS = 32;

/**
 * Opens the tiers: makes their directories (0700), finishes removals, undoes or completes publications that a crash
 * interrupted, drops rows whose files are gone and staging that no transfer knows.
 * @throws RESOURCE_UNAVAILABLE tier_not_ours, tier_not_mounted
 */
export async function openStorage(
	{ db, clock, ids, log, io }: StorageDependencies,
	{ tiers, bootId }: StorageOptions,
): Promise<Storage> {
	const writes = db.writer(storageModule);
	const version = readInventoryVersion(db);
	const shelf = createShelf({
		db,
		writes,
		clock,
		ids,
		log,
		version,
		bootId: bootId ?? null,
		// Not to be stopped: what was not synced must not be published.
		syncFilesystem: (directory) => io.syncFilesystem(directory, new AbortController().signal),
		async isRight(path, { part_size_bytes: partSizeBytes, xxh64 }) {
			const parts = xxh64.map((_, part) => part);
			const found = await io.hashParts({ path, partSizeBytes, parts }, new AbortController().signal);
			return found.every((digest, part) => digest === xxh64[part]);
		},
	});
	for (const options of tiers) shelf.roots.set(options.name, await openTierRoot(options));
	await recover(shelf);
	await recoverPresented(shelf);
	shelf.detected = readDetected(db);
	return createStorage(shelf, io);
}

function createStorage(shelf: Shelf, io: IoPool): Storage {
	const manifests = new Map<string, Manifest>();
	const uses = createUseRecord(shelf);
	const memory = createMemoryReader();
	const reservations = createReservations((tier) => {
		const root = rootOf(shelf, tier.name);
		const { floorBytes } = root;
		return {
			...tierSpace(root, memory),
			floorBytes,
			limitBytes: tier.limitBytes,
			copyBytes: shelf.rows.bytesOn(tier.name) - sharedBytes(shelf, tier.name),
		};
	});
	const staged = createStagedBytes(shelf, (transferId) => reservations.holds(transferId));
	const readyRow = (key: CopyKey): CopyRow => {
		const row = shelf.rows.get(keyOf(key));
		if (row?.state !== "ready") throw modelNotFound(`${key.model}@${key.revision}`, key.tier);
		return row;
	};
	const unchangedRow = (key: CopyKey): CopyRow => {
		const row = readyRow(key);
		if (row.place === "adopted") requireUnchanged(shelf, row);
		return row;
	};
	const listedRow = (key: CopyKey): CopyRow => {
		const row = shelf.rows.get(keyOf(key));
		if (row === undefined || !isListed(row)) throw modelNotFound(`${key.model}@${key.revision}`, key.tier);
		return row;
	};
	const touchRow = (key: string, use: CopyUse | undefined): void => {
		const row = shelf.rows.get(key);
		if (use !== undefined && row?.state === "ready") uses.touch(row, use);
	};
	const holdRow = (row: CopyRow, why: string, use?: CopyUse): Disposable => {
		const key = keyOf(row);
		shelf.holds.set(key, [...(shelf.holds.get(key) ?? []), why]);
		touchRow(key, use);
		let held = true;
		return {
			[Symbol.dispose]() {
				if (!held) return;
				held = false;
				const holders = shelf.holds.get(key) ?? [];
				holders.splice(holders.indexOf(why), 1);
				if (holders.length === 0) shelf.holds.delete(key);
				touchRow(key, use);
			},
		};
	};
	const quarantine = async (row: CopyRow, { damaged }: VerifyReport): Promise<void> => {
		const { model, revision, tier } = row;
		shelf.log.error("storage.copy_damaged", { model, revision, tier, files: damaged.length });
		if (row.state === "ready") await setState(shelf, row, "unavailable");
		if (row.place === "adopted") return;
		// Who has the same file has the same damage.
		const root = rootOf(shelf, tier);
		for (const other of damaged.flatMap(({ path }) => sharersOf(shelf, root, row, path))) {
			if (shelf.rows.get(keyOf(other))?.state !== "ready") continue;
			shelf.log.error("storage.copy_damaged", {
				model: other.model,
				revision: other.revision,
				tier,
				shared: true,
			});
			await setState(shelf, other, "unavailable");
		}
	};
	const shown = (row: CopyRow): ModelCopy => toModelCopy(row, shelf.detected);
	const storage: Storage = {
		tiers: () => [...shelf.roots.values()].map((root) => root.tier),
		tier: (name) => rootOf(shelf, name).tier,
		usage(name) {
			const { tier, filesystem } = rootOf(shelf, name);
			return reservations.usage(tier, filesystem);
		},
		roomForAll(name) {
			const { tier, filesystem } = rootOf(shelf, name);
			return reservations.forAll(tier, filesystem, staged.on(name));
		},
		filesystem(name) {
			const root = rootOf(shelf, name);
			const { freeBytes, totalBytes } = tierSpace(root, memory);
			return { total: totalBytes, available: freeBytes, floor: root.floorBytes };
		},
		reserve(name, bytes, { writtenBytes = 0, transferId } = {}) {
			const { tier, filesystem } = rootOf(shelf, name);
			return reservations.reserve(tier, filesystem, { bytes, writtenBytes, transferId });
		},
		claim(name, bytes, { writtenBytes = 0, transferId } = {}) {
			const { tier, filesystem } = rootOf(shelf, name);
			return reservations.claim(tier, filesystem, { bytes, writtenBytes, transferId });
		},
		async openStaging(tier, transferId) {
			const root = rootOf(shelf, tier);
			const row = { transferId, tier, bootId: root.tier.durable ? null : shelf.bootId };
			const path = storage.stagingPath(tier, transferId);
			if (shelf.staging.get(transferId)?.tier !== tier) {
				await dropStaging(shelf, transferId);
				await shelf.writes.openStaging(row);
				shelf.staging.set(transferId, row);
			}
			for (const directory of [path, storage.scratchPath(tier, transferId)]) {
				await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE }).catch((error: unknown) => {
					throw fileError(error, `Making a staging directory on ${tier}`);
				});
			}
			return path;
		},
		stagingPath: (tier, transferId) => join(stagingRootOf(rootOf(shelf, tier), transferId), "model"),
		scratchPath: (tier, transferId) => join(stagingRootOf(rootOf(shelf, tier), transferId), "scratch"),
		linkTwin: (tier, file, to) => linkTwin(shelf, rootOf(shelf, tier), file, to),
		bytesAlone(copy) {
			const row = listedRow(keyOfCopy(copy));
			return row.place === "adopted" ? 0 : bytesOf(shelf, row, { alone: true });
		},
		bytesShare(copy) {
			const row = listedRow(keyOfCopy(copy));
			return row.place === "adopted" ? 0 : bytesOf(shelf, row, { alone: false });
		},
		dropStaging: (transferId) => dropStaging(shelf, transferId),
		stagedBytes(transferId) {
			const row = shelf.staging.get(transferId);
			return row === undefined ? 0 : allocatedBytes(stagingRootOf(rootOf(shelf, row.tier), transferId));
		},
		staged: () => [...shelf.staging.values()].map(({ transferId, tier }) => ({ transferId, tier })),
		publish: async (input) => shown(await publishStaging(shelf, input)),
		models({ type, tier, isReady } = {}) {
			if (type === undefined && tier === undefined && isReady === undefined) return shelf.rows.names();
			return shelf.rows.names({
				key: JSON.stringify([type, tier, isReady]),
				choose: (rows) =>
					(type === undefined || rows[0]?.modelType === type) &&
					(tier === undefined || rows.some((row) => row.tier === tier)) &&
					(isReady === undefined || rows.some((row) => row.state === "ready") === isReady),
			});
		},
		copies: (of) => [...rowsOf(shelf, of)].filter(isListed).map(shown),
		copy(model, tier, revision) {
			if (revision !== undefined) {
				const row = shelf.rows.get(keyOf({ model, revision, tier }));
				return row !== undefined && isListed(row) ? shown(row) : undefined;
			}
			const rows = [...shelf.rows.ofModel(model)].filter((row) => isListed(row) && row.tier === tier);
			const newest = rows.sort(
				(a, b) => Number(b.state === "ready") - Number(a.state === "ready") || b.readyAt - a.readyAt,
			)[0];
			return newest === undefined ? undefined : shown(newest);
		},
		manifest(contentId) {
			const manifest = manifests.get(contentId) ?? readManifest(shelf.db, contentId);
			manifests.delete(contentId);
			if (manifest !== undefined) manifests.set(contentId, manifest);
			for (const oldest of manifests.keys()) {
				if (manifests.size <= CACHED_MANIFESTS) break;
				manifests.delete(oldest);
			}
			return manifest;
		},
		detected: (contentId) => shelf.detected.get(contentId),
		setDetected: (contentId, detected) => setDetected(shelf, contentId, detected),
		present: (copy, how) => {
			const { model, tier, ...key } = keyOfCopy(copy);
			return shelf.inTurn(`${tier} ${model}`, () =>
				presentCopy(shelf, unchangedRow({ model, tier, ...key }), how),
			);
		},
		withdraw: (copy, cacheDir) => withdrawCopy(shelf, listedRow(keyOfCopy(copy)), cacheDir),
		adopt: async (input) => shown(await adoptFiles(shelf, input)),
		adopted: () =>
			[...shelf.adoptions.keys()].flatMap((key) => {
				const row = shelf.rows.get(key);
				return row !== undefined && isListed(row) ? [shown(row)] : [];
			}),
		adoption(copy) {
			const row = listedRow(keyOfCopy(copy));
			return row.place === "adopted" ? adoptionOf(shelf, row) : undefined;
		},
		pathOf(copy) {
			const row = unchangedRow(keyOfCopy(copy));
			const root = rootOf(shelf, row.tier);
			return row.place === "adopted" ? viewPath(root, row) : copyPath(root, row);
		},
		fileOf(copy, path) {
			const row = readyRow(keyOfCopy(copy));
			if (row.place === "adopted") requireUnchanged(shelf, row, path);
			return fileAt(shelf, row)(path);
		},
		hold: (model, revision, tier, why, use) => holdRow(unchangedRow({ model, revision, tier }), why, use),
		touch: (copy, use) => touchRow(keyOf(keyOfCopy(copy)), use),
		onUse: (listener) => uses.onUse(listener),
		pin: (model, revision, tier, pinned) =>
			shelf.inTurn(`${tier} ${model}`, async () => {
				const row = listedRow({ model, revision, tier });
				return shown(row.pinned === pinned ? row : await setPinned(shelf, row, pinned));
			}),
		remove: (model, revision, tier) =>
			shelf.inTurn(`${tier} ${model}`, async () => {
				const row = shelf.rows.get(keyOf({ model, revision, tier }));
				if (row === undefined || row.state === "publishing") {
					throw modelNotFound(`${model}@${revision}`, rootOf(shelf, tier).tier.name);
				}
				return { freedBytes: await removeRow(shelf, row) };
			}),
		async verify(copy, options, signal) {
			const row = listedRow(keyOfCopy(copy));
			const manifest = storage.manifest(row.contentId);
			if (manifest === undefined) throw new Error(`the manifest ${row.contentId} of a copy is missing`);
			using hold = row.state === "ready" ? holdRow(row, "verification") : undefined;
			void hold;
			const adopted = shelf.adoptions.get(keyOf(row));
			const files = adopted && lookAgain(adopted.files);
			const report = await verifyFiles(io, fileAt(shelf, row), manifest, options, signal);
			// An unavailable copy may have been removed or replaced while it was read.
			const now = shelf.rows.get(keyOf(row));
			if (now?.state !== row.state || now.contentId !== row.contentId || now.readyAt !== row.readyAt)
				return report;
			const isWhole = report.partsChecked === report.partsTotal;
			const wasReady = row.state === "ready";
			if (report.damaged.length > 0) await quarantine(row, report);
			else if (isWhole && adopted !== undefined && files !== undefined)
				await takeBack(shelf, row, { ...adopted, files });
			else if (row.state === "unavailable" && isWhole) await setState(shelf, row, "ready");
			const after = shelf.rows.get(keyOf(row));
			if (after !== undefined && (after.state === "ready") !== wasReady) await refreshPresented(shelf, after);
			return report;
		},
		isUntouched(copy) {
			const row = readyRow(keyOfCopy(copy));
			// Whether they changed is looked at whenever somebody is given them.
			if (row.place === "adopted") return true;
			const manifest = storage.manifest(row.contentId);
			return (
				manifest !== undefined && isUnchanged(copyPath(rootOf(shelf, row.tier), row), manifest, row.readyAt)
			);
		},
		remainsOf(copy) {
			const row = listedRow(keyOfCopy(copy));
			if (row.state !== "unavailable") throw modelNotFound(`${row.model}@${row.revision}`, row.tier);
			return copyPath(rootOf(shelf, row.tier), row);
		},
		holders: (copy) => [...(shelf.holds.get(keyOf(keyOfCopy(copy))) ?? [])],
		inventoryVersion: () => shelf.version,
		bootId: shelf.bootId ?? undefined,
		onChange(listener) {
			// Its own entry, so that one function may listen twice.
			const entry = (): void => listener();
			shelf.listeners.add(entry);
			return { [Symbol.dispose]: () => void shelf.listeners.delete(entry) };
		},
		async [Symbol.asyncDispose]() {
			shelf.listeners.clear();
			await uses[Symbol.asyncDispose]();
		},
	};
	return storage;
}

function rowsOf({ rows }: Shelf, of: Parameters<Storage["copies"]>[0]): Iterable<CopyRow> {
	if (of === undefined) return rows.values();
	if ("model" in of) return rows.ofModel(of.model);
	return rows.onTier(of.tier);
}

function keyOfCopy(copy: ModelCopy): CopyKey {
	return { model: parseModelName(copy.model_name), revision: parseRevision(copy.revision), tier: copy.tier };
}
