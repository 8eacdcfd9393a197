/** Rows of uses and hints. Uses are written in bulk, hints at once. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database, WriterModule } from "../../platform/database.ts";
import type { Hint } from "./plan.ts";
import { HOURS_PER_WEEK, type UseRecord } from "./use-record.ts";
import migration1 from "./sql/0001_preload.sql" with { type: "text" };

const preloadWrites = {
	/** Of models whose record is undefined nothing is kept. */
	keepUses(db: Sqlite, uses: readonly { model: string; record: UseRecord | undefined }[]): void {
		const keep = db.query(
			`INSERT OR REPLACE INTO preload_use (model_name, hours, week, first_at, last_at, recent)
			 VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		);
		const drop = db.query("DELETE FROM preload_use WHERE model_name = ?1");
		for (const { model, record } of uses) {
			if (record === undefined) drop.run(model);
			else {
				const { hours, week, firstAtS, lastAtS, recent } = record;
				const bytes = new Uint8Array(hours.buffer, hours.byteOffset, hours.byteLength);
				keep.run(model, bytes, week, firstAtS, lastAtS, recent);
			}
		}
	},
	keepHint(db: Sqlite, { model, fromS, untilS }: Hint): void {
		db.query("INSERT OR REPLACE INTO preload_hint (model_name, from_at, until_at) VALUES (?1, ?2, ?3)").run(
			model,
			fromS,
			untilS,
		);
	},
	dropHints(db: Sqlite, models: readonly string[]): void {
		for (const model of models) db.query("DELETE FROM preload_hint WHERE model_name = ?1").run(model);
	},
};

/** The room's tables and write operations, for the database's writer thread. */
export const preloadModule = {
	room: "preload",
	migrations: [migration1],
	writes: preloadWrites,
} satisfies WriterModule;

export function readUses({ read }: Pick<Database, "read">): Map<string, UseRecord> {
	const rows = read
		.query<Omit<UseRecord, "hours"> & { model: string; hours: Uint8Array }, []>(
			`SELECT model_name AS model, hours, week, first_at AS firstAtS, last_at AS lastAtS, recent
			 FROM preload_use ORDER BY last_at`,
		)
		.all();
	return new Map(rows.map(({ model, hours, ...row }) => [model, { ...row, hours: floatsOf(hours) }]));
}

export function readHints({ read }: Pick<Database, "read">): Hint[] {
	return read
		.query<Hint, []>("SELECT model_name AS model, from_at AS fromS, until_at AS untilS FROM preload_hint")
		.all();
}

/** Written by us, on a machine of the same byte order. */
function floatsOf(bytes: Uint8Array): Float32Array {
	const hours = new Float32Array(HOURS_PER_WEEK);
	new Uint8Array(hours.buffer).set(bytes.subarray(0, hours.byteLength));
	return hours;
}
