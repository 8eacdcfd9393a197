/** Dependencies on tasks of other queues: who knows those tells how they ended. */
import type { Database as Sqlite } from "bun:sqlite";
import type { FinishedStatus } from "../../schema/task.ts";
import { completedOne, failDependent } from "./end.ts";
import { type Change, type QueueName, taskBySeq } from "./task-row.ts";

/** A task of another queue. */
export interface Elsewhere {
	taskId: string;
	/** Whose queue it is in. */
	place: string;
}

export interface Awaited extends Elsewhere {
	state: "pending" | FinishedStatus;
}

export interface HeardInput {
	queue: QueueName;
	taskId: string;
	status: FinishedStatus;
	/** The task whose own failure or cancellation began it; the task itself when nothing else did. */
	root: string;
	nowMs: number;
}

export function addAwaited(db: Sqlite, seq: number, awaited: readonly Awaited[]): void {
	const insert = db.query(
		"INSERT OR IGNORE INTO queue_awaited (seq, task_id, place, state) VALUES (?1, ?2, ?3, ?4)",
	);
	for (const { taskId, place, state } of awaited) insert.run(seq, taskId, place, state);
}

/** What a task waits for, or waited for. */
export function awaitedBy(db: Sqlite, seq: number): Awaited[] {
	return db
		.query<Awaited, [number]>(
			"SELECT task_id AS taskId, place, state FROM queue_awaited WHERE seq = ?1 ORDER BY task_id",
		)
		.all(seq);
}

/** Everything of other queues that an unfinished task of this one waits for. */
export function openAwaited(db: Sqlite, queue: QueueName): Elsewhere[] {
	return db
		.query<Elsewhere, [string]>(
			`SELECT DISTINCT a.task_id AS taskId, a.place FROM queue_awaited a INDEXED BY queue_awaited_open
			JOIN queue_task t ON t.seq = a.seq WHERE a.state = 'pending' AND t.state = 'blocked' AND t.queue = ?1`,
		)
		.all(queue);
}

/** The transaction in which it is told that a task of another queue has ended: whoever waited goes on, or fails with it. */
export function heard(db: Sqlite, { queue, taskId, status, root, nowMs }: HeardInput): Change[] {
	const waiting = db
		.query<{ seq: number }, [string]>(
			"SELECT seq FROM queue_awaited INDEXED BY queue_awaited_open WHERE task_id = ?1 AND state = 'pending' ORDER BY seq",
		)
		.all(taskId)
		.map(({ seq }) => taskBySeq(db, seq))
		.filter((row) => row.queue === queue && row.state === "blocked");
	const changes: Change[] = [];
	for (const row of waiting) {
		db.query("UPDATE queue_awaited SET state = ?3 WHERE seq = ?1 AND task_id = ?2").run(
			row.seq,
			taskId,
			status,
		);
		if (status === "completed") changes.push(...completedOne(db, row, nowMs));
		else {
			// An earlier one of these may have taken it along.
			const now = taskBySeq(db, row.seq);
			if (now.state === "blocked")
				changes.push(...failDependent(db, now, { dependency: taskId, root, how: status, nowMs }));
		}
	}
	return changes;
}
