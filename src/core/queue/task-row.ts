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
}

/** A change of state that listeners are told about once it is committed. */
export interface Change {
	seq: number;
	taskId: string;
	type: TaskType;
	model: string;
	state: TaskState;
}

/** What a change of state may write besides the state. */
export type RowChange = Partial<Omit<TaskRow, "seq" | "queue" | "task_id" | "state">>;

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
	row: TaskRow,
	to: TaskState,
	{ nowMs, reason = null, ...change }: RowChange & { nowMs: number; reason?: string | null },
): Change {
	if (!isLegalChange(row.state, to))
		throw new Error(`task ${row.task_id} cannot go from ${row.state} to ${to}`);
	const columns = Object.keys(change);
	const sets = ["state = $to", ...columns.map((column) => `${column} = $${column}`)].join(", ");
	const { changes } = db
		.query<unknown, [Record<string, string | number | null>]>(
			`UPDATE queue_task SET ${sets} WHERE seq = $seq AND state = $was_state AND token = $was_token`,
		)
		.run({ ...change, to, seq: row.seq, was_state: row.state, was_token: row.token });
	if (changes === 0) throw staleToken(row.task_id);
	addEvent(db, { seq: row.seq, from: row.state, to, attempt: change.attempt ?? row.attempt, nowMs, reason });
	return { seq: row.seq, taskId: row.task_id, type: row.type, model: row.model, state: to };
}

export function addEvent(
	db: Sqlite,
	event: {
		seq: number;
		from: TaskState | null;
		to: TaskState;
		attempt: number;
		nowMs: number;
		reason?: string | null;
	},
): void {
	db.query(
		"INSERT INTO queue_event (seq, at_ms, from_state, to_state, attempt, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	).run(event.seq, event.nowMs, event.from, event.to, event.attempt, event.reason ?? null);
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
