/** Rows of the audit log: added by the batch, dropped by number, read page by page from the newest on. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import type { AuditEntry } from "../../schema/audit.ts";
import { invalid } from "../../schema/errors.ts";
import sql from "./sql/0001_audit.sql" with { type: "text" };

export interface AuditRow {
	at_ms: number;
	refused: 0 | 1;
	actor_id: string | null;
	actor_name: string | null;
	actor_role: string | null;
	action: string;
	/** JSON. */
	target: string;
	status: number;
	reason: string | null;
	address: string;
	listener: string;
	request_id: string;
}

/** How many rows are kept; refusals are limited on their own, so that a flood of them drops nothing that was done. */
export interface AuditRetention {
	rows: number;
	refusals: number;
}

const auditWrites = {
	/** Adds rows in their order and, every so often, drops the oldest beyond what is kept. */
	append(db: Sqlite, { rows, keep }: { rows: readonly AuditRow[]; keep: AuditRetention }): void {
		const insert = db.query(
			`INSERT INTO audit (at_ms, refused, actor_id, actor_name, actor_role, action, target, status, reason,
				address, listener, request_id)
			VALUES ($at_ms, $refused, $actor_id, $actor_name, $actor_role, $action, $target, $status, $reason,
				$address, $listener, $request_id)`,
		);
		let last = 0;
		for (const row of rows) last = Number(insert.run({ ...row }).lastInsertRowid);
		// Counting costs milliseconds, so it waits for a hundredth of the log to have come.
		const every = Math.max(1, Math.floor(keep.rows / 100));
		if (Math.floor(last / every) > Math.floor((last - rows.length) / every)) trim(db, keep);
	},
};

export const auditModule = {
	room: "audit",
	migrations: [sql],
	writes: auditWrites,
} satisfies WriterModule;

export interface AuditFilter {
	/** Seconds since the epoch. */
	since?: number | undefined;
	/** Id or name. */
	actor?: string | undefined;
	action?: string | undefined;
	/** `next_cursor` of the page before. */
	cursor?: string | undefined;
	limit: number;
}

/** A page, the newest first. @throws 400 bad_cursor */
export function readAudit(
	read: Sqlite,
	{ since, actor, action, cursor, limit }: AuditFilter,
): { entries: AuditEntry[]; next_cursor: string | null } {
	const rows = read
		.query<AuditRow & { seq: number }, [number, number, string | null, string | null, number]>(
			`SELECT * FROM audit WHERE seq < ?1 AND at_ms >= ?2
			AND (?3 IS NULL OR actor_id = ?3 OR actor_name = ?3) AND (?4 IS NULL OR action = ?4)
			ORDER BY seq DESC LIMIT ?5`,
		)
		.all(
			cursor === undefined ? Number.MAX_SAFE_INTEGER : parseCursor(cursor),
			Math.ceil((since ?? 0) * 1000),
			actor ?? null,
			action ?? null,
			limit + 1,
		);
	const page = rows.slice(0, limit);
	const last = rows.length > limit ? page.at(-1) : undefined;
	return { entries: page.map(entryOf), next_cursor: last === undefined ? null : formatCursor(last.seq) };
}

function trim(db: Sqlite, { rows, refusals }: AuditRetention): void {
	db.query(
		`DELETE FROM audit WHERE refused = 1 AND seq <=
			(SELECT seq FROM audit WHERE refused = 1 ORDER BY seq DESC LIMIT 1 OFFSET ?1)`,
	).run(refusals);
	trimBusiest(db, rows);
	db.query("DELETE FROM audit WHERE seq <= (SELECT seq FROM audit ORDER BY seq DESC LIMIT 1 OFFSET ?1)").run(
		rows,
	);
}

/** Of all rows, what one token or node has for certain; beyond it, where there are too many, its own go first. */
const SHARE = 1 / 5;

/** So that nobody washes away what others did, by doing something harmless a hundred thousand times. */
function trimBusiest(db: Sqlite, rows: number): void {
	const [all] = db.query<{ n: number }, []>("SELECT count(*) n FROM audit").all();
	let excess = (all?.n ?? 0) - rows;
	if (excess <= 0) return;
	const share = Math.floor(rows * SHARE);
	const busiest = db
		.query<{ actor_id: string; n: number }, [number]>(
			`SELECT actor_id, count(*) n FROM audit WHERE actor_id IS NOT NULL AND refused = 0
			 GROUP BY actor_id HAVING n > ?1 ORDER BY n DESC`,
		)
		.all(share);
	for (const { actor_id, n } of busiest) {
		const dropped = Math.min(excess, n - share);
		db.query(
			`DELETE FROM audit WHERE seq IN
				(SELECT seq FROM audit WHERE actor_id = ?1 AND refused = 0 ORDER BY seq LIMIT ?2)`,
		).run(actor_id, dropped);
		excess -= dropped;
	}
}

function entryOf({ seq, ...row }: AuditRow & { seq: number }): AuditEntry {
	return {
		seq,
		at: row.at_ms / 1000,
		actor: { id: row.actor_id, name: row.actor_name, role: row.actor_role },
		action: row.action,
		target: JSON.parse(row.target) as Record<string, string>,
		status: row.status,
		reason: row.reason,
		address: row.address,
		listener: row.listener,
		request_id: row.request_id,
	};
}

function formatCursor(seq: number): string {
	return Buffer.from(`audit.${seq}`).toString("base64url");
}

function parseCursor(cursor: string): number {
	const match = /^audit\.(\d{1,15})$/.exec(Buffer.from(cursor, "base64url").toString("latin1"));
	if (match === null) {
		throw invalid("bad_cursor", "The cursor is not one that a page of the audit log gave.", {
			field: "cursor",
		});
	}
	return Number(match[1]);
}
