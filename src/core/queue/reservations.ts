/** What tasks hold, and the lines of tasks that wait for it. Part of other transactions, never one of its own. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Reservation } from "./conflicts.ts";
import { type Planted, RANKS, type Waiter, mayWake } from "./schedule.ts";
import type { QueueName, TaskRow } from "./task-row.ts";

/** What the scheduler must know of these keys. */
export interface Holds {
	held: Reservation[];
	planted: Planted[];
	waiters: Waiter[];
}

export function needsOf(row: Pick<TaskRow, "reservations">): Reservation[] {
	return JSON.parse(row.reservations) as Reservation[];
}

export function readHolds(db: Sqlite, queue: QueueName, keys: readonly string[]): Holds {
	if (keys.length === 0) return { held: [], planted: [], waiters: [] };
	const list = JSON.stringify([...new Set(keys)]);
	return {
		held: db
			.query<Reservation, [string, string]>(
				"SELECT key, mode FROM queue_reservation WHERE queue = ?1 AND key IN (SELECT value FROM json_each(?2))",
			)
			.all(queue, list),
		planted: db
			.query<Planted, [string, string]>(
				"SELECT key, mode, seq FROM queue_planted WHERE queue = ?1 AND key IN (SELECT value FROM json_each(?2))",
			)
			.all(queue, list),
		waiters: keysWithLine(db, queue, list).flatMap((key) => headsOfLine(db, queue, key)),
	};
}

/** Takes everything that the task needs; what it planted stands until it gives that back. */
export function hold(db: Sqlite, queue: QueueName, seq: number, needs: readonly Reservation[]): void {
	const insert = db.query("INSERT INTO queue_reservation (queue, key, seq, mode) VALUES (?1, ?2, ?3, ?4)");
	for (const { key, mode } of needs) insert.run(queue, key, seq, mode);
}

/** Gives back what the task held, planted or waited for, and wakes who waited for it. */
export function release(db: Sqlite, row: Pick<TaskRow, "queue" | "seq" | "reservations">): void {
	db.query("DELETE FROM queue_reservation WHERE seq = ?1").run(row.seq);
	db.query("DELETE FROM queue_planted WHERE seq = ?1").run(row.seq);
	wake(db, row.queue, needsOf(row));
}

/** Parks a task in the line of a reservation. */
export function park(db: Sqlite, seq: number, on: Reservation, nowMs: number): void {
	db.query(
		`UPDATE queue_task SET parked_on = ?2, parked_mode = ?3, parked_at_ms = coalesce(parked_at_ms, ?4),
			bypassed = bypassed + (parked_at_ms IS NOT NULL) WHERE seq = ?1`,
	).run(seq, on.key, on.mode, nowMs);
}

/** Makes younger tasks respect what this one needs. */
export function plant(db: Sqlite, queue: QueueName, seq: number, needs: readonly Reservation[]): void {
	const insert = db.query(
		"INSERT OR IGNORE INTO queue_planted (queue, key, seq, mode) VALUES (?1, ?2, ?3, ?4)",
	);
	for (const { key, mode } of needs) insert.run(queue, key, seq, mode);
}

/**
 * Puts the heads of these lines back where a claim sees them, if they could have what they wait for. One per priority
 * is enough: who starts or parks elsewhere wakes the next. What stays parked is so held by somebody, planted by
 * somebody older, or needed by a task that the next claim looks at.
 */
export function wake(db: Sqlite, queue: QueueName, needs: readonly Reservation[]): void {
	if (needs.length === 0) return;
	const { held, planted, waiters } = readHolds(
		db,
		queue,
		needs.map(({ key }) => key),
	);
	const unpark = db.query("UPDATE queue_task SET parked_on = NULL, parked_mode = NULL WHERE seq = ?1");
	for (const waiter of waiters) if (mayWake(waiter, held, planted)) unpark.run(waiter.seq);
}

function keysWithLine(db: Sqlite, queue: QueueName, keys: string): string[] {
	return db
		.query<{ key: string }, [string, string]>(
			`SELECT value AS key FROM json_each(?2) WHERE EXISTS (
				SELECT 1 FROM queue_task INDEXED BY queue_parked WHERE queue = ?1 AND parked_on = value)`,
		)
		.all(queue, keys)
		.map(({ key }) => key);
}

function headsOfLine(db: Sqlite, queue: QueueName, key: string): Waiter[] {
	const head = db.query<Waiter, [string, string, number]>(
		`SELECT seq, parked_on AS key, parked_mode AS mode, parked_at_ms AS parkedAtMs, bypassed
			FROM queue_task INDEXED BY queue_parked WHERE queue = ?1 AND parked_on = ?2 AND rank = ?3 ORDER BY seq LIMIT 1`,
	);
	return RANKS.flatMap((rank) => head.all(queue, key, rank));
}
