/** Work that the host dispatched to this node: which task does it, and which dispatch may still speak for it. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import { isTerminal } from "../../schema/task.ts";
import { type Fence, checkFence, staleFence } from "./fence.ts";
import { type QueueName, type TaskRow, findTask, param, quoted } from "./task-row.ts";

/** A dispatch as the host names it: what is to be done, and the token of this try. */
export interface Dispatch {
	operationId: string;
	fence: Fence;
}

/**
 * The task that an earlier dispatch of the same operation made here: it goes on, under the later token. What was
 * cancelled here stays so whatever the host sends; what failed is done again only for a later dispatch than the one
 * that failed.
 * @throws 409 stale_token, cancelled_here
 */
export function sameDispatch(db: Sqlite, queue: QueueName, dispatch: Dispatch | null): TaskRow | undefined {
	if (dispatch === null) return undefined;
	const { operationId, fence } = dispatch;
	const row = findDispatched(db, queue, operationId);
	if (row === undefined) return undefined;
	const verdict = checkFence(fenceOf(row), fence);
	refuseStale(row, dispatch);
	if (row.state === "cancelled") throw cancelledHere(row.task_id, operationId);
	if (row.state === "failed" && verdict === "new") return undefined;
	if (!isTerminal(row.state)) bindDispatch(db, row.seq, dispatch);
	return row;
}

/** The transaction in which the host asks for a part under a later token: from now on an earlier one is refused. */
export function fenceDispatch(
	db: Sqlite,
	{ queue, dispatch }: { queue: QueueName; dispatch: Dispatch },
): { taskId: string } | undefined {
	const row = findDispatched(db, queue, dispatch.operationId);
	if (row === undefined) return undefined;
	refuseStale(row, dispatch);
	if (!isTerminal(row.state)) bindDispatch(db, row.seq, dispatch);
	return { taskId: row.task_id };
}

/**
 * Refuses who acts for a part of a task of the host's queue that does not run any more, or not under this token. The
 * host's epoch may be higher than the row's: a node remembered more than this database.
 * @throws 409 stale_token
 */
export function refuseEndedDispatch(
	db: Sqlite,
	{ taskId, operationId, fence }: Dispatch & { taskId: string },
): void {
	const row = findTask(db, "host", taskId);
	const known = row === undefined ? undefined : fenceOf(row);
	const counts = row?.state === "running" && known?.n === fence.n && known.hostEpoch <= fence.hostEpoch;
	if (!counts) throw staleFence(operationId, known, fence);
}

export function bindDispatch(
	db: Sqlite,
	seq: number,
	{ operationId, fence: { hostEpoch, n } }: Dispatch,
): void {
	db.query("UPDATE queue_task SET operation_id = ?2, fence_epoch = ?3, fence_n = ?4 WHERE seq = ?1").run(
		seq,
		operationId,
		hostEpoch,
		n,
	);
}

/** The newest task that does a part of this operation. */
export function findDispatched(db: Sqlite, queue: QueueName, operationId: string): TaskRow | undefined {
	return db
		.query<TaskRow, [string]>(
			`SELECT * FROM queue_task INDEXED BY queue_operation WHERE queue = ${quoted(queue)} AND operation_id = ${param(1)}
			AND operation_id IS NOT NULL ORDER BY seq DESC LIMIT 1`,
		)
		.all(operationId)[0];
}

/** The dispatch that a task belongs to. */
export function dispatchOf(
	row: Pick<TaskRow, "operation_id" | "fence_epoch" | "fence_n">,
): Dispatch | undefined {
	const known = fenceOf(row);
	return row.operation_id === null || known === undefined
		? undefined
		: { operationId: row.operation_id, fence: known };
}

/** The last token that counts for a task. */
export function fenceOf({
	fence_epoch,
	fence_n,
}: Pick<TaskRow, "fence_epoch" | "fence_n">): Fence | undefined {
	return fence_epoch === null || fence_n === null ? undefined : { hostEpoch: fence_epoch, n: fence_n };
}

function refuseStale(row: TaskRow, { operationId, fence: presented }: Dispatch): void {
	const known = fenceOf(row);
	if (known !== undefined && checkFence(known, presented) === "stale")
		throw staleFence(operationId, known, presented);
}

function cancelledHere(taskId: string, operationId: string): GswarmError {
	return new GswarmError("CONFLICT", `${taskId}, which did a part of ${operationId}, was cancelled here.`, {
		reason: "cancelled_here",
		details: { task_id: taskId, operation_id: operationId },
	});
}
