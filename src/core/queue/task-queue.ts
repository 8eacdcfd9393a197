/** The queue as its door shows it: the rooms of writing, reading, working and telling, put together. */
import type { Writer } from "../../platform/database.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { invalid, notFound } from "../../schema/errors.ts";
import type { TaskCounters } from "../../schema/node.ts";
import {
	type FinishedStatus,
	PRIORITIES,
	type TaskDocument,
	type TaskType,
	isTerminal,
	taskStatus,
} from "../../schema/task.ts";
import { GRACE_MS } from "./attempt.ts";
import { Announcer } from "./announcer.ts";
import { alreadyTerminal } from "./cancel.ts";
import type { Capacity } from "./conflicts.ts";
import { CompletedTasks } from "./completed.ts";
import { type ShownRow, newDocument, toDocument } from "./document.ts";
import { estimateSeconds } from "./estimate.ts";
import { type Dispatch, dispatchOf } from "./dispatch.ts";
import type { Elsewhere } from "./elsewhere.ts";
import { type EventPage, newestEvent, readEvents } from "./event-log.ts";
import { type Explanation, explain } from "./explain.ts";
import { type FollowItem, follow } from "./follow.ts";
import type { Room } from "./insert.ts";
import { keepPruned } from "./pruning.ts";
import type {
	Queue,
	QueueDependencies,
	QueueEvent,
	QueueOptions,
	RecoveredTask,
	Submission,
} from "./queue-types.ts";
import { DEFAULT_RETENTION } from "./retention.ts";
import type { Limits } from "./schedule.ts";
import { type QueueConfig, changed, checkPriority, readSettings } from "./settings.ts";
import type { SubmitResult } from "./submit.ts";
import { changesOf } from "./submit-batch.ts";
import {
	type BatchItem,
	type SubmitInput,
	batchDigest,
	newSuffix,
	newTaskId,
	toBatchRow,
	toSubmitRow,
} from "./submission.ts";
import type { TaskHandlers } from "./task-handler.ts";
import {
	type FoundRow,
	type HistoryFilter,
	type ListFilter,
	type PageFilter,
	TaskReader,
} from "./task-reader.ts";
import { type Change, type TaskRow, priorityRank } from "./task-row.ts";
import { queueModule } from "./task-store.ts";
import { type Tally, countTasks } from "./tally.ts";
import { QueueWorker } from "./worker.ts";

const DEFAULT_CONCURRENT_TASKS = 4;
/** Kept for critical tasks, besides the others. */
const CRITICAL_SLOTS = 1;
const DEFAULT_PENDING_TASKS = 1_000_000;
/** As many as a workflow may have actions; they hold up the writer for a few tenths of a second. */
const MAX_BATCH = 20_000;
/** A cancelled handler's grace, and time to write the end. */
const CANCEL_WAIT_MS = 2 * GRACE_MS;

export class TaskQueue implements Queue {
	readonly #deps: QueueDependencies;
	readonly #options: QueueOptions;
	readonly #write: Writer<typeof queueModule.writes>;
	readonly #reader: TaskReader;
	readonly #worker: QueueWorker;
	readonly #recovered: readonly RecoveredTask[];
	readonly #tally: Tally;
	readonly #announcer: Announcer;
	readonly #completed = new CompletedTasks();
	readonly #closed = new AbortController();
	readonly epoch: number;
	#config: QueueConfig;
	#limits: Limits;
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
		this.#announcer = new Announcer({ log: deps.log, tally: this.#tally });
		this.#recovered = changes.map(({ taskId, state }) => ({ taskId, status: taskStatus(state) }));
		this.#worker = new QueueWorker(deps, {
			queue: options.queue,
			epoch,
			limits: () => this.#limits,
			rules: () => ({ tracksDevices: this.#config.resource_tracking, capacity: this.#capacity() }),
			measures: this.#reader.measures(),
			announce: (written, pick) => this.#announcer.after(written, pick),
			onProgress: (row) => this.#announcer.progressed(row.task_id, row),
			completed: this.#completed,
		});
	}

	async submit(input: SubmitInput): Promise<Submission> {
		checkPriority(input.priority, this.#config);
		const { clock, ids } = this.#deps;
		const submittedMs = clock.nowMs();
		const row = toSubmitRow(input, {
			queue: this.#options.queue,
			suffix: newSuffix(ids, submittedMs),
			room: this.#room(),
			nowMs: submittedMs,
		});
		const result = await this.#inLine(this.#write.submit(row), 1);
		if (result.created === null || dependsOnOthers(input)) return this.#submission(result);
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
		const together = newSuffix(ids, nowMs);
		const rows = items.map((item, place) => toBatchRow(item, { suffix: `${together}-${inOrder(place)}` }));
		const idempotency =
			idempotencyKey === undefined ? null : { key: idempotencyKey, bodySha256: batchDigest(items) };
		const input = { queue, rows, idempotency, room: this.#room(), nowMs };
		const written = this.#announcer.after(this.#write.submitBatch(input), (result) =>
			result.known === null ? changesOf(input, result) : [],
		);
		const { known } = await this.#arrive(written, rows.length);
		return { taskIds: known ?? rows.map(({ taskId }) => taskId) };
	}

	async retry(
		taskId: string,
		{ idempotencyKey, again = {} }: NonNullable<Parameters<Queue["retry"]>[1]> = {},
	): Promise<Submission> {
		const { type, model } = this.#row(taskId);
		const { clock, ids } = this.#deps;
		const written = this.#write.retry({
			queue: this.#options.queue,
			taskId,
			newTaskId: newTaskId(type, model, newSuffix(ids, clock.nowMs())),
			again,
			idempotency:
				idempotencyKey === undefined
					? null
					: { key: idempotencyKey, bodySha256: sha256Hex(`retry ${taskId}`) },
			room: this.#room(),
			nowMs: clock.nowMs(),
		});
		return this.#submission(await this.#inLine(written, 1));
	}

	awaited(): Elsewhere[] {
		return this.#reader.awaited();
	}

	async heard(taskId: string, { status, root }: { status: FinishedStatus; root: string }): Promise<void> {
		const { queue } = this.#options;
		const written = this.#write.heard({ queue, taskId, status, root, nowMs: this.#deps.clock.nowMs() });
		const told = this.#announcer.after(written, (changes) => changes);
		this.#worker.wake();
		await told;
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
		return this.#document(this.#completed.row(taskId) ?? this.#row(taskId));
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
		return { ...this.#tally.counters(), completed: this.#announcer.completed };
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
		const { queue } = this.#options;
		const written = this.#announcer.after(
			this.#write.cancel({ queue, taskId, nowMs: this.#deps.clock.nowMs() }),
			({ changes }) => changes,
		);
		// What waited behind it may start now.
		this.#worker.wake();
		const { kind, seq } = await written;
		if (kind !== "cancelling") return this.get(taskId);
		this.#worker.cancel(seq);
		const task = await this.#endWithin(taskId, CANCEL_WAIT_MS);
		if (task.status === "completed") throw alreadyTerminal(taskId, task.status);
		return task;
	}

	onEvent(listener: (event: QueueEvent) => void): Disposable {
		return this.#announcer.onEvent(listener);
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
		return follow(
			{ db: db.read, queue: this.#options.queue, onChange: (one) => this.#announcer.onChange(one) },
			{
				after: after ?? newestEvent(db.read),
				taskId,
				signal: AbortSignal.any([signal, this.#closed.signal]),
			},
		);
	}

	async waitFor(taskId: string, signal: AbortSignal): Promise<TaskDocument> {
		signal.throwIfAborted();
		await this.#announcer.ended(taskId, () => taskStatus(this.#row(taskId).state), signal);
		return this.get(taskId);
	}

	recovered(): readonly RecoveredTask[] {
		return this.#recovered;
	}

	roomChanged(): void {
		this.#worker.wake();
	}

	start(handlers: TaskHandlers): void {
		this.#worker.start(handlers);
		const { queue, retention = DEFAULT_RETENTION } = this.#options;
		void keepPruned(this.#deps, {
			queue,
			retention,
			tally: this.#tally,
			completed: this.#completed,
			signal: this.#closed.signal,
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed.abort();
		await this.#worker.stop();
	}

	/** The answer of a write that may have put a task in line. */
	async #inLine(written: Promise<SubmitResult>, count: number): Promise<SubmitResult> {
		const told = this.#announcer.after(written, ({ created }) => (created === null ? [] : [created]));
		const result = await this.#arrive(told, count);
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

	#row(taskId: string): FoundRow {
		const row = this.#reader.find(taskId);
		if (row === undefined)
			throw notFound("task", taskId, "`gswarm queue tasks` and `gswarm queue history` list them.");
		return row;
	}

	#document(row: ShownRow): TaskDocument {
		// Of a task that has ended the meter may be there for a moment still.
		const meter = row.epoch === null ? undefined : this.#worker.meter(row.seq);
		return toDocument(row, meter, {
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
}

function dependsOnOthers({ dependencies = [], elsewhere = [] }: SubmitInput): boolean {
	return dependencies.length + elsewhere.length > 0;
}

/** Ids of a batch rise with their places, so that they lie side by side in the database's index. */
function inOrder(place: number): string {
	return place.toString(36).padStart(3, "0");
}

function limitsOf({ max_concurrent_tasks }: QueueConfig): Limits {
	return { slots: max_concurrent_tasks, criticalSlots: CRITICAL_SLOTS };
}
