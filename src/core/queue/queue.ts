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
import type { Clock } from "../../platform/clock.ts";
import type { Database, Writer } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Log } from "../../platform/log.ts";
import { invalid, notFound } from "../../schema/errors.ts";
import type { TaskCounters } from "../../schema/node.ts";
import {
	PRIORITIES,
	type TaskDocument,
	type TaskStatus,
	type TaskType,
	isTerminal,
	taskStatus,
} from "../../schema/task.ts";
import { GRACE_MS } from "./attempt.ts";
import { alreadyTerminal } from "./cancel.ts";
import type { Capacity, Reservation, ReservationMode } from "./conflicts.ts";
import { newDocument, toDocument } from "./document.ts";
import { estimateSeconds } from "./estimate.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import { type EventPage, newestEvent, readEvents } from "./event-log.ts";
import { type Explanation, explain } from "./explain.ts";
import { type FollowItem, follow } from "./follow.ts";
import type { Room } from "./insert.ts";
import { orphans } from "./recover.ts";
import { DEFAULT_RETENTION, type Retention } from "./retention.ts";
import type { Limits } from "./schedule.ts";
import { type QueueConfig, changed, checkPriority, readSettings } from "./settings.ts";
import type { SubmitResult } from "./submit.ts";
import { changesOf } from "./submit-batch.ts";
import {
	type BatchItem,
	type SubmitInput,
	batchDigest,
	newTaskId,
	toBatchRow,
	toSubmitRow,
} from "./submission.ts";
import type { TaskHandlers } from "./task-handler.ts";
import {
	type HistoryFilter,
	type ListFilter,
	type PageFilter,
	TaskReader,
	finishedCursor,
	placeCursor,
} from "./task-reader.ts";
import { type Change, type QueueName, type TaskRow, priorityRank } from "./task-row.ts";
import { queueModule } from "./task-store.ts";
import { TaskWaiters } from "./task-waiters.ts";
import { type Tally, countTasks } from "./tally.ts";
import { QueueWorker } from "./worker.ts";

export type { Capacity, Reservation, ReservationMode } from "./conflicts.ts";
export type { Dispatch } from "./dispatch.ts";
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

const DEFAULT_CONCURRENT_TASKS = 4;
/** Kept for critical tasks, besides the others. */
const CRITICAL_SLOTS = 1;
const DEFAULT_PENDING_TASKS = 1_000_000;
/** As many as a workflow may have actions; they hold up the writer for a few tenths of a second. */
const MAX_BATCH = 20_000;
/** A cancelled handler's grace, and time to write the end. */
const CANCEL_WAIT_MS = 2 * GRACE_MS;
const PRUNE_INTERVAL_MS = 10 * 60_000;

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
	retry(taskId: string, options?: { idempotencyKey?: string | undefined }): Promise<Submission>;
	/** The newest task that does a part of this operation of the host, and the last token that counts for it. */
	dispatched(operationId: string): ({ task: TaskDocument } & Dispatch) | undefined;
	/** Unfinished tasks that the host dispatched. */
	dispatches(): { taskId: string; dispatch: Dispatch }[];
	/**
	 * The host asks for a part under a later token: earlier ones are refused from now on. Undefined when no task does it.
	 * @throws 409 stale_token when a later token is known
	 */
	fence(dispatch: Dispatch): Promise<TaskDocument | undefined>;
	/** Rises with every open of this queue. */
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
	/** The first part of the tokens of this queue's dispatches; rises at each start and restore of the host. */
	hostEpoch?: number | undefined;
	retention?: Retention | undefined;
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
	readonly #write: Writer<typeof queueModule.writes>;
	readonly #reader: TaskReader;
	readonly #worker: QueueWorker;
	readonly #recovered: readonly RecoveredTask[];
	readonly #tally: Tally;
	readonly #waiters = new TaskWaiters();
	readonly #listeners = new Set<(event: QueueEvent) => void>();
	readonly #followers = new Set<(change: Change) => void>();
	readonly #closed = new AbortController();
	readonly epoch: number;
	#config: QueueConfig;
	#limits: Limits;
	/** Since this open. */
	#completed = 0;
	/** Tasks that are on their way into the line. */
	#arriving = 0;

	constructor(
		deps: QueueDependencies,
		options: QueueOptions,
		{ epoch, changes }: { epoch: number; changes: Change[] },
	) {
		this.epoch = epoch;
		this.#deps = deps;
		this.#options = options;
		this.#write = deps.db.writer(queueModule);
		this.#config = readSettings(deps.db.read, options.queue) ?? {
			max_concurrent_tasks: options.maxConcurrentTasks ?? DEFAULT_CONCURRENT_TASKS,
			priority_levels: [...PRIORITIES],
			resource_tracking: options.resourceTracking ?? true,
		};
		this.#limits = limitsOf(this.#config);
		this.#reader = new TaskReader(deps.db.read, options.queue);
		this.#tally = countTasks(deps.db.read, options.queue);
		this.#recovered = changes.map(({ taskId, state }) => ({ taskId, status: taskStatus(state) }));
		this.#worker = new QueueWorker(deps, {
			queue: options.queue,
			epoch,
			hostEpoch: options.hostEpoch ?? epoch,
			limits: () => this.#limits,
			rules: () => ({ tracksDevices: this.#config.resource_tracking, capacity: this.#capacity() }),
			measures: this.#reader.measures(),
			onChange: (all) => this.#publishChanges(all),
			onProgress: ({ task_id, type, model }) =>
				this.#publish({ kind: "progress", taskId: task_id, type, model, status: "running" }),
		});
	}

	async submit(input: SubmitInput): Promise<Submission> {
		checkPriority(input.priority, this.#config);
		const { clock, ids } = this.#deps;
		const row = toSubmitRow(input, {
			queue: this.#options.queue,
			suffix: ids.short(8),
			room: this.#room(),
			nowMs: clock.nowMs(),
		});
		const result = await this.#inLine(this.#write.submit(row), 1);
		if (result.created === null || (input.dependencies ?? []).length > 0) return this.#submission(result);
		const { taskId, maxAttempts, nowMs } = row;
		const position = this.#tally.waiting(row.rank);
		return {
			task: newDocument(input, { taskId, seq: result.seq, node: this.#options.node, maxAttempts, nowMs }),
			joined: false,
			position,
			estimatedTimeS: this.#estimate(input.type, input.sizeBytes, position),
		};
	}

	async submitBatch(
		items: readonly BatchItem[],
		{ idempotencyKey }: { idempotencyKey?: string | undefined } = {},
	): Promise<{ taskIds: string[] }> {
		if (items.length === 0 || items.length > MAX_BATCH) {
			throw invalid("bad_batch", `A batch has 1 to ${MAX_BATCH} tasks; got ${items.length}.`, {
				limit: MAX_BATCH,
				got: items.length,
			});
		}
		for (const { priority } of items) checkPriority(priority, this.#config);
		const { clock, ids } = this.#deps;
		const { queue } = this.#options;
		const nowMs = clock.nowMs();
		const together = ids.short(8);
		const rows = items.map((item, place) =>
			toBatchRow(item, { queue, suffix: `${together}-${place}`, nowMs }),
		);
		const idempotency =
			idempotencyKey === undefined ? null : { key: idempotencyKey, bodySha256: batchDigest(items) };
		const input = { queue, rows, idempotency, room: this.#room(), nowMs };
		const result = await this.#arrive(this.#write.submitBatch(input), rows.length);
		if (result.known !== null) return { taskIds: result.known };
		this.#publishChanges(changesOf(input, result));
		return { taskIds: rows.map(({ taskId }) => taskId) };
	}

	async retry(
		taskId: string,
		{ idempotencyKey }: { idempotencyKey?: string | undefined } = {},
	): Promise<Submission> {
		const { type, model } = this.#row(taskId);
		const { clock, ids } = this.#deps;
		const written = this.#write.retry({
			queue: this.#options.queue,
			taskId,
			newTaskId: newTaskId(type, model, ids.short(8)),
			idempotency:
				idempotencyKey === undefined
					? null
					: { key: idempotencyKey, bodySha256: sha256Hex(`retry ${taskId}`) },
			room: this.#room(),
			nowMs: clock.nowMs(),
		});
		return this.#submission(await this.#inLine(written, 1));
	}

	dispatched(operationId: string): ({ task: TaskDocument } & Dispatch) | undefined {
		const row = this.#reader.dispatched(operationId);
		const dispatch = row === undefined ? undefined : dispatchOf(row);
		return row === undefined || dispatch === undefined
			? undefined
			: { task: this.#document(row), ...dispatch };
	}

	dispatches(): { taskId: string; dispatch: Dispatch }[] {
		return this.#reader.dispatches();
	}

	async fence(dispatch: Dispatch): Promise<TaskDocument | undefined> {
		const found = await this.#write.fenceDispatch({ queue: this.#options.queue, dispatch });
		return found === undefined ? undefined : this.get(found.taskId);
	}

	events({ after, taskId }: { after: number; taskId?: string | undefined }): EventPage {
		return readEvents(this.#deps.db.read, this.#options.queue, { after, taskId });
	}

	newestEventId(): number {
		return newestEvent(this.#deps.db.read);
	}

	get(taskId: string): TaskDocument {
		return this.#document(this.#row(taskId));
	}

	explain(taskId: string): Explanation {
		const row = this.#row(taskId);
		return explain(row, this.#reader, {
			running: this.#tally.counters().running,
			ahead: row.state === "pending" ? this.#position(row) - 1 : 0,
			slots: this.#limits.slots,
			tracksDevices: this.#config.resource_tracking,
			capacity: this.#capacity(),
		});
	}

	list(filter: ListFilter = {}): TaskDocument[] {
		const { status } = filter;
		const rows =
			status === undefined || status === "pending" || status === "running"
				? this.#reader.live(filter)
				: this.#reader.finished({ ...filter, status }).rows;
		return rows.map((row) => this.#document(row));
	}

	page(filter: PageFilter = {}): { tasks: TaskDocument[]; next_cursor: string | null; total: number } {
		const { rows, nextCursor } = this.#reader.page(filter);
		return {
			tasks: rows.map((row) => this.#document(row)),
			next_cursor: nextCursor,
			total: this.#total(filter),
		};
	}

	history(filter: HistoryFilter = {}): { tasks: TaskDocument[]; next_cursor: string | null } {
		const { rows, nextCursor } = this.#reader.finished(filter);
		return { tasks: rows.map((row) => this.#document(row)), next_cursor: nextCursor };
	}

	counters(): TaskCounters {
		return { ...this.#tally.counters(), completed: this.#completed };
	}

	config(): QueueConfig {
		return { ...this.#config, priority_levels: [...this.#config.priority_levels] };
	}

	async configure(change: Partial<QueueConfig>): Promise<QueueConfig> {
		const config = changed(this.#config, change);
		await this.#write.configure({ queue: this.#options.queue, config });
		this.#config = config;
		this.#limits = limitsOf(config);
		this.#worker.wake();
		return this.config();
	}

	async cancel(taskId: string): Promise<TaskDocument> {
		const written = this.#write.cancel({
			queue: this.#options.queue,
			taskId,
			nowMs: this.#deps.clock.nowMs(),
		});
		// What waited behind it may start now.
		this.#worker.wake();
		const { kind, seq, changes } = await written;
		this.#publishChanges(changes);
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

	follow({
		after,
		taskId,
		signal,
	}: {
		after?: number | undefined;
		taskId?: string | undefined;
		signal: AbortSignal;
	}): AsyncIterable<FollowItem> {
		const { db } = this.#deps;
		const onChange = (listener: (change: Change) => void): Disposable => {
			this.#followers.add(listener);
			return { [Symbol.dispose]: () => void this.#followers.delete(listener) };
		};
		return follow(
			{ db: db.read, queue: this.#options.queue, onChange },
			{
				after: after ?? newestEvent(db.read),
				taskId,
				signal: AbortSignal.any([signal, this.#closed.signal]),
			},
		);
	}

	async waitFor(taskId: string, signal: AbortSignal): Promise<TaskDocument> {
		signal.throwIfAborted();
		const isLive = this.#waiters.isLive(taskId) || !isTerminal(this.#row(taskId).state);
		if (isLive) await this.#waiters.wait(taskId, signal);
		return this.get(taskId);
	}

	recovered(): readonly RecoveredTask[] {
		return this.#recovered;
	}

	start(handlers: TaskHandlers): void {
		this.#worker.start(handlers);
		void this.#prune();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed.abort();
		await this.#worker.stop();
	}

	/** The answer of a write that may have put a task in line. */
	async #inLine(written: Promise<SubmitResult>, count: number): Promise<SubmitResult> {
		const result = await this.#arrive(written, count);
		if (result.created !== null) this.#publishChanges([result.created]);
		if (result.raised !== null) this.#tally.raise(result.raised.from, result.raised.to);
		return result;
	}

	/** Counts tasks while they are on their way; the claim that follows is in the transaction that records them. */
	async #arrive<T>(written: Promise<T>, count: number): Promise<T> {
		this.#worker.wake();
		this.#arriving += count;
		try {
			return await written;
		} finally {
			this.#arriving -= count;
		}
	}

	#submission({ taskId, created }: SubmitResult): Submission {
		const row = this.#row(taskId);
		const position = taskStatus(row.state) === "pending" ? this.#position(row) : 0;
		return {
			task: this.#document(row),
			joined: created === null,
			position,
			estimatedTimeS: isTerminal(row.state)
				? 0
				: this.#estimate(row.type, row.size_bytes ?? undefined, position),
		};
	}

	#total(filter: PageFilter): number {
		const { status, type, model, priority } = filter;
		if (type !== undefined || model !== undefined) return this.#reader.count(filter);
		const { pending, running } = this.#tally.counters();
		if (priority === undefined)
			return (status === "running" ? 0 : pending) + (status === "pending" ? 0 : running);
		const runs = status === "pending" ? 0 : this.#reader.count({ status: "running", priority });
		return runs + (status === "running" ? 0 : this.#tally.waitingAt(priorityRank(priority)));
	}

	/** Place in line: 1 is next. Waiting tasks of a more urgent priority come before, and older ones of the same. */
	#position(row: TaskRow): number {
		return 1 + this.#tally.waiting(row.rank - 1) + this.#reader.olderOfRank(row);
	}

	#room(): Room {
		const { maxPendingTasks = DEFAULT_PENDING_TASKS } = this.#options;
		return { pending: this.#tally.waiting() + this.#arriving, limit: maxPendingTasks };
	}

	#capacity(): Capacity {
		return this.#options.capacity?.() ?? {};
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
			running: this.#tally.counters().running,
			slots: this.#limits.slots,
			nowMs: this.#deps.clock.monotonicMs(),
		});
	}

	#estimate(type: TaskType, sizeBytes: number | undefined, position: number): number {
		const measures = this.#worker.measures();
		if (measures.length === 0) return 0;
		const { slots } = this.#limits;
		const running = Math.min(this.#worker.running, slots);
		// With a slot free the tasks before it start at once.
		const ahead = Math.max(0, position - 1 + running - (slots - 1));
		return estimateSeconds({ type, sizeBytes, ahead, slots }, measures);
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

	/** Throws away what is too old, now and then. */
	async #prune(): Promise<void> {
		const { clock, log } = this.#deps;
		const { queue, retention = DEFAULT_RETENTION } = this.#options;
		const { signal } = this.#closed;
		for (;;) {
			await clock.sleep(PRUNE_INTERVAL_MS, signal);
			try {
				for (let more = true; more && !signal.aborted; ) {
					const finished = this.#tally.finished();
					const pruned = await this.#write.prune({ queue, retention, finished, nowMs: clock.nowMs() });
					for (const { state } of pruned.removed) this.#tally.forget(state, 1);
					({ more } = pruned);
				}
			} catch (error) {
				// A full disk: what is too old is still there next time.
				log.warn("queue.prune_failed", { error });
			}
			if (signal.aborted) return;
		}
	}

	#publishChanges(changes: readonly Change[]): void {
		for (const change of changes) {
			const { taskId, type, model, state } = change;
			this.#tally.apply(change);
			if (state === "completed") this.#completed++;
			for (const listener of this.#followers) listener(change);
			this.#waiters.changed(change);
			if (this.#listeners.size > 0)
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

function limitsOf({ max_concurrent_tasks }: QueueConfig): Limits {
	return { slots: max_concurrent_tasks, criticalSlots: CRITICAL_SLOTS };
}
