/** Rows of models and their locations; every write is one transaction. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import type { Detected } from "../../schema/detected.ts";
import { GswarmError, modelNotFound } from "../../schema/errors.ts";
import type { CopyPlace, ModelCopy, ModelStatus } from "../../schema/model.ts";
import migration1 from "./sql/0001_registry.sql" with { type: "text" };
import migration2 from "./sql/0002_detected.sql" with { type: "text" };
import migration3 from "./sql/0003_places.sql" with { type: "text" };
import migration4 from "./sql/0004_pins.sql" with { type: "text" };
import migration5 from "./sql/0005_version.sql" with { type: "text" };

export interface ModelRow {
	model_name: string;
	model_type: string;
	model_size: number;
	source_url: string | null;
	/** JSON. */
	metadata: string;
	revision: string | null;
	format: string | null;
	created_at: number;
	implied: number;
	/** JSON; what was read from the files of the newest copy that a node told of. */
	detected: string | null;
	/** 1: a person said what type it is. */
	typed: number;
}

/** What a person gives; the rest is learned. */
export type GivenModel = Omit<ModelRow, "revision" | "format" | "detected">;

export interface LocationRow {
	model_name: string;
	node: string;
	tier: string;
	revision: string;
	status: ModelStatus;
	size_bytes: number;
	content_id: string | null;
	claimed: number;
	place: CopyPlace;
	adopted_from: string | null;
	pinned: number;
}

export interface CopyKey {
	model_name: string;
	node: string;
	tier: string;
	revision: string;
}

interface DescribeInput {
	model_name: string;
	/** null: what was detected. */
	model_type?: string | null | undefined;
	/** JSON, in place of what was there. */
	metadata?: string | undefined;
}

const registryWrites = {
	/** @throws 409 model_exists */
	insertModel(db: Sqlite, row: GivenModel): void {
		raiseVersion(db);
		const { changes } = db
			.query(
				`INSERT INTO registry_model
				 (model_name, model_type, model_size, source_url, metadata, created_at, implied, typed)
				 VALUES ($model_name, $model_type, $model_size, $source_url, $metadata, $created_at, $implied, $typed)
				 ON CONFLICT (model_name) DO UPDATE SET model_type = $model_type, typed = $typed, model_size = $model_size,
				 source_url = $source_url, metadata = $metadata, implied = 0 WHERE implied = 1`,
			)
			.run({ ...row });
		if (changes === 0) {
			throw new GswarmError(
				"CONFLICT",
				`The model ${JSON.stringify(row.model_name)} is registered already.`,
				{
					reason: "model_exists",
					details: { model: row.model_name },
					hint: `\`gswarm model show ${row.model_name}\` shows it.`,
				},
			);
		}
	},
	/** Registers what a download names; a model that is known keeps its row but learns a missing source. */
	ensureModel(db: Sqlite, row: GivenModel): void {
		raiseVersion(db);
		db.query(
			`INSERT INTO registry_model
			 (model_name, model_type, model_size, source_url, metadata, created_at, implied, typed)
			 VALUES ($model_name, $model_type, $model_size, $source_url, $metadata, $created_at, $implied, $typed)
			 ON CONFLICT (model_name) DO UPDATE SET
			 model_type = CASE WHEN typed = 0 AND $typed = 1 THEN $model_type ELSE model_type END, typed = max(typed, $typed),
			 source_url = CASE WHEN implied = 1 THEN $source_url ELSE coalesce(source_url, $source_url) END`,
		).run({ ...row });
	},
	/** Changes what is named. @throws 404 MODEL_NOT_FOUND */
	describeModel(db: Sqlite, { model_name, model_type, metadata }: DescribeInput): void {
		raiseVersion(db);
		const [row] = db
			.query<ModelRow, [string]>("SELECT * FROM registry_model WHERE model_name = ?1")
			.all(model_name);
		if (row === undefined) throw modelNotFound(model_name);
		const guess = row.detected === null ? "unknown" : (JSON.parse(row.detected) as Detected).model_type;
		db.query(
			"UPDATE registry_model SET model_type = $model_type, typed = $typed, metadata = $metadata WHERE model_name = $model_name",
		).run({
			model_name,
			model_type: model_type === undefined ? row.model_type : (model_type ?? guess),
			typed: model_type === undefined ? row.typed : model_type === null ? 0 : 1,
			metadata: metadata ?? row.metadata,
		});
	},
	/**
	 * Replaces what one node holds by its inventory. Models that only nodes know are registered; tombstoned copies
	 * are left out and returned, so that the host has them removed; claims stay until they are confirmed.
	 */
	takeInventory(db: Sqlite, input: { node: string; copies: ModelCopy[]; now: number }): CopyKey[] {
		raiseVersion(db);
		const { node, now } = input;
		const tombstones = new Set(
			db
				.query<CopyKey, [string]>(
					"SELECT model_name, node, tier, revision FROM registry_tombstone WHERE node = ?1",
				)
				.all(node)
				.map((t) => copyId(t.model_name, t.tier, t.revision)),
		);
		const condemned: CopyKey[] = [];
		db.query("DELETE FROM registry_location WHERE node = ?1 AND claimed = 0").run(node);
		const addModel = db.query(
			`INSERT INTO registry_model (model_name, model_type, model_size, source_url, metadata, revision, format, created_at, detected)
			 VALUES ($model_name, $model_type, $size, $source_url, '{}', $revision, $format, $now, $detected)
			 ON CONFLICT (model_name) DO UPDATE SET
			 detected = CASE WHEN $detected IS NULL AND revision IS $revision THEN detected ELSE $detected END,
			 model_size = $size, revision = $revision, format = $format, implied = 0,
			 model_type = CASE WHEN typed = 0 THEN $model_type ELSE model_type END,
			 source_url = coalesce(source_url, $source_url)`,
		);
		const addLocation = db.query(
			`INSERT INTO registry_location (model_name, node, tier, revision, status, size_bytes, content_id, claimed, place, adopted_from, pinned)
			 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10)
			 ON CONFLICT DO UPDATE SET status = ?5, size_bytes = ?6, content_id = ?7, claimed = 0, place = ?8, adopted_from = ?9, pinned = ?10`,
		);
		const dropClaim = db.query(
			"DELETE FROM registry_location WHERE model_name = ?1 AND node = ?2 AND tier = ?3 AND claimed = 1",
		);
		const seen = new Set<string>();
		for (const copy of input.copies) {
			const id = copyId(copy.model_name, copy.tier, copy.revision);
			seen.add(id);
			if (tombstones.has(id)) {
				condemned.push({ model_name: copy.model_name, node, tier: copy.tier, revision: copy.revision });
				continue;
			}
			addModel.run({
				model_name: copy.model_name,
				model_type: copy.model_type,
				size: copy.size_bytes,
				source_url: copy.source_url,
				revision: copy.revision,
				format: copy.format,
				detected: copy.detected === undefined ? null : JSON.stringify(copy.detected),
				now,
			});
			dropClaim.run(copy.model_name, node, copy.tier);
			addLocation.run(
				copy.model_name,
				node,
				copy.tier,
				copy.revision,
				copy.status,
				copy.size_bytes,
				copy.content_id,
				copy.place ?? "store",
				copy.adopted_from ?? null,
				copy.pinned === true ? 1 : 0,
			);
		}
		const gone = db.query(
			"DELETE FROM registry_tombstone WHERE node = ?1 AND model_name = ?2 AND tier = ?3 AND revision = ?4",
		);
		for (const t of db
			.query<CopyKey, [string]>(
				"SELECT model_name, node, tier, revision FROM registry_tombstone WHERE node = ?1",
			)
			.all(node)) {
			if (!seen.has(copyId(t.model_name, t.tier, t.revision)))
				gone.run(node, t.model_name, t.tier, t.revision);
		}
		return condemned;
	},
	/** A person says that a copy is there. @throws 404 MODEL_NOT_FOUND */
	claimLocation(db: Sqlite, input: { model_name: string; node: string; tier: string }): void {
		raiseVersion(db);
		const [model] = db
			.query<{ n: number }, [string]>("SELECT 1 AS n FROM registry_model WHERE model_name = ?1")
			.all(input.model_name);
		if (model === undefined) throw modelNotFound(input.model_name);
		const [known] = db
			.query<{ n: number }, [string, string, string]>(
				"SELECT 1 AS n FROM registry_location WHERE model_name = ?1 AND node = ?2 AND tier = ?3",
			)
			.all(input.model_name, input.node, input.tier);
		if (known !== undefined) return;
		db.query(
			`INSERT INTO registry_location (model_name, node, tier, revision, status, size_bytes, content_id, claimed)
			 VALUES (?1, ?2, ?3, '', 'unavailable', 0, NULL, 1)`,
		).run(input.model_name, input.node, input.tier);
	},
	/**
	 * Leave to destroy a durable copy: marks it unavailable in the same transaction that finds another ready durable
	 * copy of the revision on one of the `alive` nodes, so that two nodes can never both drop "the other" one.
	 * An inventory that still lists the copy brings it back.
	 */
	condemn(db: Sqlite, input: CopyKey & { alive: string[]; force: boolean; dry_run: boolean }): boolean {
		const { model_name, node, tier, revision } = input;
		const [other] = db
			.query<{ n: number }, [string, string, string, string, string]>(
				`SELECT 1 AS n FROM registry_location
				 WHERE model_name = ?1 AND revision = ?2 AND status = 'ready' AND tier GLOB 'disk*' AND place = 'store'
				 AND NOT (node = ?3 AND tier = ?4) AND node IN (SELECT value FROM json_each(?5)) LIMIT 1`,
			)
			.all(model_name, revision, node, tier, JSON.stringify(input.alive));
		if (other === undefined && !input.force) return false;
		if (!input.dry_run) {
			raiseVersion(db);
			db.query(
				`UPDATE registry_location SET status = 'unavailable'
				 WHERE model_name = ?1 AND revision = ?2 AND node = ?3 AND tier = ?4`,
			).run(model_name, revision, node, tier);
		}
		return true;
	},
	/** A node is no longer one of the cluster: nothing is known of what it holds. */
	dropNode(db: Sqlite, { node }: { node: string }): void {
		raiseVersion(db);
		db.query("DELETE FROM registry_location WHERE node = ?1").run(node);
		db.query("DELETE FROM registry_tombstone WHERE node = ?1").run(node);
	},
	dropClaim(db: Sqlite, input: { model_name: string; node: string; tier: string }): void {
		raiseVersion(db);
		db.query(
			"DELETE FROM registry_location WHERE model_name = ?1 AND node = ?2 AND tier = ?3 AND claimed = 1",
		).run(input.model_name, input.node, input.tier);
	},
	/** Forgets a model; copies on nodes that could not be asked become tombstones. */
	forgetModel(db: Sqlite, input: { model_name: string; tombstones: CopyKey[]; now: number }): void {
		raiseVersion(db);
		const add = db.query("INSERT OR REPLACE INTO registry_tombstone VALUES (?1, ?2, ?3, ?4, ?5)");
		for (const t of input.tombstones) add.run(t.model_name, t.node, t.tier, t.revision, input.now);
		db.query("DELETE FROM registry_location WHERE model_name = ?1").run(input.model_name);
		db.query("DELETE FROM registry_model WHERE model_name = ?1").run(input.model_name);
	},
	/** A copy that is wanted again is no longer condemned. */
	dropTombstones(db: Sqlite, input: { model_name: string; node: string; tier: string }): void {
		db.query("DELETE FROM registry_tombstone WHERE model_name = ?1 AND node = ?2 AND tier = ?3").run(
			input.model_name,
			input.node,
			input.tier,
		);
	},
};

export const registryModule = {
	room: "registry",
	migrations: [migration1, migration2, migration3, migration4, migration5],
	writes: registryWrites,
} satisfies WriterModule;

/** Whoever keeps what it read of models and locations reads it anew. */
function raiseVersion(db: Sqlite): void {
	db.run("UPDATE registry_version SET version = version + 1");
}

function copyId(model: string, tier: string, revision: string): string {
	return `${model}\n${tier}\n${revision}`;
}
