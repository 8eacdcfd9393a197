/**
 * What the room knows while it runs: the tiers' directories, the rows of copies and staging (the database's, changed
 * here only after their commit), who holds what. Publishing, removing and recovery work on it.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database, Writer } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import type { Detected } from "../../schema/detected.ts";
import type { ManifestFile } from "../../schema/manifest.ts";
import { notFound } from "../../schema/errors.ts";
import { CopyIndex, keyOf } from "./copy-index.ts";
import type { CopyRow, CopyState, StagingRow, storageWrites } from "./copy-store.ts";
import type { Presentation, presentedWrites } from "./presented-store.ts";
import type { Adoption, adoptionWrites } from "./adoption-store.ts";
import type { TierRoot } from "./tier-root.ts";
import { createTurns } from "./turns.ts";

/** An inode that copies of a tier share. */
interface SharedFile {
	sizeBytes: number;
	/** Keys of copies. */
	holders: Set<string>;
}

export interface Shelf {
	db: Database;
	writes: Writer<typeof storageWrites & typeof adoptionWrites & typeof presentedWrites>;
	clock: Clock;
	ids: Ids;
	log: Log;
	/** Null on a machine that does not name its boots. */
	bootId: string | null;
	/** All that was written to the filesystem of a directory reaches the device; false where that cannot be had. */
	syncFilesystem: (directory: string) => Promise<boolean>;
	roots: Map<string, TierRoot>;
	rows: CopyIndex;
	staging: Map<string, StagingRow>;
	/** What was read from contents of copies that are here, by content id. */
	detected: Map<string, Detected>;
	/** Whether the bytes of a file are those of the manifest. */
	isRight: (path: string, file: ManifestFile) => Promise<boolean>;
	/** Files that several copies have, by tier and inode. */
	shared: Map<string, SharedFile>;
	/** In which caches a copy is shown. */
	presented: Map<string, Presentation[]>;
	/** Where the files of adopted copies are. */
	adoptions: Map<string, Adoption>;
	/** Why a copy is in use, once per holder. */
	holds: Map<string, string[]>;
	version: number;
	listeners: Set<() => void>;
	/** Changes of one model on one tier come one after the other. */
	inTurn: ReturnType<typeof createTurns>;
}

export function createShelf(
	parts: Pick<
		Shelf,
		"db" | "writes" | "clock" | "ids" | "log" | "bootId" | "version" | "syncFilesystem" | "isRight"
	>,
): Shelf {
	return {
		...parts,
		roots: new Map(),
		rows: new CopyIndex(),
		staging: new Map(),
		detected: new Map(),
		shared: new Map(),
		presented: new Map(),
		adoptions: new Map(),
		holds: new Map(),
		listeners: new Set(),
		inTurn: createTurns(),
	};
}

/** @throws 404 device_not_found */
export function rootOf(shelf: Shelf, tier: string): TierRoot {
	const root = shelf.roots.get(tier);
	if (root === undefined) {
		throw notFound("device", tier, `This node has ${[...shelf.roots.keys()].join(", ")}.`);
	}
	return root;
}

export async function setState(shelf: Shelf, row: CopyRow, state: CopyState): Promise<CopyRow> {
	const { tier, model, revision } = row;
	const version = await shelf.writes.setState({ key: { tier, model, revision }, state });
	// It may have been used or pinned meanwhile.
	const changed = { ...(shelf.rows.get(keyOf(row)) ?? row), state };
	shelf.rows.set(keyOf(row), changed);
	tell(shelf, version);
	return changed;
}

export async function setDetected(shelf: Shelf, contentId: string, detected: Detected): Promise<void> {
	const version = await shelf.writes.setDetected({ contentId, detected });
	// Its last copy may have gone meanwhile.
	if (![...shelf.rows.values()].some((row) => row.contentId === contentId)) return;
	shelf.detected.set(contentId, detected);
	tell(shelf, version);
}

export async function setPinned(shelf: Shelf, row: CopyRow, pinned: boolean): Promise<CopyRow> {
	const { tier, model, revision } = row;
	const version = await shelf.writes.setPinned({ key: { tier, model, revision }, pinned });
	// It may have been used meanwhile.
	const changed = { ...(shelf.rows.get(keyOf(row)) ?? row), pinned };
	shelf.rows.set(keyOf(row), changed);
	tell(shelf, version);
	return changed;
}

export async function dropRow(shelf: Shelf, row: CopyRow): Promise<void> {
	const { tier, model, revision } = row;
	const version = await shelf.writes.dropCopy({ tier, model, revision });
	shelf.rows.delete(keyOf(row));
	if (![...shelf.rows.values()].some(({ contentId }) => contentId === row.contentId))
		shelf.detected.delete(row.contentId);
	shelf.adoptions.delete(keyOf(row));
	tell(shelf, version);
}

export function tell(shelf: Shelf, version: number): void {
	shelf.version = version;
	for (const listener of shelf.listeners) listener();
}
