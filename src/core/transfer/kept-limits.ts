/** Limits on bandwidth that were set while the agent ran, and hold after its next start. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database, Writer } from "../../platform/database.ts";

/** Bytes per second; null: no limit. */
export interface Limits {
	down: number | null;
	up: number | null;
}

/** Of this node, or of all nodes together. */
export type LimitScope = "node" | "cluster";

export interface KeptLimits {
	/** What holds at a start: of each direction what was said last, at run time or in the configuration. */
	read(): Limits;
	/** Resolves when it would be there after a crash. */
	keep(limits: Limits): Promise<void>;
}

interface LimitRow extends Limits {
	scope: LimitScope;
	configured_down: number | null;
	configured_up: number | null;
}

export const limitWrites = {
	keepLimits(db: Sqlite, row: LimitRow): void {
		db.query(
			`INSERT OR REPLACE INTO bandwidth_limit (scope, down, up, configured_down, configured_up)
			 VALUES ($scope, $down, $up, $configured_down, $configured_up)`,
		).run({ ...row });
	},
};

/** `configured` is what the configuration says now. */
export function createKeptLimits(
	{ db, writes }: { db: Pick<Database, "read">; writes: Pick<Writer<typeof limitWrites>, "keepLimits"> },
	scope: LimitScope,
	configured: Limits,
): KeptLimits {
	return {
		read() {
			const [row] = db.read
				.query<LimitRow, [string]>("SELECT * FROM bandwidth_limit WHERE scope = ?1")
				.all(scope);
			if (row === undefined) return configured;
			return {
				down: row.configured_down === configured.down ? row.down : configured.down,
				up: row.configured_up === configured.up ? row.up : configured.up,
			};
		},
		keep: ({ down, up }) =>
			writes.keepLimits({
				scope,
				down,
				up,
				configured_down: configured.down,
				configured_up: configured.up,
			}),
	};
}
