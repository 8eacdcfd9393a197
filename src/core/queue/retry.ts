/** The transaction of a retry by hand: what failed stays as it is, and a new task does the work again. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, notFound } from "../../schema/errors.ts";
import { isTerminal } from "../../schema/task.ts";
import { failedAlready, findDependencies } from "./dependencies.ts";
import { type Awaited, type Elsewhere, awaitedBy } from "./elsewhere.ts";
import { type IdempotencyKey, madeByKey, rememberKey } from "./idempotency.ts";
import { type Room, insertTask, refuseWhenFull } from "./insert.ts";
import { newestRetry } from "./retry-chain.ts";
import type { SubmitResult } from "./submit.ts";
import { type QueueName, type TaskRow, findTask, taskBySeq } from "./task-row.ts";

export interface RetryInput {
	queue: QueueName;
	taskId: string;
	/** The id of the task that does it again. */
	newTaskId: string;
	/** Tasks of other queues that failed, and those that do them again. */
	again: Readonly<Record<string, Elsewhere>>;
	idempotency: IdempotencyKey | null;
	room: Room;
	nowMs: number;
}

/**
 * A retry that waits or runs already is the answer to a second one.
 * @throws 404 task_not_found; 409 not_failed; 424 dependency_failed; 503 queue_full
 */
export function retry(db: Sqlite, input: RetryInput): SubmitResult {
	const { queue, taskId, newTaskId, again: replaced, idempotency, room, nowMs } = input;
	const made = idempotency === null ? undefined : madeByKey(db, queue, idempotency, nowMs);
	const again = made === undefined ? undefined : findTask(db, queue, made);
	if (again !== undefined)
		return { taskId: again.task_id, seq: again.seq, state: again.state, created: null, raised: null };
	const asked = findTask(db, queue, taskId);
	if (asked === undefined)
		throw notFound("task", taskId, "`gswarm queue history --status failed` lists what can be retried.");
	const row = newestRetry(db, asked);
	if (row.seq !== asked.seq && !isTerminal(row.state))
		return { taskId: row.task_id, seq: row.seq, state: row.state, created: null, raised: null };
	if (row.state !== "failed" && row.state !== "cancelled") throw notFailed(asked, row);
	const dependencies = findDependencies(db, queue, dependencyIds(db, row), { followRetries: true });
	const awaited = awaitedBy(db, row.seq).map((one) => awaitedAgain(one, replaced));
	refuseWhenFull(room, 1);
	const { seq, state, change } = insertTask(
		db,
		{
			queue,
			taskId: newTaskId,
			type: row.type,
			model: row.model,
			rank: row.rank,
			request: row.request,
			resources: row.resources,
			reservations: row.reservations,
			sizeBytes: row.size_bytes,
			joinKey: row.join_key,
			maxAttempts: row.max_attempts,
			dispatch: null,
			retryOf: row.seq,
			nowMs,
		},
		dependencies,
		awaited,
	);
	if (idempotency !== null) rememberKey(db, queue, idempotency, { taskId: newTaskId, nowMs });
	return { taskId: newTaskId, seq, state, created: change, raised: null };
}

function dependencyIds(db: Sqlite, { seq }: TaskRow): string[] {
	return db
		.query<{ depends_on: number }, [number]>("SELECT depends_on FROM queue_dependency WHERE seq = ?1")
		.all(seq)
		.map(({ depends_on }) => taskBySeq(db, depends_on).task_id);
}

function awaitedAgain(one: Awaited, replaced: RetryInput["again"]): Awaited {
	if (one.state === "completed" || one.state === "pending") return one;
	const again = replaced[one.taskId];
	if (again === undefined) throw failedAlready({ taskId: one.taskId, root: one.taskId, state: one.state });
	return { ...again, state: "pending" };
}

function notFailed(asked: TaskRow, newest: TaskRow): GswarmError {
	const why =
		asked.seq === newest.seq
			? `it is ${newest.state}`
			: `it was done again as ${newest.task_id}, which is ${newest.state}`;
	return new GswarmError("CONFLICT", `Task ${asked.task_id} cannot be retried: ${why}.`, {
		reason: "not_failed",
		details: { task_id: asked.task_id, newest: newest.task_id, status: newest.state },
		hint: "Only failed and cancelled tasks can be retried.",
	});
}
