/** A task as the database keeps it, and the one way to change it. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import {
	PRIORITIES,
	type Priority,
	type TaskPhase,
	type TaskState,
	type TaskType,
} from "../../schema/task.ts";
import { isLegalChange } from "./transitions.ts";

export type QueueName = "node" | "host";

/** One row of queue_task; JSON columns are text. */
export interface TaskRow {
	seq: number;
	queue: QueueName;
	task_id: string;
	type: TaskType;
	model: string;
	rank: number;
	state: TaskState;
	request: string;
	resources: string;
	reservations: string;
	size_bytes: number | null;
	open_dependencies: number;
	join_key: string | null;
	waiters: number;
	attempt: number;
	max_attempts: number;
	crashes: number;
	token: number;
	epoch: number | null;
	progressed: number;
	run_at_ms: number | null;
	space_wait_since_ms: number | null;
	parked_on: string | null;
	parked_mode: string | null;
	parked_at_ms: number | null;
	bypassed: number;
	phase: TaskPhase;
	bytes_done: number;
	bytes_total: number;
	checkpoint: string | null;
	result: string | null;
	error: string | null;
	created_at_ms: number;
	started_at_ms: number | null;
	completed_at_ms: number | null;
	parked_bytes: number;
	operation_id: string | null;
	fence_epoch: number | null;
	fence_n: number | null;
	retry_of: number | null;
}

/** A change of state that listeners are told about once it is committed. */
export interface Change {
	/** Rises with every change in this database. */
	eventId: number;
	seq: number;
	taskId: string;
	type: TaskType;
	model: string;
	rank: number;
	/** null for the submit. */
	from: TaskState | null;
	state: TaskState;
	attempt: number;
	/** Why, in one word of ours; null where the change says it all. */
	reason: string | null;
	atMs: number;
}

/** What a change of state must know of its row. */
export type ChangingRow = Pick<
	TaskRow,
	"seq" | "task_id" | "type" | "model" | "rank" | "state" | "token" | "attempt"
>;

/** What a change of state may write besides the state. */
export type RowChange = Partial<Omit<TaskRow, "seq" | "queue" | "task_id" | "state">>;

/**
 * A parameter for a query with ORDER BY, LIMIT or a join. SQLite 3.54 may choose another plan for another value of a
 * bare one, and so compiles such a query again at every use: 5 to 20 µs, where the query itself takes one.
 */
export function param(n: number): string {
	return `(SELECT ?${n})`;
}

/** The name as it stands in a query's text; one text for each queue is one plan for each. */
export function quoted(queue: QueueName): string {
	return queue === "node" ? "'node'" : "'host'";
}

/** A query's text for each queue, made once: the writer looks its plans up by the text. */
export function forEachQueue<T>(of: (queue: string) => T): Record<QueueName, T> {
	return { node: of(quoted("node")), host: of(quoted("host")) };
}

export function priorityRank(priority: Priority): number {
	return PRIORITIES.indexOf(priority);
}

export function rankPriority(rank: number): Priority {
	return PRIORITIES[rank] ?? "low";
}

export function findTask(db: Sqlite, queue: QueueName, taskId: string): TaskRow | undefined {
	return db
		.query<TaskRow, [string, string]>("SELECT * FROM queue_task WHERE task_id = ?1 AND queue = ?2")
		.all(taskId, queue)[0];
}

export function taskBySeq(db: Sqlite, seq: number): TaskRow {
	const [row] = db.query<TaskRow, [number]>("SELECT * FROM queue_task WHERE seq = ?1").all(seq);
	if (row === undefined) throw new Error(`no task with seq ${seq}`);
	return row;
}

/**
 * Changes the state of a task, and its event is written with it. Refuses when the row is no longer what the caller
 * read (state and token), so that who lost a task cannot write to it.
 * @throws CONFLICT stale_token
 */
export function changeState(
	db: Sqlite,
	row: ChangingRow,
	to: TaskState,
	{ nowMs, reason = null, ...change }: RowChange & { nowMs: number; reason?: string | null },
): Change {
	const columns = Object.keys(change) as (keyof typeof change)[];
	return writeState(db, row, to, {
		sql: stateText(...columns.map((column, index) => `${column} = ?${index + FIRST_VALUE}`)),
		values: columns.map((column) => change[column] ?? null),
		attempt: change.attempt ?? row.attempt,
		nowMs,
		reason,
	});
}

const FIRST_VALUE = 5;

/** The statement of writeState that also sets these columns; the first parameter of theirs is ?5. */
export function stateText(...sets: string[]): string {
	return `UPDATE queue_task SET ${["state = ?1", ...sets].join(", ")} WHERE seq = ?2 AND state = ?3 AND token = ?4`;
}

/** changeState with its text made beforehand, for the changes that every task goes through. */
export function writeState(
	db: Sqlite,
	row: ChangingRow,
	to: TaskState,
	change: {
		/** Of stateText. */
		sql: string;
		values: (string | number | null)[];
		attempt: number;
		nowMs: number;
		reason: string | null;
	},
): Change {
	if (!isLegalChange(row.state, to))
		throw new Error(`task ${row.task_id} cannot go from ${row.state} to ${to}`);
	const { changes } = db
		.query<unknown, (string | number | null)[]>(change.sql)
		.run(to, row.seq, row.state, row.token, ...change.values);
	if (changes === 0) throw staleToken(row.task_id);
	const { attempt, nowMs, reason } = change;
	return addEvent(db, row, { from: row.state, to, attempt, nowMs, reason });
}

/** Writes the event of a change, in the transaction that makes it. */
export function addEvent(
	db: Sqlite,
	{ seq, task_id, type, model, rank }: Pick<TaskRow, "seq" | "task_id" | "type" | "model" | "rank">,
	{
		from,
		to,
		attempt,
		nowMs,
		reason = null,
	}: { from: TaskState | null; to: TaskState; attempt: number; nowMs: number; reason?: string | null },
): Change {
	const { lastInsertRowid } = db
		.query(
			"INSERT INTO queue_event (seq, at_ms, from_state, to_state, attempt, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
		)
		.run(seq, nowMs, from, to, attempt, reason);
	const eventId = Number(lastInsertRowid);
	return { eventId, seq, taskId: task_id, type, model, rank, from, state: to, attempt, reason, atMs: nowMs };
}

export function staleToken(taskId: string): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`Task ${taskId} is no longer the one that this attempt was started for.`,
		{
			reason: "stale_token",
			details: { task_id: taskId },
		},
	);
}
