/** The transaction of a cancel: it ends a waiting task, marks a running one, or takes one of several waiters away. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, notFound } from "../../schema/errors.ts";
import { isTerminal } from "../../schema/task.ts";
import { endTask } from "./end.ts";
import { type Change, type QueueName, addEvent, changeState, findTask } from "./task-row.ts";

export interface CancelResult {
	/** `cancelling`: its handler must be told. */
	kind: "cancelled" | "cancelling" | "detached";
	seq: number;
	changes: Change[];
}

/** @throws 404 task_not_found, 409 already_terminal */
export function cancel(
	db: Sqlite,
	{ queue, taskId, nowMs }: { queue: QueueName; taskId: string; nowMs: number },
): CancelResult {
	const row = findTask(db, queue, taskId);
	if (row === undefined)
		throw notFound("task", taskId, "`gswarm queue tasks` and `gswarm queue history` list them.");
	if (isTerminal(row.state)) throw alreadyTerminal(taskId, row.state);
	const { seq } = row;
	if (row.state === "cancelling") return { kind: "cancelling", seq, changes: [] };
	if (row.waiters > 1) {
		db.query("UPDATE queue_task SET waiters = waiters - 1 WHERE seq = ?1").run(seq);
		const { state, attempt } = row;
		const change = addEvent(db, row, { from: state, to: state, attempt, nowMs, reason: "detached" });
		return { kind: "detached", seq, changes: [change] };
	}
	if (row.state === "running") {
		return { kind: "cancelling", seq, changes: [changeState(db, row, "cancelling", { nowMs })] };
	}
	return { kind: "cancelled", seq, changes: endTask(db, row, "cancelled", { nowMs }) };
}

export function alreadyTerminal(taskId: string, status: string): GswarmError {
	return new GswarmError("CONFLICT", `Task ${taskId} cannot be cancelled: it is ${status} already.`, {
		reason: "already_terminal",
		details: { task_id: taskId, status },
	});
}
