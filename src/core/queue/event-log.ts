/** The log of changes as a stream that can be taken up again where it broke off: events are rows, read in order. */
import type { Database as Sqlite } from "bun:sqlite";
import { type TaskState, type TaskStatus, type TaskType, taskStatus } from "../../schema/task.ts";
import { type QueueName, param } from "./task-row.ts";

const PAGE = 500;

/** One change of a task, as it stands on the wire. */
export interface TaskEvent {
	/** Rises; what a reader names to go on after it. */
	id: number;
	task_id: string;
	task_type: TaskType;
	model_name: string;
	/** null for the submit. */
	from: TaskStatus | null;
	status: TaskStatus;
	/** The state inside: `blocked` and `retry_wait` are both `pending` outside. */
	state: TaskState;
	attempt: number;
	/** crash, shutdown, disk_full, dependency_failed, detached, …; null where the change says it all. */
	reason: string | null;
	/** Seconds since the epoch. */
	at: number;
}

/** What a reader gets: events, and a gap where events that it has not seen are no longer kept. */
export type EventPage = { gap: boolean; events: TaskEvent[]; lastId: number };

/** Up to 500 events after the given one; `lastId` is where to go on, also past events of other queues. */
export function readEvents(
	db: Sqlite,
	queue: QueueName,
	{ after, taskId }: { after: number; taskId?: string | undefined },
): EventPage {
	const rows = db
		.query<
			{
				id: number;
				at_ms: number;
				from_state: TaskState | null;
				to_state: TaskState;
				attempt: number;
				reason: string | null;
				queue: QueueName | null;
				task_id: string;
				type: TaskType;
				model: string;
			},
			[number]
		>(
			`SELECT e.id, e.at_ms, e.from_state, e.to_state, e.attempt, e.reason, t.queue, t.task_id, t.type, t.model
			FROM queue_event e LEFT JOIN queue_task t ON t.seq = e.seq WHERE e.id > ${param(1)} ORDER BY e.id LIMIT ${PAGE}`,
		)
		.all(after);
	const [first] = rows;
	const events = rows
		.filter((row) => row.queue === queue && (taskId === undefined || row.task_id === taskId))
		.map(
			(row): TaskEvent => ({
				id: row.id,
				task_id: row.task_id,
				task_type: row.type,
				model_name: row.model,
				from: row.from_state === null ? null : taskStatus(row.from_state),
				status: taskStatus(row.to_state),
				state: row.to_state,
				attempt: row.attempt,
				reason: row.reason,
				at: row.at_ms / 1000,
			}),
		);
	return {
		gap: first !== undefined && first.id > after + 1,
		events,
		lastId: rows.at(-1)?.id ?? after,
	};
}

/** The id of the newest event; 0 when there was none yet. */
export function newestEvent(db: Sqlite): number {
	return db.query<{ id: number | null }, []>("SELECT max(id) AS id FROM queue_event").all()[0]?.id ?? 0;
}
