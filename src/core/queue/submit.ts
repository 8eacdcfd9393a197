/** The transaction that records a task, or finds the one that does the work already. */
import type { Database as Sqlite } from "bun:sqlite";
import { type TaskState, taskStatus } from "../../schema/task.ts";
import { findDependencies, refuseTooMany } from "./dependencies.ts";
import { bindDispatch, sameDispatch } from "./dispatch.ts";
import type { Elsewhere } from "./elsewhere.ts";
import { type IdempotencyKey, madeByKey, rememberKey } from "./idempotency.ts";
import { type NewTask, type Room, insertTask, refuseWhenFull } from "./insert.ts";
import { type Change, type TaskRow, findTask, param, quoted, taskBySeq } from "./task-row.ts";

export interface SubmitRow extends NewTask {
	dependencies: readonly string[];
	/** In other queues. */
	elsewhere: readonly Elsewhere[];
	idempotency: IdempotencyKey | null;
	room: Room;
}

export interface SubmitResult {
	taskId: string;
	seq: number;
	state: TaskState;
	/** Of a new task; null when it was there already. */
	created: Change | null;
	/** The ranks before and after, of a waiting task that became more urgent with this. */
	raised: { from: number; to: number } | null;
}

/**
 * @throws 400 unknown_dependency, too_many_dependencies; 409 idempotency_mismatch, stale_token, cancelled_here;
 * 424 dependency_failed; 503 queue_full
 */
export function submit(db: Sqlite, input: SubmitRow): SubmitResult {
	const made = sameKey(db, input);
	if (made !== undefined) return already(made);
	const sent = sameDispatch(db, input.queue, input.dispatch);
	const there = sent === undefined ? join(db, input) : already(sent);
	if (there !== undefined) {
		remember(db, input, there.taskId);
		return there;
	}
	refuseTooMany(input.dependencies.length + input.elsewhere.length);
	const dependencies = findDependencies(db, input.queue, input.dependencies);
	refuseWhenFull(input.room, 1);
	const awaited = input.elsewhere.map((one) => ({ ...one, state: "pending" as const }));
	const { seq, state, change } = insertTask(db, input, dependencies, awaited);
	remember(db, input, input.taskId);
	return { taskId: input.taskId, seq, state, created: change, raised: null };
}

function already({ task_id, seq, state }: TaskRow): SubmitResult {
	return { taskId: task_id, seq, state, created: null, raised: null };
}

/** The task that this Idempotency-Key made. */
function sameKey(db: Sqlite, { queue, idempotency, nowMs }: SubmitRow): TaskRow | undefined {
	if (idempotency === null) return undefined;
	const taskId = madeByKey(db, queue, idempotency, nowMs);
	return taskId === undefined ? undefined : findTask(db, queue, taskId);
}

function remember(db: Sqlite, { queue, idempotency, nowMs }: SubmitRow, taskId: string): void {
	if (idempotency !== null) rememberKey(db, queue, idempotency, { taskId, nowMs });
}

/** A live task that does the same work gets one more waiter, and the more urgent priority of both. */
function join(db: Sqlite, input: SubmitRow): SubmitResult | undefined {
	if (input.joinKey === null || input.dependencies.length + input.elsewhere.length > 0) return undefined;
	const [live] = db
		.query<{ seq: number }, [string]>(
			`SELECT seq FROM queue_task INDEXED BY queue_joinable
			WHERE queue = ${quoted(input.queue)} AND join_key = ${param(1)} AND join_key IS NOT NULL
			AND completed_at_ms IS NULL AND state <> 'cancelling' ORDER BY seq LIMIT 1`,
		)
		.all(input.joinKey);
	if (live === undefined) return undefined;
	const row = taskBySeq(db, live.seq);
	const rank = Math.min(row.rank, input.rank);
	db.query("UPDATE queue_task SET waiters = waiters + 1, rank = ?2 WHERE seq = ?1").run(live.seq, rank);
	// Sent again, the same dispatch finds it here and adds no further waiter.
	if (input.dispatch !== null && row.operation_id === null) bindDispatch(db, live.seq, input.dispatch);
	const isRaised = rank < row.rank && taskStatus(row.state) === "pending";
	return { ...already(row), raised: isRaised ? { from: row.rank, to: rank } : null };
}
