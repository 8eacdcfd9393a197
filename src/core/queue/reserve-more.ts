/**
 * The transaction in which a running task takes room that it learned of only now: at once, or not at all. It never waits
 * for it while it holds something else, so that two tasks cannot wait for each other.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import { type Capacity, type Reservation, bytesOf, mergeReservations } from "./conflicts.ts";
import { holdMore, needsOf, readHolds } from "./reservations.ts";
import { firstObstacle } from "./schedule.ts";
import { type QueueName, type TaskRow, staleToken, taskBySeq } from "./task-row.ts";

export const NO_ROOM_NOW = "no_room_now";

export interface ReserveMoreInput {
	queue: QueueName;
	seq: number;
	token: number;
	need: Reservation;
	capacity: Capacity;
}

/** What was asked for, and what others leave of it. */
export interface MissingRoom {
	taskId: string;
	key: string;
	required: number;
	available: number;
}

/**
 * Null when the task holds it now, and its row says so, in place of what it said before of the same.
 * @throws CONFLICT stale_token when the task was taken from this attempt
 */
export function reserveMore(
	db: Sqlite,
	{ queue, seq, token, need, capacity }: ReserveMoreInput,
): MissingRoom | null {
	const row = taskBySeq(db, seq);
	if (row.token !== token || row.epoch === null) throw staleToken(row.task_id);
	const { held, planted } = readHolds(db, queue, [need.key]);
	const others = held.filter((one) => one.seq !== seq);
	if (firstObstacle({ seq, needs: [need] }, others, planted, capacity) === undefined) {
		holdMore(db, queue, seq, need);
		db.query("UPDATE queue_task SET reservations = ?2 WHERE seq = ?1").run(seq, withNeed(row, need));
		return null;
	}
	const available = Math.max(0, (capacity[need.key] ?? 0) - bytesOf(others, need.key));
	return { taskId: row.task_id, key: need.key, required: need.bytes ?? 0, available };
}

/** A row's reservations, with this one in place of what it said of the same. */
export function withNeed(row: Pick<TaskRow, "reservations">, need: Reservation): string {
	return JSON.stringify(mergeReservations([...needsOf(row).filter(({ key }) => key !== need.key), need]));
}

/** What a task that was refused waits for in line. */
export function missingNeed({ details: { key, required } }: GswarmError): Reservation | undefined {
	if (typeof key !== "string" || typeof required !== "number") return undefined;
	return { key, mode: "shared", bytes: required };
}

/** 503 no_room_now. */
export function noRoomNow({ taskId, key, required, available }: MissingRoom): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${taskId} needs ${required} bytes of ${key}; other tasks leave ${available} now.`,
		{ reason: NO_ROOM_NOW, details: { key, required, available }, retryable: true },
	);
}
