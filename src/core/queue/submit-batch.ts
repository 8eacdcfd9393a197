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
	/** Of a batch that was there already: its tasks. */
	known: string[] | null;
	/** Of a new one: its first task and that one's event; the others follow without a gap. */
	first: { seq: number; eventId: number };
	/** Places of tasks that wait for others. */
	blocked: number[];
}

/**
 * @throws 400 unknown_dependency, too_many_dependencies, dependency_cycle; 409 idempotency_mismatch;
 * 424 dependency_failed; 503 queue_full
 */
export function submitBatch(db: Sqlite, input: BatchInput): BatchResult {
	const { queue, rows, idempotency, room, nowMs } = input;
	if (idempotency !== null) {
		const first = madeByKey(db, queue, idempotency, nowMs);
		if (first !== undefined) {
			const known = batchFrom(db, queue, first, rows.length);
			return { known, first: { seq: 0, eventId: 0 }, blocked: [] };
		}
	}
	refuseWhenFull(room, rows.length);
	const made: Dependency[] = [];
	const events: number[] = [];
	for (const [place, row] of rows.entries()) {
		refuseTooMany(row.dependencies.length + row.after.length);
		const before = row.after.map((other) => earlier(made, place, other));
		const { seq, state, change } = insertTask(db, row, [
			...findDependencies(db, queue, row.dependencies),
			...before,
		]);
		made.push({ seq, state });
		events.push(change.eventId);
	}
	const [first] = rows;
	if (idempotency !== null && first !== undefined)
		rememberKey(db, queue, idempotency, { taskId: first.taskId, nowMs });
	return {
		known: null,
		first: { seq: made[0]?.seq ?? 0, eventId: events[0] ?? 0 },
		blocked: made.flatMap(({ state }, place) => (state === "blocked" ? [place] : [])),
	};
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

/** The changes that a new batch made, as the transaction did not say them one by one. */
export function changesOf({ rows, nowMs }: BatchInput, { first, blocked }: BatchResult): Change[] {
	const waits = new Set(blocked);
	return rows.map(({ taskId, type, model, rank }, place) => ({
		eventId: first.eventId + place,
		seq: first.seq + place,
		taskId,
		type,
		model,
		rank,
		from: null,
		state: waits.has(place) ? "blocked" : "pending",
		attempt: 0,
		reason: null,
		atMs: nowMs,
	}));
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
