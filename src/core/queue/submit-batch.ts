/** The transaction of many new tasks at once: all of them are in line when it is done, or none. */
import type { Database as Sqlite } from "bun:sqlite";
import { invalid } from "../../schema/errors.ts";
import { findDependencies, refuseTooMany } from "./dependencies.ts";
import { type IdempotencyKey, madeByKey, rememberKey } from "./idempotency.ts";
import {
	type Dependency,
	type NewTask,
	PLAIN,
	type Room,
	insertRow,
	insertRows,
	refuseWhenFull,
} from "./insert.ts";
import { type Change, type QueueName, findTask } from "./task-row.ts";

/** A task of a batch, without what all of them share. What most tasks do not have is left out. */
export interface BatchRow
	extends Pick<NewTask, "taskId" | "type" | "model" | "rank" | "request" | "maxAttempts"> {
	resources?: string | undefined;
	reservations?: string | undefined;
	sizeBytes?: number | undefined;
	dependencies?: readonly string[] | undefined;
	/** Places in this batch, from 0, of tasks that must complete first; smaller than the task's own. */
	after?: readonly number[] | undefined;
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
	const made = insertAll(db, input);
	const [first] = rows;
	if (idempotency !== null && first !== undefined)
		rememberKey(db, queue, idempotency, { taskId: first.taskId, nowMs });
	const seq = made[0]?.seq ?? 0;
	return {
		known: null,
		first: { seq, eventId: addEvents(db, seq, made.length, nowMs) },
		blocked: made.flatMap(({ state }, place) => (state === "blocked" ? [place] : [])),
	};
}

/** The rows in their order: a task that waits for others can only be made when those are there. */
function insertAll(db: Sqlite, { queue, rows, nowMs }: BatchInput): Dependency[] {
	const made: Dependency[] = [];
	let plain: ReturnType<typeof wholeRow>[] = [];
	let next = nextSeq(db);
	const insertPlain = (): void => {
		insertRows(db, plain, { queue, nowMs });
		plain = [];
	};
	for (const [place, row] of rows.entries()) {
		const { dependencies = [], after = [] } = row;
		const task = wholeRow(row);
		if (dependencies.length === 0 && after.length === 0) {
			plain.push(task);
			made.push({ seq: next, state: "pending" });
		} else {
			refuseTooMany(dependencies.length + after.length);
			const before = after.map((other) => earlier(made, place, other));
			insertPlain();
			const whole = { ...task, queue, nowMs, joinKey: null, dispatch: null, retryOf: null };
			made.push(insertRow(db, whole, [...findDependencies(db, queue, dependencies), ...before]));
		}
		next++;
	}
	insertPlain();
	return made;
}

function wholeRow({
	taskId,
	type,
	model,
	rank,
	request,
	maxAttempts,
	resources = PLAIN.resources,
	reservations = PLAIN.reservations,
	sizeBytes,
}: BatchRow): Parameters<typeof insertRows>[1][number] {
	return {
		taskId,
		type,
		model,
		rank,
		request,
		maxAttempts,
		resources,
		reservations,
		sizeBytes: sizeBytes ?? null,
	};
}

/** The place in the order of submission that the next new task gets. */
function nextSeq(db: Sqlite): number {
	const [last] = db
		.query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = 'queue_task'")
		.all();
	return (last?.seq ?? 0) + 1;
}

/** The events of tasks that follow each other from this one on; the id of the first. */
function addEvents(db: Sqlite, firstSeq: number, count: number, nowMs: number): number {
	const { changes, lastInsertRowid } = db
		.query(
			`INSERT INTO queue_event (seq, at_ms, from_state, to_state, attempt, reason)
			SELECT seq, ?3, NULL, state, 0, NULL FROM queue_task WHERE seq >= ?1 AND seq < ?1 + ?2 ORDER BY seq`,
		)
		.run(firstSeq, count, nowMs);
	if (changes !== count) throw new Error(`${changes} of ${count} tasks of a batch are in their places`);
	return Number(lastInsertRowid) - count + 1;
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
export function* changesOf(
	{ rows, nowMs }: BatchInput,
	{ first, blocked }: BatchResult,
): Generator<Change, void, void> {
	const waits = new Set(blocked);
	for (const [place, { taskId, type, model, rank }] of rows.entries()) {
		yield {
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
		};
	}
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
