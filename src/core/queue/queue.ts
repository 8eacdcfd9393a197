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
 * transfers: live progress is in memory, a handler's checkpoint is `saveState`. It does not reserve bytes of a tier.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import type { TaskCounters } from "../../schema/node.ts";
import type { Priority, TaskDocument, TaskPhase, TaskStatus, TaskType } from "../../schema/task.ts";

/** `shared` goes with other shared holders, `exclusive` with nobody. */
export type ReservationMode = "shared" | "exclusive";

/** A task's hold on a thing by name, e.g. `model:llama-7b@disk` or `device:gpu0`. */
export interface Reservation {
	key: string;
	mode: ReservationMode;
}

/** The reservation of a model on a tier: shared to read or serve it, exclusive to write, move or delete it. */
export function modelReservation(model: string, tier: string, mode: ReservationMode): Reservation {
	return { key: `model:${model}@${tier}`, mode };
}

/** The reservation of a whole device. */
export function deviceReservation(tier: string, mode: ReservationMode): Reservation {
	return { key: `device:${tier}`, mode };
}

export interface SubmitInput {
	type: TaskType;
	/** What the task works on; part of the task id. */
	model: string;
	/** Kept in the row and shown to people: never a secret in it. */
	request: Record<string, unknown>;
	priority: Priority;
	/** What must not be held in a conflicting way by a running task; at most 64. */
	reservations?: readonly Reservation[];
	/** As the API shows them; they decide nothing. */
	resources?: { devices: string[]; models: string[]; exclusive: boolean };
	/** Task ids of this queue that must complete first; at most 64. */
	dependencies?: readonly string[];
	/** The same key with the same input within 24 h gives the same task. */
	idempotencyKey?: string;
	/** A live task with the same key is joined instead of doing the work twice. */
	joinKey?: string;
	/** 5, or 8 for downloads. */
	maxAttempts?: number;
	/** Bytes that the task will move, where known; used to estimate its time. */
	sizeBytes?: number;
}

export interface Submission {
	task: TaskDocument;
	/** True when the work was there already: joined, or the same Idempotency-Key came again. */
	joined: boolean;
	/** Place in line, 1 is next; 0 when it is running or done. */
	position: number;
	/** Until it is done, from measured times; 0 when nothing is known yet. */
	estimatedTimeS: number;
}

export interface ProgressReport {
	phase?: TaskPhase;
	bytesDone?: number;
	bytesTotal?: number;
	/** What the task waits for, in words; null when it goes on. */
	waitingFor?: string | null;
}

export interface TaskContext {
	taskId: string;
	type: TaskType;
	model: string;
	request: Record<string, unknown>;
	/** 1 for the first. */
	attempt: number;
	/** Aborted with reason "cancelled" or "shutdown"; a handler then cleans up and throws within 5 s. */
	signal: AbortSignal;
	/** What the last `saveState` of this task kept; undefined before the first. */
	state: Record<string, unknown> | undefined;
	/** Keeps a checkpoint in the task's row; durable when it resolves. @throws CONFLICT stale_token when the task is no longer this handler's */
	saveState(state: Record<string, unknown>): Promise<void>;
	/** Live progress; cheap, call it as often as you like. */
	report(progress: ProgressReport): void;
	log: Log;
}

/**
 * Does the task; what it returns becomes the document's `result`. A GswarmError that is `retryable` is tried again
 * later, one with reason `insufficient_space` or `disk_full` waits for space, any other failure is final.
 */
export type TaskHandler = (context: TaskContext) => Promise<Record<string, unknown> | undefined>;

/** A task's state or its live progress changed; `get` has the document. Progress comes at most 4 times a second per task. */
export interface QueueEvent {
	kind: "state" | "progress";
	taskId: string;
	type: TaskType;
	model: string;
	status: TaskStatus;
}

export interface ListFilter {
	/** Left out: the tasks that are not finished. */
	status?: TaskStatus;
	type?: TaskType;
	model?: string;
	/** Default 100, at most 1000. */
	limit?: number;
}

export interface HistoryFilter {
	/** Default 50, at most 1000. */
	limit?: number;
	status?: "completed" | "failed" | "cancelled";
	/** Seconds since the epoch; tasks that ended at or after it. */
	since?: number;
	/** `next_cursor` of the page before. */
	cursor?: string;
}

/** What opening found of tasks that were running when the agent before went away. */
export interface RecoveredTask {
	taskId: string;
	/** pending: will run again. failed: three crashes without progress, or out of attempts. cancelled: was being cancelled. */
	outcome: "pending" | "failed" | "cancelled";
}

export interface Queue extends AsyncDisposable {
	/**
	 * Records a task; it survives kill -9 once this resolved.
	 * @throws 400 unknown_dependency, too_many_dependencies; 409 idempotency_mismatch; 424 dependency_failed; 503 queue_full
	 */
	submit(input: SubmitInput): Promise<Submission>;
	/** @throws 404 task_not_found */
	get(taskId: string): TaskDocument;
	/** Running ones first, then the line in order; finished ones (by `status`) newest first. */
	list(filter?: ListFilter): TaskDocument[];
	/** Finished tasks, the newest first. @throws 400 bad_cursor */
	history(filter?: HistoryFilter): { tasks: TaskDocument[]; next_cursor: string | null };
	counters(): TaskCounters;
	/**
	 * Cancels a waiting task at once, a running one through its signal: resolves when it has ended, after 5 s at the
	 * latest. Of a task that several submits joined it takes one away, and the work goes on for the others.
	 * @throws 404 task_not_found, 409 already_terminal (also when the task completed before the signal reached it)
	 */
	cancel(taskId: string): Promise<TaskDocument>;
	onEvent(listener: (event: QueueEvent) => void): Disposable;
	/** The document once the task has ended. @throws 404 task_not_found, the signal's reason */
	waitFor(taskId: string, signal: AbortSignal): Promise<TaskDocument>;
	/** What the last open found; leftovers of failed and cancelled ones may be cleaned up. */
	recovered(): readonly RecoveredTask[];
	/** Begins to work. A task whose type has no handler fails. */
	start(handlers: Partial<Record<TaskType, TaskHandler>>): void;
}

export interface QueueDependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
}

export interface QueueOptions {
	/** Which queue of the database: a one-machine agent has both. */
	queue: "node" | "host";
	/** Shown as `node` in the documents. */
	node: string;
	/** Default 4; one slot more is kept for critical tasks. */
	maxConcurrentTasks?: number;
	/** Default 1,000,000. */
	maxPendingTasks?: number;
	/** Whether a journal outside the queue shows progress of the task since then; asked at open about tasks that died. */
	hasProgressSince?: (taskId: string, sinceMs: number) => boolean;
}

/** Opens the queue: gives back what a dead agent held, starts nothing before `start`. */
export function openQueue(dependencies: QueueDependencies, options: QueueOptions): Promise<Queue> {
	void dependencies;
	void options;
	return Promise.reject(new Error("the queue is being built"));
}
