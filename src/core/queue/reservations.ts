/** What tasks hold, and the lines of tasks that wait for it. Part of other transactions, never one of its own. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Capacity, Hold, Reservation } from "./conflicts.ts";
import { RANKS, type Waiter, mayWake } from "./schedule.ts";
import { type QueueName, type TaskRow, param, quoted } from "./task-row.ts";

/** Tasks behind the head of a line for bytes that are tried too: a small one may fit where the head does not. */
const MAX_BACKFILL = 16;
const DEVICE_PREFIX = "device:";

/** What the scheduler must know of these keys. */
export interface Holds {
	held: Hold[];
	planted: Hold[];
	waiters: Waiter[];
}

/** What a task needs; of devices only where they are tracked. */
export function needsOf(row: Pick<TaskRow, "reservations">, tracksDevices = true): Reservation[] {
	if (row.reservations === "[]") return [];
	const needs = JSON.parse(row.reservations) as Reservation[];
	return tracksDevices ? needs : needs.filter(({ key }) => !key.startsWith(DEVICE_PREFIX));
}

export function readHolds(db: Sqlite, queue: QueueName, keys: readonly string[]): Holds {
	const holds: Holds = { held: [], planted: [], waiters: [] };
	for (const key of new Set(keys)) {
		holds.held.push(...rowsOf(db, queue, "queue_reservation", key));
		holds.planted.push(...rowsOf(db, queue, "queue_planted", key));
		if (hasLine(db, queue, key)) holds.waiters.push(...headsOfLine(db, queue, key));
	}
	return holds;
}

/** Takes everything that the task needs; what it planted stands until it gives that back. */
export function hold(db: Sqlite, queue: QueueName, seq: number, needs: readonly Reservation[]): void {
	const insert = db.query(
		"INSERT INTO queue_reservation (queue, key, seq, mode, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
	);
	for (const { key, mode, bytes = 0 } of needs) insert.run(queue, key, seq, mode, bytes);
}

/** Takes this in place of what the task held of the same. */
export function holdMore(
	db: Sqlite,
	queue: QueueName,
	seq: number,
	{ key, mode, bytes = 0 }: Reservation,
): void {
	db.query(
		`INSERT INTO queue_reservation (queue, key, seq, mode, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET mode = ?4, bytes = ?5`,
	).run(queue, key, seq, mode, bytes);
}

/** Gives back what the task held, planted or waited for, and wakes who waited for it. */
export function release(db: Sqlite, row: Pick<TaskRow, "queue" | "seq" | "reservations">): void {
	const needs = needsOf(row);
	if (needs.length === 0) return;
	db.query("DELETE FROM queue_reservation WHERE seq = ?1").run(row.seq);
	db.query("DELETE FROM queue_planted WHERE seq = ?1").run(row.seq);
	wake(db, row.queue, needs);
}

/** Parks a task in the line of a reservation. */
export function park(db: Sqlite, seq: number, on: Reservation, nowMs: number): void {
	const bytes = on.bytes ?? 0;
	db.query(
		`UPDATE queue_task SET parked_on = ?2, parked_mode = ?3, parked_bytes = ?4,
			parked_at_ms = coalesce(parked_at_ms, ?5), bypassed = bypassed + (parked_at_ms IS NOT NULL),
			space_wait_since_ms = CASE WHEN ?4 > 0 THEN coalesce(space_wait_since_ms, ?5) ELSE space_wait_since_ms END
		WHERE seq = ?1`,
	).run(seq, on.key, on.mode, bytes, nowMs);
}

/** Makes younger tasks respect what this one needs. */
export function plant(db: Sqlite, queue: QueueName, seq: number, needs: readonly Reservation[]): void {
	const insert = db.query(
		"INSERT OR IGNORE INTO queue_planted (queue, key, seq, mode, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
	);
	for (const { key, mode, bytes = 0 } of needs) insert.run(queue, key, seq, mode, bytes);
}

/**
 * Puts the heads of these lines back where a claim sees them, if they could have what they wait for. One per priority
 * is enough: who starts or parks elsewhere wakes the next. What stays parked is so held by somebody, planted by
 * somebody older, or needed by a task that the next claim looks at.
 */
export function wake(db: Sqlite, queue: QueueName, needs: readonly Reservation[]): void {
	// Whether bytes suffice is for the claim to say, which knows how many there are.
	const things = needs.filter(({ bytes = 0 }) => bytes === 0);
	for (const key of new Set(things.map((need) => need.key))) {
		if (!hasLine(db, queue, key)) continue;
		const held = rowsOf(db, queue, "queue_reservation", key);
		const planted = rowsOf(db, queue, "queue_planted", key);
		for (const waiter of headsOfLine(db, queue, key)) {
			if (mayWake(waiter, held, planted, {})) unpark(db, waiter.seq);
		}
	}
}

/** Every task that waits for bytes goes back to the line: another process may count with other tiers. */
export function forgetRoom(db: Sqlite, queue: QueueName): void {
	db.query(
		`UPDATE queue_task INDEXED BY queue_parked SET parked_on = NULL, parked_mode = NULL, parked_bytes = 0
		WHERE queue = ?1 AND parked_on IS NOT NULL AND parked_bytes > 0`,
	).run(queue);
}

/**
 * The heads of the lines for bytes go back where a claim sees them if they fit now, or one that is smaller.
 * Gives the heads that do not.
 */
export function wakeForRoom(db: Sqlite, queue: QueueName, capacity: Capacity): Waiter[] {
	const stuck: Waiter[] = [];
	for (const key of Object.keys(capacity).filter((one) => hasLine(db, queue, one))) {
		const held = rowsOf(db, queue, "queue_reservation", key);
		const planted = rowsOf(db, queue, "queue_planted", key);
		const heads = headsOfLine(db, queue, key);
		const free = heads.filter((waiter) => mayWake(waiter, held, planted, capacity));
		const backfill =
			free.length > 0
				? []
				: behindTheHead(db, queue, key).filter((one) => mayWake(one, held, planted, capacity));
		for (const { seq } of [...free, ...backfill.slice(0, 1)]) unpark(db, seq);
		stuck.push(...heads.filter((waiter) => !free.includes(waiter)));
	}
	return stuck;
}

/** Every task that is parked on a device goes back to the line, and nothing of devices is planted any more. */
export function forgetDevices(db: Sqlite, queue: QueueName): void {
	db.query(
		`UPDATE queue_task INDEXED BY queue_parked SET parked_on = NULL, parked_mode = NULL, parked_bytes = 0
		WHERE queue = ?1 AND parked_on >= '${DEVICE_PREFIX}' AND parked_on < 'device;'`,
	).run(queue);
	db.query(
		`DELETE FROM queue_planted WHERE queue = ?1 AND key >= '${DEVICE_PREFIX}' AND key < 'device;'`,
	).run(queue);
}

export function unpark(db: Sqlite, seq: number): void {
	db.query("UPDATE queue_task SET parked_on = NULL, parked_mode = NULL, parked_bytes = 0 WHERE seq = ?1").run(
		seq,
	);
}

function rowsOf(
	db: Sqlite,
	queue: QueueName,
	table: "queue_reservation" | "queue_planted",
	key: string,
): Hold[] {
	return db
		.query<Hold, [string]>(
			`SELECT key, mode, bytes, seq FROM ${table} WHERE queue = ${quoted(queue)} AND key = ${param(1)}`,
		)
		.all(key);
}

function hasLine(db: Sqlite, queue: QueueName, key: string): boolean {
	return (
		db
			.query<unknown, [string]>(
				`SELECT 1 FROM queue_task INDEXED BY queue_parked WHERE queue = ${quoted(queue)} AND parked_on = ${param(1)}
				AND parked_on IS NOT NULL LIMIT 1`,
			)
			.all(key).length > 0
	);
}

const WAITER =
	"seq, parked_on AS key, parked_mode AS mode, parked_bytes AS bytes, parked_at_ms AS parkedAtMs, bypassed";

function headsOfLine(db: Sqlite, queue: QueueName, key: string): Waiter[] {
	const heads = RANKS.map(
		(rank) =>
			`SELECT * FROM (SELECT ${WAITER} FROM queue_task INDEXED BY queue_parked WHERE queue = ${quoted(queue)}
				AND parked_on = ${param(1)} AND parked_on IS NOT NULL AND rank = ${rank} ORDER BY seq LIMIT 1)`,
	);
	return db.query<Waiter, [string]>(heads.join(" UNION ALL ")).all(key);
}

function behindTheHead(db: Sqlite, queue: QueueName, key: string): Waiter[] {
	return db
		.query<Waiter, [string]>(
			`SELECT ${WAITER} FROM queue_task INDEXED BY queue_parked WHERE queue = ${quoted(queue)}
				AND parked_on = ${param(1)} AND parked_on IS NOT NULL ORDER BY rank, seq LIMIT ${MAX_BACKFILL}`,
		)
		.all(key);
}
