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
import { notFound } from "../../schema/errors.ts";
import type { TaskCounters } from "../../schema/node.ts";
import {
	type TaskDocument,
	type TaskStatus,
	type TaskType,
	isTerminal,
	taskStatus,
} from "../../schema/task.ts";
import { GRACE_MS } from "./attempt.ts";
import { alreadyTerminal } from "./cancel.ts";
import type { Reservation, ReservationMode } from "./conflicts.ts";
import { toDocument } from "./document.ts";
import { estimateSeconds } from "./estimate.ts";
import { orphans } from "./recover.ts";
import type { TaskHandlers } from "./task-handler.ts";
import { type HistoryFilter, type ListFilter, TaskReader } from "./task-reader.ts";
import type { Change, QueueName, TaskRow } from "./task-row.ts";
import { queueModule } from "./task-store.ts";
import { type SubmitInput, toSubmitRow } from "./submission.ts";
import { QueueWorker } from "./worker.ts";

export type { Reservation, ReservationMode } from "./conflicts.ts";
export type { SubmitInput } from "./submission.ts";
export type { ProgressReport } from "./progress.ts";
export type { TaskContext, TaskHandler, TaskHandlers } from "./task-handler.ts";
export type { HistoryFilter, ListFilter } from "./task-reader.ts";
export { queueModule } from "./task-store.ts";

const DEFAULT_CONCURRENT_TASKS = 4;
/** Kept for critical tasks, besides the others. */
const CRITICAL_SLOTS = 1;
const DEFAULT_PENDING_TASKS = 1_000_000;
/** A cancelled handler's grace, and time to write the end. */
const CANCEL_WAIT_MS = 2 * GRACE_MS;

export interface Submission {
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
	 * Cancels a waiting task at once, a running one through its signal: resolves when it has ended, 5 s later at the
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
	/** Default 4; one slot more is kept for critical tasks. */
	maxConcurrentTasks?: number | undefined;
	/** Default 1,000,000. */
	maxPendingTasks?: number | undefined;
	/** Whether a journal outside the queue shows progress of the task since then; asked at open about tasks that died. */
	hasProgressSince?: ((taskId: string, sinceMs: number) => boolean) | undefined;
}

/** The reservation of a model on a tier: shared to read or serve it, exclusive to write, move or delete it. */
export function modelReservation(model: string, tier: string, mode: ReservationMode): Reservation {
	return { key: `model:${model}@${tier}`, mode };
}

/** The reservation of a whole device. */
export function deviceReservation(tier: string, mode: ReservationMode): Reservation {
	return { key: `device:${tier}`, mode };
}

/** Opens the queue: gives back at once what a dead agent was running; starts nothing before `start`. */
export async function openQueue(dependencies: QueueDependencies, options: QueueOptions): Promise<Queue> {
	const { db, clock } = dependencies;
	const { queue, hasProgressSince = () => false } = options;
	const progressed = orphans(db.read, queue)
		.filter(({ task_id, started_at_ms }) => hasProgressSince(task_id, started_at_ms ?? 0))
		.map(({ task_id }) => task_id);
	const { epoch, changes } = await db
		.writer(queueModule)
		.recover({ queue, progressed, nowMs: clock.nowMs() });
	for (const { taskId, state } of changes)
		dependencies.log.info("task.recovered", { task_id: taskId, state });
	return new TaskQueue(dependencies, options, { epoch, changes });
}

class TaskQueue implements Queue {
	readonly #deps: QueueDependencies;
	readonly #options: QueueOptions;
	readonly #slots: number;
	readonly #reader: TaskReader;
	readonly #worker: QueueWorker;
	readonly #recovered: readonly RecoveredTask[];
	readonly #completedBefore: number;
	readonly #listeners = new Set<(event: QueueEvent) => void>();

	constructor(
		deps: QueueDependencies,
		options: QueueOptions,
		{ epoch, changes }: { epoch: number; changes: Change[] },
	) {
		this.#deps = deps;
		this.#options = options;
		this.#slots = options.maxConcurrentTasks ?? DEFAULT_CONCURRENT_TASKS;
		this.#reader = new TaskReader(deps.db.read, options.queue);
		this.#recovered = changes.map(({ taskId, state }) => ({ taskId, status: taskStatus(state) }));
		this.#completedBefore = this.#reader.counters().completed;
		this.#worker = new QueueWorker(deps, {
			queue: options.queue,
			epoch,
			limits: { slots: this.#slots, criticalSlots: CRITICAL_SLOTS },
			onChange: (rows) => this.#publishChanges(rows),
			onProgress: ({ task_id: taskId, type, model }) =>
				this.#publish({ kind: "progress", taskId, type, model, status: "running" }),
		});
	}

	async submit(input: SubmitInput): Promise<Submission> {
		const { db, clock, ids } = this.#deps;
		const { queue, maxPendingTasks: maxPending = DEFAULT_PENDING_TASKS } = this.#options;
		const wanted = toSubmitRow(input, { queue, suffix: ids.short(8), maxPending, nowMs: clock.nowMs() });
		const { taskId, created } = await db.writer(queueModule).submit(wanted);
		const row = this.#row(taskId);
		const position = this.#position(row, created);
		if (created) {
			this.#publish({ kind: "state", taskId, type: row.type, model: row.model, status: "pending" });
			this.#worker.wake();
		}
		return {
			task: this.#document(row),
			joined: !created,
			position,
			estimatedTimeS: this.#estimate(row, position),
		};
	}

	get(taskId: string): TaskDocument {
		return this.#document(this.#row(taskId));
	}

	list(filter: ListFilter = {}): TaskDocument[] {
		const { status } = filter;
		const rows =
			status === undefined || status === "pending" || status === "running"
				? this.#reader.live(filter)
				: this.#reader.finished({ ...filter, status }).rows;
		return rows.map((row) => this.#document(row));
	}

	history(filter: HistoryFilter = {}): { tasks: TaskDocument[]; next_cursor: string | null } {
		const { rows, nextCursor } = this.#reader.finished(filter);
		return { tasks: rows.map((row) => this.#document(row)), next_cursor: nextCursor };
	}

	counters(): TaskCounters {
		const counters = this.#reader.counters();
		return { ...counters, completed: counters.completed - this.#completedBefore };
	}

	async cancel(taskId: string): Promise<TaskDocument> {
		const { db, clock } = this.#deps;
		const { kind, seq, changes } = await db
			.writer(queueModule)
			.cancel({ queue: this.#options.queue, taskId, nowMs: clock.nowMs() });
		this.#publishChanges(changes);
		// What waited behind it may start now.
		if (kind === "cancelled") this.#worker.wake();
		if (kind !== "cancelling") return this.get(taskId);
		this.#worker.cancel(seq);
		const task = await this.#endWithin(taskId, CANCEL_WAIT_MS);
		if (task.status === "completed") throw alreadyTerminal(taskId, task.status);
		return task;
	}

	onEvent(listener: (event: QueueEvent) => void): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	waitFor(taskId: string, signal: AbortSignal): Promise<TaskDocument> {
		return new Promise((resolve, reject) => {
			const stop = (): void => {
				subscription[Symbol.dispose]();
				signal.removeEventListener("abort", onAbort);
			};
			const onAbort = (): void => {
				stop();
				reject(signal.reason);
			};
			const check = (): void => {
				try {
					const task = this.get(taskId);
					if (!isTerminal(task.status)) return;
					stop();
					resolve(task);
				} catch (error) {
					stop();
					reject(error);
				}
			};
			const subscription = this.onEvent((event) => {
				if (event.kind === "state" && event.taskId === taskId) check();
			});
			signal.addEventListener("abort", onAbort, { once: true });
			if (signal.aborted) onAbort();
			else check();
		});
	}

	recovered(): readonly RecoveredTask[] {
		return this.#recovered;
	}

	start(handlers: TaskHandlers): void {
		this.#worker.start(handlers);
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.#worker.stop();
	}

	#row(taskId: string): TaskRow {
		const row = this.#reader.find(taskId);
		if (row === undefined)
			throw notFound("task", taskId, "`gswarm queue tasks` and `gswarm queue history` list them.");
		return row;
	}

	#document(row: TaskRow): TaskDocument {
		return toDocument(row, this.#worker.meter(row.seq), {
			node: this.#options.node,
			reader: this.#reader,
			slots: this.#slots,
			nowMs: this.#deps.clock.monotonicMs(),
		});
	}

	#position(row: TaskRow, isNewest: boolean): number {
		if (taskStatus(row.state) !== "pending") return 0;
		return isNewest ? this.#reader.waiting(row.rank) : this.#reader.position(row);
	}

	#estimate({ type, size_bytes, state }: TaskRow, position: number): number {
		if (isTerminal(state)) return 0;
		const running = Math.min(this.#reader.counters().running, this.#slots);
		// With a slot free the tasks before it start at once.
		const ahead = Math.max(0, position - 1 + running - (this.#slots - 1));
		return estimateSeconds(
			{ type, sizeBytes: size_bytes ?? undefined, ahead, slots: this.#slots },
			this.#reader.measures(),
		);
	}

	/** The task when it has ended, or as it is after so long. */
	async #endWithin(taskId: string, ms: number): Promise<TaskDocument> {
		const over = new AbortController();
		const late = this.#deps.clock.sleep(ms, over.signal).then(() => this.get(taskId));
		try {
			return await Promise.race([this.waitFor(taskId, over.signal), late]);
		} finally {
			over.abort();
		}
	}

	#publishChanges(changes: readonly Change[]): void {
		for (const { taskId, type, model, state } of changes) {
			this.#publish({ kind: "state", taskId, type, model, status: taskStatus(state) });
		}
	}

	#publish(event: QueueEvent): void {
		for (const listener of this.#listeners) {
			try {
				listener(event);
			} catch (error) {
				// A listener's failure is its own; the queue's state is committed already.
				this.#deps.log.error("queue.listener_failed", { task_id: event.taskId, error });
			}
		}
	}
}
