/** Puts a task into the line, inside a transaction that has decided that it belongs there. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import type { TaskDocument, TaskPhase, TaskState, TaskType } from "../../schema/task.ts";
import type { Dispatch } from "./dispatch.ts";
import { type Awaited, addAwaited } from "./elsewhere.ts";
import { type Change, type QueueName, addEvent } from "./task-row.ts";

const QUEUE_FULL_RETRY_S = 30;
const QUEUED: TaskPhase = "queued";

export const NO_RESOURCES: TaskDocument["resources"] = { devices: [], models: [], exclusive: false };
/** What most tasks need, as a row has it. */
export const PLAIN = { resources: JSON.stringify(NO_RESOURCES), reservations: "[]" };

/** A task before it has a place in line. */
export interface NewTask {
	queue: QueueName;
	taskId: string;
	type: TaskType;
	model: string;
	rank: number;
	/** JSON, and so are the next two. */
	request: string;
	resources: string;
	reservations: string;
	sizeBytes: number | null;
	joinKey: string | null;
	maxAttempts: number;
	/** Set when the host dispatched it. */
	dispatch: Dispatch | null;
	/** The task that this one does again. */
	retryOf: number | null;
	nowMs: number;
}

/** A dependency as it stands now. */
export interface Dependency {
	seq: number;
	state: TaskState;
}

export interface Inserted {
	seq: number;
	state: Extract<TaskState, "blocked" | "pending">;
	change: Change;
}

export function insertTask(
	db: Sqlite,
	task: NewTask,
	dependencies: readonly Dependency[],
	awaited: readonly Awaited[] = [],
): Inserted {
	const { seq, state } = insertRow(db, task, dependencies, awaited);
	const { taskId: task_id, type, model, rank, nowMs } = task;
	const row = { seq, task_id, type, model, rank };
	return { seq, state, change: addEvent(db, row, { from: null, to: state, attempt: 0, nowMs }) };
}

/** insertTask without the event, which the caller writes. */
export function insertRow(
	db: Sqlite,
	task: NewTask,
	dependencies: readonly Dependency[],
	awaited: readonly Awaited[] = [],
): Omit<Inserted, "change"> {
	const here = dependencies.reduce((sum, { state }) => (state === "completed" ? sum : sum + 1), 0);
	const open = awaited.reduce((sum, { state }) => (state === "completed" ? sum : sum + 1), here);
	const state = open > 0 ? "blocked" : "pending";
	const { lastInsertRowid } = db
		.query(
			`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations, size_bytes,
				open_dependencies, join_key, max_attempts, phase, created_at_ms, operation_id, fence_epoch, fence_n, retry_of)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, '${QUEUED}', ?14, ?15, ?16, ?17, ?18)`,
		)
		.run(
			task.queue,
			task.taskId,
			task.type,
			task.model,
			task.rank,
			state,
			task.request,
			task.resources,
			task.reservations,
			task.sizeBytes,
			open,
			task.joinKey,
			task.maxAttempts,
			task.nowMs,
			task.dispatch?.operationId ?? null,
			task.dispatch?.fence.hostEpoch ?? null,
			task.dispatch?.fence.n ?? null,
			task.retryOf,
		);
	const seq = Number(lastInsertRowid);
	if (dependencies.length > 0) {
		const insert = db.query("INSERT OR IGNORE INTO queue_dependency (seq, depends_on) VALUES (?1, ?2)");
		for (const dependency of dependencies) insert.run(seq, dependency.seq);
	}
	if (awaited.length > 0) addAwaited(db, seq, awaited);
	return { seq, state };
}

/** Rows of one statement: what each statement costs by itself is shared by them. */
const ROWS_AT_ONCE = 16;
const COLUMNS_EACH = 9;
const SHARED_COLUMNS = 2;

/** Puts tasks into the line that wait for nothing, without their events. They follow each other without a gap. */
export function insertRows(
	db: Sqlite,
	tasks: readonly Omit<NewTask, "queue" | "nowMs" | "joinKey" | "dispatch" | "retryOf">[],
	{ queue, nowMs }: Pick<NewTask, "queue" | "nowMs">,
): void {
	for (let from = 0; from < tasks.length; ) {
		const left = tasks.length - from;
		const [count, sql] = left >= ROWS_AT_ONCE ? [ROWS_AT_ONCE, INSERT_MANY] : [1, INSERT_ONE];
		const values: (string | number | null)[] = [queue, nowMs];
		for (let at = from; at < from + count; at++) {
			const task = tasks[at];
			if (task === undefined) break;
			const { taskId, type, model, rank, request, resources, reservations, sizeBytes, maxAttempts } = task;
			values.push(taskId, type, model, rank, request, resources, reservations, sizeBytes, maxAttempts);
		}
		db.query<unknown, (string | number | null)[]>(sql).run(...values);
		from += count;
	}
}

const INSERT_ONE = insertText(1);
const INSERT_MANY = insertText(ROWS_AT_ONCE);

function insertText(count: number): string {
	const rows = Array.from({ length: count }, (_row, at) => {
		const first = SHARED_COLUMNS + at * COLUMNS_EACH + 1;
		const own = Array.from({ length: COLUMNS_EACH }, (_column, n) => `?${first + n}`);
		return `(?1, ?2, '${QUEUED}', 'pending', 0, ${own.join(", ")})`;
	});
	return `INSERT INTO queue_task (queue, created_at_ms, phase, state, open_dependencies, task_id, type, model, rank,
		request, resources, reservations, size_bytes, max_attempts) VALUES ${rows.join(", ")}`;
}

/** How many may still be put in line, and how many wait already. */
export interface Room {
	pending: number;
	limit: number;
}

/** @throws 503 queue_full */
export function refuseWhenFull({ pending, limit }: Room, added: number): void {
	if (pending + added <= limit) return;
	throw new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The queue is full: ${pending} tasks wait, and ${limit} may${added === 1 ? "" : `; ${added} more were to be added`}.`,
		{
			reason: "queue_full",
			details: { pending, limit, added },
			retryable: true,
			retryAfterS: QUEUE_FULL_RETRY_S,
			hint: "Try again when some have finished; `gswarm queue status` shows how many wait.",
		},
	);
}
