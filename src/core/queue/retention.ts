/** What is thrown away of the past, a slice per transaction, so that nobody waits for it. */
import type { Database as Sqlite } from "bun:sqlite";
import { FINISHED_STATUSES, type TaskState } from "../../schema/task.ts";
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
	/** Finished tasks that there are. */
	finished: number;
	nowMs: number;
}

export interface PruneResult {
	/** Whether there is more to throw away at once. */
	more: boolean;
	/** The tasks that are gone. */
	removed: readonly { state: TaskState }[];
}

/** One slice of each. The newest event stays, so that ids never begin again. */
export function prune(db: Sqlite, { queue, retention, finished, nowMs }: PruneInput): PruneResult {
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
	const tooMany = Math.max(0, finished - retention.maxTasks);
	const old = oldTasks(db, queue).filter(
		(task, index) => index < tooMany || task.completed_at_ms < nowMs - retention.tasksMs,
	);
	const remove = db.query("DELETE FROM queue_task WHERE seq = ?1");
	for (const { seq } of old) remove.run(seq);
	return {
		more: events === SLICE || keys === SLICE || old.length === SLICE,
		removed: old.map(({ state }) => ({ state })),
	};
}

/** The oldest finished tasks, without those that another task depends on. */
function oldTasks(
	db: Sqlite,
	queue: QueueName,
): { seq: number; state: TaskState; completed_at_ms: number }[] {
	const oldest = FINISHED_STATUSES.map(
		(state) =>
			`SELECT * FROM (SELECT seq, state, completed_at_ms FROM queue_task INDEXED BY queue_finished
				WHERE queue = ${quoted(queue)} AND state = '${state}' AND completed_at_ms IS NOT NULL
				AND NOT EXISTS (SELECT 1 FROM queue_dependency WHERE depends_on = queue_task.seq)
				ORDER BY completed_at_ms, seq LIMIT ${SLICE})`,
	);
	return db
		.query<{ seq: number; state: TaskState; completed_at_ms: number }, []>(
			`${oldest.join(" UNION ALL ")} ORDER BY completed_at_ms, seq LIMIT ${SLICE}`,
		)
		.all();
}
