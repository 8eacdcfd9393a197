/** The transaction of many new tasks at once: all of them are in line when it is done, or none. */
import type { Database as Sqlite } from "bun:sqlite";
import { invalid } from "../../schema/errors.ts";
import { findDependencies, refuseTooMany } from "./dependencies.ts";
import { type IdempotencyKey, madeByKey, rememberKey } from "./idempotency.ts";
import { type Dependency, type NewTask, type Room, insertTask, refuseWhenFull } from "./insert.ts";
import { type Change, type QueueName, findTask } from "./task-row.ts";

export interface BatchRow extends NewTask {
	dependencies: readonly string[];
	/** Places in this batch, from 0, of tasks that must complete first; smaller than the task's own. */
	after: readonly number[];
}

export interface BatchInput {
	queue: QueueName;
	rows: readonly BatchRow[];
	idempotency: IdempotencyKey | null;
	room: Room;
	nowMs: number;
}

export interface BatchResult {
	taskIds: string[];
	/** Empty when the tasks were there already. */
	changes: Change[];
}

/**
 * @throws 400 unknown_dependency, too_many_dependencies, dependency_cycle; 409 idempotency_mismatch;
 * 424 dependency_failed; 503 queue_full
 */
export function submitBatch(db: Sqlite, input: BatchInput): BatchResult {
	const { queue, rows, idempotency, room, nowMs } = input;
	if (idempotency !== null) {
		const first = madeByKey(db, queue, idempotency, nowMs);
		if (first !== undefined) return { taskIds: batchFrom(db, queue, first, rows.length), changes: [] };
	}
	refuseWhenFull(room, rows.length);
	const made: Dependency[] = [];
	const changes: Change[] = [];
	for (const [place, row] of rows.entries()) {
		refuseTooMany(row.dependencies.length + row.after.length);
		const before = row.after.map((other) => earlier(made, place, other));
		const { seq, state, change } = insertTask(db, row, [
			...findDependencies(db, queue, row.dependencies),
			...before,
		]);
		made.push({ seq, state });
		changes.push(change);
	}
	const [first] = rows;
	if (idempotency !== null && first !== undefined)
		rememberKey(db, queue, idempotency, { taskId: first.taskId, nowMs });
	return { taskIds: rows.map(({ taskId }) => taskId), changes };
}

function earlier(made: readonly Dependency[], place: number, other: number): Dependency {
	const found = made[other];
	if (found !== undefined) return found;
	throw invalid(
		"dependency_cycle",
		`Task ${place} of the batch comes after task ${other}; a task can only come after ones that stand before it, so that there is no circle.`,
		{ field: "after", task: place, after: other },
	);
}

/** The tasks of a batch stand one after the other: nobody else submits within its transaction. */
function batchFrom(db: Sqlite, queue: QueueName, first: string, count: number): string[] {
	const seq = findTask(db, queue, first)?.seq ?? 0;
	return db
		.query<{ task_id: string }, [number, number]>(
			"SELECT task_id FROM queue_task WHERE seq >= ?1 AND seq < ?1 + ?2",
		)
		.all(seq, count)
		.map(({ task_id }) => task_id);
}
