/** What the queue's door promises; the texts here are its manual. */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import type { TaskCounters } from "../../schema/node.ts";
import type { FinishedStatus, TaskDocument, TaskStatus, TaskType } from "../../schema/task.ts";
import type { Capacity } from "./conflicts.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Elsewhere } from "./elsewhere.ts";
import type { EventPage } from "./event-log.ts";
import type { Explanation } from "./explain.ts";
import type { FollowItem } from "./follow.ts";
import type { Retention } from "./retention.ts";
import type { QueueConfig } from "./settings.ts";
import type { BatchItem, SubmitInput } from "./submission.ts";
import type { TaskHandlers } from "./task-handler.ts";
import type { HistoryFilter, ListFilter, PageFilter } from "./task-reader.ts";
import type { QueueName } from "./task-row.ts";

export interface Submission {
	/** As it was when it was put in line. */
	task: TaskDocument;
	/** True when the task was there already: joined, or the same Idempotency-Key came again. */
	joined: boolean;
	/** Place in line, 1 is next; 0 when it is running or done. */
	position: number;
	/** Until it is done, from measured times; 0 when nothing is known yet. */
	estimatedTimeS: number;
}

/** A task's state or its live progress changed; `get` has the document. Progress comes at most 4 times a second per task. */
export interface QueueEvent {
	kind: "state" | "progress";
	taskId: string;
	type: TaskType;
	model: string;
	status: TaskStatus;
}

/** What opening found of tasks that were running when the agent before went away, and of those that depend on them. */
export interface RecoveredTask {
	taskId: string;
	/** pending: will run again. failed: three deaths without progress, or out of attempts. cancelled: was being cancelled. */
	status: TaskStatus;
}

export interface Queue extends AsyncDisposable {
	/**
	 * Records a task; it survives kill -9 once this resolved.
	 * @throws 400 unknown_dependency, too_many_dependencies, unknown_priority; 409 idempotency_mismatch, stale_token,
	 * cancelled_here; 424 dependency_failed; 503 queue_full
	 */
	submit(input: SubmitInput): Promise<Submission>;
	/**
	 * Records up to 20,000 tasks in one transaction: all or none. Their ids, in order.
	 * @throws what submit throws; 400 dependency_cycle, bad_batch
	 */
	submitBatch(
		items: readonly BatchItem[],
		options?: { idempotencyKey?: string | undefined },
	): Promise<{ taskIds: string[] }>;
	/**
	 * Does a failed or cancelled task again, as a new one; a retry that waits or runs already is joined. Dependencies
	 * that failed too must have been retried before.
	 * @throws 404 task_not_found; 409 not_failed; 424 dependency_failed; 503 queue_full
	 */
	retry(
		taskId: string,
		options?: {
			idempotencyKey?: string | undefined;
			/** Tasks of other queues that failed, and those that do them again. */
			again?: Readonly<Record<string, Elsewhere>> | undefined;
		},
	): Promise<Submission>;
	/** Tasks of other queues that tasks of this one wait for. */
	awaited(): Elsewhere[];
	/** A task of another queue has ended: who waits for it goes on, or fails with it, naming `root`. */
	heard(taskId: string, end: { status: FinishedStatus; root: string }): Promise<void>;
	/** The newest task that does a part of this operation of the host, and the last token that counts for it. */
	dispatched(operationId: string): ({ task: TaskDocument } & Dispatch) | undefined;
	/** Unfinished tasks that the host dispatched. */
	dispatches(): { taskId: string; dispatch: Dispatch }[];
	/**
	 * The host asks for a part under a later token: earlier ones are refused from now on. Undefined when no task does it.
	 * @throws 409 stale_token when a later token is known
	 */
	fence(dispatch: Dispatch): Promise<TaskDocument | undefined>;
	/** Rises with every open of this queue; the first part of the tokens of its dispatches. */
	readonly epoch: number;
	/** @throws 404 task_not_found */
	get(taskId: string): TaskDocument;
	/** Up to 500 events after the given one, in order; `lastId` is where to go on. `gap`: some were thrown away before. */
	events(filter: { after: number; taskId?: string | undefined }): EventPage;
	/** The id of the newest event; 0 when there was none yet. */
	newestEventId(): number;
	/** Why a task does not run now. @throws 404 task_not_found */
	explain(taskId: string): Explanation;
	/** Running ones first, then the line in order; finished ones (by `status`) newest first. */
	list(filter?: ListFilter): TaskDocument[];
	/**
	 * One page of unfinished tasks: running ones first, then the line in order. `total` fits the filter, counted up to
	 * 10,000 where a type or a model is named. @throws 400 bad_cursor
	 */
	page(filter?: PageFilter): { tasks: TaskDocument[]; next_cursor: string | null; total: number };
	/** Finished tasks, the newest first. @throws 400 bad_cursor */
	history(filter?: HistoryFilter): { tasks: TaskDocument[]; next_cursor: string | null };
	counters(): TaskCounters;
	config(): QueueConfig;
	/** Changes what is named and leaves the rest; it counts from now on, also after a restart. @throws 400 bad_queue_config */
	configure(change: Partial<QueueConfig>): Promise<QueueConfig>;
	/**
	 * Cancels a waiting task at once, a running one through its signal: resolves when it has ended, 5 s later at the
	 * latest. Of a task that several submits joined it takes one away, and the work goes on for the others.
	 * @throws 404 task_not_found, 409 already_terminal (also when the task completed before the signal reached it)
	 */
	cancel(taskId: string): Promise<TaskDocument>;
	onEvent(listener: (event: QueueEvent) => void): Disposable;
	/**
	 * Every change of state, of all tasks or of one, each once and in order, until the signal aborts. `after` is the id
	 * of the last event that the reader has seen; without it the stream begins now. Events are kept for 7 days.
	 */
	follow(options: {
		after?: number | undefined;
		taskId?: string | undefined;
		signal: AbortSignal;
	}): AsyncIterable<FollowItem>;
	/** The document once the task has ended. @throws 404 task_not_found, the signal's reason */
	waitFor(taskId: string, signal: AbortSignal): Promise<TaskDocument>;
	/** What the last open found; leftovers of failed and cancelled ones may be cleaned up. */
	recovered(): readonly RecoveredTask[];
	/** Room came from elsewhere than from a task that ended: what waits for bytes is looked at now. */
	roomChanged(): void;
	/** Begins to work. A task whose type has no handler fails. */
	start(handlers: TaskHandlers): void;
}

export interface QueueDependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
}

export interface QueueOptions {
	/** Which queue of the database: a one-machine agent has both. */
	queue: QueueName;
	/** Shown as `node` in the documents. */
	node: string;
	/** Default 4; one slot more is kept for critical tasks. What was set at run time counts more. */
	maxConcurrentTasks?: number | undefined;
	/** Default 1,000,000. */
	maxPendingTasks?: number | undefined;
	/** Default true; false: devices are not tracked. What was set at run time counts more. */
	resourceTracking?: boolean | undefined;
	/** Bytes that tasks may hold together now, by reservation key, what running ones have written included. */
	capacity?: (() => Capacity) | undefined;
	/**
	 * An epoch that an earlier open had, kept outside the database: this one's is higher, also where the database is a
	 * backup from before. Default 0.
	 */
	epochAbove?: number | undefined;
	retention?: Retention | undefined;
	/** Whether a journal outside the queue shows progress of the task since then; asked at open about tasks that died. */
	hasProgressSince?: ((taskId: string, sinceMs: number) => boolean) | undefined;
}
