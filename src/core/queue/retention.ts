/** What is thrown away of the past, a slice per transaction, so that nobody waits for it. */
import type { Database as Sqlite } from "bun:sqlite";
import { type QueueName, quoted } from "./task-row.ts";

const SLICE = 500;
const DAY_MS = 24 * 60 * 60_000;

/** Finished tasks are kept so long, and at most so many of them; their events are kept so long. */
export interface Retention {
	tasksMs: number;
	maxTasks: number;
	eventsMs: number;
}

export const DEFAULT_RETENTION: Retention = {
	tasksMs: 90 * DAY_MS,
	maxTasks: 1_000_000,
	eventsMs: 7 * DAY_MS,
};

export interface PruneInput {
	queue: QueueName;
	retention: Retention;
	nowMs: number;
}

/** One slice of each; true when there may be more. The newest event stays, so that ids never begin again. */
export function prune(db: Sqlite, { queue, retention, nowMs }: PruneInput): { more: boolean } {
	const events = db
		.query(
			`DELETE FROM queue_event WHERE id IN (SELECT id FROM queue_event
				WHERE id < (SELECT max(id) FROM queue_event) ORDER BY id LIMIT ${SLICE}) AND at_ms < ?1`,
		)
		.run(nowMs - retention.eventsMs).changes;
	const keys = db
		.query(
			`DELETE FROM queue_idempotency WHERE (queue, key) IN (SELECT queue, key FROM queue_idempotency
				WHERE expires_at_ms <= ?1 LIMIT ${SLICE})`,
		)
		.run(nowMs).changes;
	const old = oldTasks(db, queue, retention, nowMs);
	const remove = db.query("DELETE FROM queue_task WHERE seq = ?1");
	for (const { seq } of old) remove.run(seq);
	return { more: events === SLICE || keys === SLICE || old.length === SLICE };
}

/** Finished tasks that are too old or too many, the oldest first; never one that another task depends on. */
function oldTasks(
	db: Sqlite,
	queue: QueueName,
	{ tasksMs, maxTasks }: Retention,
	nowMs: number,
): { seq: number }[] {
	const [{ count } = { count: 0 }] = db
		.query<{ count: number }, []>(
			`SELECT coalesce(sum(count), 0) AS count FROM queue_counter
			WHERE queue = ${quoted(queue)} AND state IN ('completed', 'failed', 'cancelled')`,
		)
		.all();
	const tooMany = Math.max(0, count - maxTasks);
	const oldest = ["completed", "failed", "cancelled"].map(
		(state) =>
			`SELECT * FROM (SELECT seq, completed_at_ms FROM queue_task INDEXED BY queue_finished
				WHERE queue = ${quoted(queue)} AND state = '${state}' AND completed_at_ms IS NOT NULL
				AND NOT EXISTS (SELECT 1 FROM queue_dependency WHERE depends_on = queue_task.seq)
				ORDER BY completed_at_ms, seq LIMIT ${SLICE})`,
	);
	return db
		.query<{ seq: number; completed_at_ms: number }, []>(
			`${oldest.join(" UNION ALL ")} ORDER BY completed_at_ms, seq LIMIT ${SLICE}`,
		)
		.all()
		.filter((task, index) => index < tooMany || task.completed_at_ms < nowMs - tasksMs);
}
