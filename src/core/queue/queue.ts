/**
 * The durable task queue of one agent: every long job is a row here before it is answered for.
 *
 * States: blocked (open dependencies), pending (in line, or parked on a reservation that another task holds),
 * retry_wait (until a time), running, cancelling, and the terminal completed, failed, cancelled, whose rows never
 * change again. A submit that was answered survives kill -9; a task that was running then goes back to the line at
 * the next open, by boot epoch and never by a timeout, so a live task is never started a second time.
 * All reservations of a task are taken in the transaction that claims it and go with the one that settles it.
 *
 * It knows nothing of what a task does (handlers are given to `start`), moves no bytes, and keeps no journal of
 * transfers: live progress is in memory, a handler's checkpoint is `saveState`. It reserves bytes of a tier by what its
 * owner says there is, and measures no disk itself.
 */
import type { TaskDocument } from "../../schema/task.ts";
import type { Reservation, ReservationMode } from "./conflicts.ts";
import type { Queue, QueueDependencies, QueueOptions } from "./queue-types.ts";
import { orphans } from "./recover.ts";
import { TaskQueue } from "./task-queue.ts";
import { finishedCursor, placeCursor } from "./task-reader.ts";
import { priorityRank } from "./task-row.ts";
import { queueModule } from "./task-store.ts";

export type { Capacity, Reservation, ReservationMode } from "./conflicts.ts";
export { type Dispatch, refuseEndedDispatch } from "./dispatch.ts";
export { failedAlready, refuseTooMany, rootCause, unknownDependency } from "./dependencies.ts";
export type { Elsewhere } from "./elsewhere.ts";
export type { EventPage, TaskEvent } from "./event-log.ts";
export type { Explanation, Obstacle } from "./explain.ts";
export { type Fence, type FenceVerdict, checkFence } from "./fence.ts";
export type { FollowItem } from "./follow.ts";
export type { QueueConfig } from "./settings.ts";
export type { BatchItem, SubmitInput } from "./submission.ts";
export type { ProgressReport } from "./progress.ts";
export type { TaskContext, TaskHandler, TaskHandlers } from "./task-handler.ts";
export type { HistoryFilter, ListFilter, PageFilter } from "./task-reader.ts";
export { queueModule } from "./task-store.ts";
export type {
	Queue,
	QueueDependencies,
	QueueEvent,
	QueueOptions,
	RecoveredTask,
	Submission,
} from "./queue-types.ts";

/** The reservation of a model on a tier: shared to read or serve it, exclusive to write, move or delete it. */
export function modelReservation(model: string, tier: string, mode: ReservationMode): Reservation {
	return { key: `model:${model}@${tier}`, mode };
}

/** The reservation of a whole device. */
export function deviceReservation(tier: string, mode: ReservationMode): Reservation {
	return { key: `device:${tier}`, mode };
}

/** The reservation of room on a tier. */
export function bytesReservation(tier: string, bytes: number): Reservation {
	return { key: `bytes:${tier}`, mode: "shared", bytes };
}

/** The cursor with which `page` goes on after this task. */
export function pageCursor({
	status,
	priority,
	seq,
}: Pick<TaskDocument, "status" | "priority" | "seq">): string {
	const state = status === "running" ? "running" : "pending";
	return placeCursor({ state, rank: priorityRank(priority), seq });
}

/** The cursor with which `history` goes on after this task. */
export function historyCursor({ completed_at, seq }: Pick<TaskDocument, "completed_at" | "seq">): string {
	return finishedCursor({ completed_at_ms: Math.round((completed_at ?? 0) * 1000), seq });
}

/** Opens the queue: gives back at once what a dead agent was running; starts nothing before `start`. */
export async function openQueue(dependencies: QueueDependencies, options: QueueOptions): Promise<Queue> {
	const { db, clock } = dependencies;
	const { queue, epochAbove = 0, hasProgressSince = () => false } = options;
	const progressed = orphans(db.read, queue)
		.filter(({ task_id, started_at_ms }) => hasProgressSince(task_id, started_at_ms ?? 0))
		.map(({ task_id }) => task_id);
	const { epoch, changes } = await db
		.writer(queueModule)
		.recover({ queue, progressed, above: epochAbove, nowMs: clock.nowMs() });
	for (const { taskId, state } of changes)
		dependencies.log.info("task.recovered", { task_id: taskId, state });
	return new TaskQueue(dependencies, options, { epoch, changes });
}
