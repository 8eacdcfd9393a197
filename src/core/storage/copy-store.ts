/** The rows of the storage room: copies with their states, manifests, staging, tiers, the inventory's version. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database } from "../../platform/database.ts";
import type { Detected } from "../../schema/detected.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { CopyPlace, CopyPurpose, ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";

export interface CopyKey {
	tier: string;
	model: ModelName;
	revision: Revision;
}

/**
 * publishing: synced in staging, the rename may or may not have happened. ready: whole. unavailable: files are there
 * but not those of the manifest. removing: on its way out, never to be read again.
 */
export type CopyState = "publishing" | "ready" | "unavailable" | "removing";

export interface CopyRow extends CopyKey {
	state: CopyState;
	contentId: string;
	sizeBytes: number;
	modelType: string;
	sourceUrl: string | null;
	format: string;
	readyAt: number;
	bootId: string | null;
	/** Seconds since the epoch; null: not since it is there. */
	lastUsedAt: number | null;
	pinned: boolean;
	purpose: CopyPurpose;
	place: CopyPlace;
	/** Of an adopted copy: what was adopted. */
	adoptedFrom: string | null;
}

export interface StagingRow {
	transferId: string;
	tier: string;
	bootId: string | null;
}

/** Each answers the version of the inventory after it. */
export const storageWrites = {
	rememberTier(db: Sqlite, { tier, storeId }: { tier: string; storeId: string }): void {
		db.query("INSERT OR REPLACE INTO storage_tier (tier, store_id) VALUES (?1, ?2)").run(tier, storeId);
	},
	beginPublish(
		db: Sqlite,
		{ row, manifest, detected }: { row: CopyRow; manifest: string; detected: Detected | undefined },
	): void {
		insertCopy(db, row, manifest);
		if (detected !== undefined) writeDetected(db, row.contentId, detected);
	},
	setState(db: Sqlite, { key, state }: { key: CopyKey; state: CopyState }): number {
		db.query("UPDATE storage_copy SET state = ?4 WHERE tier = ?1 AND model_name = ?2 AND revision = ?3").run(
			key.tier,
			key.model,
			key.revision,
			state,
		);
		return raiseVersion(db);
	},
	/** Of a content whose last copy went meanwhile nothing is kept. */
	setDetected(db: Sqlite, { contentId, detected }: { contentId: string; detected: Detected }): number {
		writeDetected(db, contentId, detected);
		return raiseVersion(db);
	},
	setPinned(db: Sqlite, { key, pinned }: { key: CopyKey; pinned: boolean }): number {
		db.query("UPDATE storage_copy SET pinned = ?4 WHERE tier = ?1 AND model_name = ?2 AND revision = ?3").run(
			key.tier,
			key.model,
			key.revision,
			pinned ? 1 : 0,
		);
		return raiseVersion(db);
	},
	/** Uses are noted in bulk, and are no change of the inventory: nobody waits to hear of them. */
	noteUses(db: Sqlite, uses: readonly { key: CopyKey; lastUsedAt: number; purpose: CopyPurpose }[]): void {
		const note = db.query(
			`UPDATE storage_copy SET last_used_at = ?4, purpose = ?5
			 WHERE tier = ?1 AND model_name = ?2 AND revision = ?3`,
		);
		for (const { key, lastUsedAt, purpose } of uses)
			note.run(key.tier, key.model, key.revision, lastUsedAt, purpose);
	},
	dropCopy(db: Sqlite, key: CopyKey): number {
		const [held] = db
			.query<{ contentId: string }, [string, string, string]>(
				"SELECT content_id AS contentId FROM storage_copy WHERE tier = ?1 AND model_name = ?2 AND revision = ?3",
			)
			.all(key.tier, key.model, key.revision);
		db.query("DELETE FROM storage_copy WHERE tier = ?1 AND model_name = ?2 AND revision = ?3").run(
			key.tier,
			key.model,
			key.revision,
		);
		db.query("DELETE FROM storage_adoption WHERE tier = ?1 AND model_name = ?2 AND revision = ?3").run(
			key.tier,
			key.model,
			key.revision,
		);
		db.query(
			"DELETE FROM storage_file WHERE content_id = ?1 AND content_id NOT IN (SELECT content_id FROM storage_copy)",
		).run(held?.contentId ?? "");
		db.run("DELETE FROM storage_manifest WHERE content_id NOT IN (SELECT content_id FROM storage_copy)");
		return raiseVersion(db);
	},
	openStaging(db: Sqlite, { transferId, tier, bootId }: StagingRow): void {
		db.query("INSERT OR REPLACE INTO storage_staging (transfer_id, tier, boot_id) VALUES (?1, ?2, ?3)").run(
			transferId,
			tier,
			bootId,
		);
	},
	closeStaging(db: Sqlite, transferId: string): void {
		db.query("DELETE FROM storage_staging WHERE transfer_id = ?1").run(transferId);
	},
};

export function writeDetected(db: Sqlite, contentId: string, detected: Detected): void {
	db.query("UPDATE storage_manifest SET detected = ?2 WHERE content_id = ?1").run(
		contentId,
		JSON.stringify(detected),
	);
}

/** Files of this size that copies on a tier have, in any state. */
export function findFiles(
	{ read }: Pick<Database, "read">,
	{ tier, sha256, sizeBytes }: { tier: string; sha256: string; sizeBytes: number },
): (CopyKey & { path: string })[] {
	return read
		.query<CopyKey & { path: string }, [string, number, string]>(
			`SELECT c.tier, c.model_name AS model, c.revision, f.path FROM storage_file f
			 JOIN storage_copy c USING (content_id) WHERE f.sha256 = ?1 AND f.size_bytes = ?2 AND c.tier = ?3`,
		)
		.all(sha256, sizeBytes, tier);
}

export function insertCopy(db: Sqlite, row: CopyRow, manifest: string): void {
	db.query(
		`INSERT OR IGNORE INTO storage_file (content_id, path, sha256, size_bytes)
		 SELECT ?1, json_extract(value, '$.path'), json_extract(value, '$.sha256'), json_extract(value, '$.size_bytes')
		 FROM json_each(?2, '$.files') WHERE json_extract(value, '$.size_bytes') >= 65536`,
	).run(row.contentId, manifest);
	db.query("INSERT OR IGNORE INTO storage_manifest (content_id, manifest) VALUES (?1, ?2)").run(
		row.contentId,
		manifest,
	);
	db.query(
		`INSERT INTO storage_copy (tier, model_name, revision, state, content_id, size_bytes, model_type, source_url, format, ready_at, boot_id, purpose, place)
		 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)`,
	).run(
		row.tier,
		row.model,
		row.revision,
		row.state,
		row.contentId,
		row.sizeBytes,
		row.modelType,
		row.sourceUrl,
		row.format,
		row.readyAt,
		row.bootId,
		row.purpose,
		row.place,
	);
}

export function raiseVersion(db: Sqlite): number {
	db.run("UPDATE storage_inventory SET version = version + 1");
	return readVersion(db);
}

function readVersion(db: Sqlite): number {
	const [row] = db.query<{ version: number }, []>("SELECT version FROM storage_inventory").all();
	return row?.version ?? 0;
}

export function readCopyRows({ read }: Pick<Database, "read">): CopyRow[] {
	return read
		.query<Omit<CopyRow, "pinned"> & { pinned: number }, []>(
			`SELECT tier, model_name AS model, revision, state, content_id AS contentId, size_bytes AS sizeBytes,
			 model_type AS modelType, source_url AS sourceUrl, format, ready_at AS readyAt, boot_id AS bootId,
			 last_used_at AS lastUsedAt, pinned, purpose, place, a.path AS adoptedFrom
			 FROM storage_copy LEFT JOIN storage_adoption a USING (tier, model_name, revision)`,
		)
		.all()
		.map((row) => ({ ...row, pinned: row.pinned === 1 }));
}

/** What is known of contents, by content id. */
export function readDetected({ read }: Pick<Database, "read">): Map<string, Detected> {
	const rows = read
		.query<{ contentId: string; detected: string }, []>(
			"SELECT content_id AS contentId, detected FROM storage_manifest WHERE detected IS NOT NULL",
		)
		.all();
	// Written by us.
	return new Map(rows.map((row) => [row.contentId, JSON.parse(row.detected) as Detected]));
}

export function readStagingRows({ read }: Pick<Database, "read">): StagingRow[] {
	return read
		.query<StagingRow, []>(
			"SELECT transfer_id AS transferId, tier, boot_id AS bootId FROM storage_staging ORDER BY transfer_id",
		)
		.all();
}

export function readStoreIds({ read }: Pick<Database, "read">): Map<string, string> {
	const rows = read
		.query<{ tier: string; storeId: string }, []>("SELECT tier, store_id AS storeId FROM storage_tier")
		.all();
	return new Map(rows.map((row) => [row.tier, row.storeId]));
}

export function readManifest({ read }: Pick<Database, "read">, contentId: string): Manifest | undefined {
	const [row] = read
		.query<{ manifest: string }, [string]>("SELECT manifest FROM storage_manifest WHERE content_id = ?1")
		.all(contentId);
	// Written by us in beginPublish, checked before that.
	return row === undefined ? undefined : (JSON.parse(row.manifest) as Manifest);
}

export function readInventoryVersion({ read }: Pick<Database, "read">): number {
	return readVersion(read);
}

/** A row as the API shows it. */
export function toModelCopy(row: CopyRow, detected: ReadonlyMap<string, Detected>): ModelCopy {
	const found = detected.get(row.contentId);
	return {
		model_name: row.model,
		revision: row.revision,
		tier: row.tier,
		status: row.state === "ready" ? "ready" : "unavailable",
		size_bytes: row.sizeBytes,
		content_id: row.contentId,
		model_type: row.modelType,
		source_url: row.sourceUrl,
		format: row.format,
		ready_at: row.readyAt,
		last_used_at: row.lastUsedAt,
		pinned: row.pinned,
		purpose: row.purpose,
		...(found === undefined ? {} : { detected: found }),
		...(row.adoptedFrom === null ? {} : { place: row.place, adopted_from: row.adoptedFrom }),
	};
}
