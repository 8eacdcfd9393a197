/**
 * What must always hold in a queue's database, whatever happened:
 * I1 every state is counted as it is; I2 who runs holds what it needs and nobody else holds anything; I3 what is
 * exclusive is held alone; I4 bytes that are held fit together; I5 no more run than may; I6 a finished row never
 * changes; I7 tokens rise; I8 a task starts after all it depends on have completed; I9 attempts are bounded.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { expect } from "bun:test";
import {
	type Capacity,
	type Hold,
	type Reservation,
	bytesOf,
	firstConflict,
} from "../../src/core/queue/conflicts.ts";
import { countTasks } from "../../src/core/queue/tally.ts";
import type { TaskRow } from "../../src/core/queue/task-row.ts";
import { TASK_STATES, type TaskState, isTerminal, taskStatus } from "../../src/schema/task.ts";

/** What was seen of each task before. */
export interface Memory {
	tokens: Map<string, number>;
	/** Whole rows of finished tasks. */
	ends: Map<string, string>;
	running: number;
	/** Running ones that are not critical. */
	common: number;
}

export function newMemory(): Memory {
	return { tokens: new Map(), ends: new Map(), running: 0, common: 0 };
}

export interface Bounds {
	slots: number;
	capacity: Capacity;
}

/** Checks I1 to I9 of one queue and remembers what it saw. Gives the rows in the order of submission. */
export function checkInvariants(db: Sqlite, memory: Memory, { slots, capacity }: Bounds): TaskRow[] {
	const rows = db.query<TaskRow, []>("SELECT * FROM queue_task ORDER BY seq").all();
	const running = rows.filter(({ epoch }) => epoch !== null);
	checkCounts(db, rows);
	checkHolds(db, running, capacity);
	// Those that ran when the limit was lowered may end.
	const common = running.filter(({ rank }) => rank > 0).length;
	expect(common).toBeLessThanOrEqual(Math.max(slots, memory.common));
	expect(running.length).toBeLessThanOrEqual(Math.max(slots + 1, memory.running));
	memory.common = common;
	memory.running = running.length;
	for (const row of rows) checkRow(row, memory);
	checkDependencies(db);
	return rows;
}

function checkRow(row: TaskRow, { tokens, ends }: Memory): void {
	expect(row.token).toBeGreaterThanOrEqual(tokens.get(row.task_id) ?? 0);
	tokens.set(row.task_id, row.token);
	const end = ends.get(row.task_id);
	if (end !== undefined) expect(JSON.stringify(row)).toBe(end);
	else if (isTerminal(row.state)) ends.set(row.task_id, JSON.stringify(row));
	expect(row.attempt).toBeLessThanOrEqual(row.max_attempts);
	expect(row.crashes).toBeLessThanOrEqual(3);
}

/** What is counted is what is there, and every row's last event is its state. */
function checkCounts(db: Sqlite, rows: readonly TaskRow[]): void {
	const counted = countTasks(db, "node");
	const states = Object.fromEntries(
		TASK_STATES.map((state) => [state, rows.filter((row) => row.state === state).length]),
	);
	expect(counted.states() as Record<string, number>).toEqual(states);
	for (const rank of [0, 1, 2, 3]) {
		const before = rows.filter((row) => row.rank <= rank && taskStatus(row.state) === "pending");
		expect({ rank, waiting: counted.waiting(rank) }).toEqual({ rank, waiting: before.length });
	}
	const last = new Map(
		db
			.query<{ seq: number; to_state: TaskState }, []>("SELECT seq, to_state FROM queue_event ORDER BY id")
			.all()
			.map(({ seq, to_state }) => [seq, to_state]),
	);
	expect(rows.map(({ seq }) => last.get(seq))).toEqual(rows.map(({ state }) => state));
}

/** A task that was claimed while devices were not tracked holds none. */
function checkHolds(db: Sqlite, running: readonly TaskRow[], capacity: Capacity): void {
	const held = db
		.query<Hold, []>("SELECT key, mode, bytes, seq FROM queue_reservation ORDER BY seq, key")
		.all();
	expect(held.filter(({ seq }) => !running.some((row) => row.seq === seq))).toEqual([]);
	for (const row of running) {
		const needs = (JSON.parse(row.reservations) as Reservation[]).map(({ key, mode, bytes = 0 }) => ({
			key,
			mode,
			bytes,
		}));
		const mine = held
			.filter(({ seq }) => seq === row.seq)
			.map(({ key, mode, bytes }) => ({ key, mode, bytes }));
		const wanted = mine.some(({ key }) => key.startsWith("device:"))
			? needs
			: needs.filter((need) => !need.key.startsWith("device:") || mine.length === needs.length);
		expect(mine as Reservation[]).toEqual(wanted);
	}
	for (const one of held) {
		const others = held.filter(({ seq }) => seq !== one.seq);
		expect(firstConflict([one], others)).toBeUndefined();
	}
	for (const [key, limit] of Object.entries(capacity)) expect(bytesOf(held, key)).toBeLessThanOrEqual(limit);
}

function checkDependencies(db: Sqlite): void {
	const wrong = `SELECT t.task_id FROM queue_dependency d JOIN queue_task t ON t.seq = d.seq
		JOIN queue_task o ON o.seq = d.depends_on WHERE`;
	expect(db.query(`${wrong} o.state <> 'completed' AND t.token > 0`).all()).toEqual([]);
	const stuck = "o.state IN ('failed', 'cancelled') AND t.state NOT IN ('failed', 'cancelled')";
	expect(db.query(`${wrong} ${stuck}`).all()).toEqual([]);
	const idle = `SELECT task_id FROM queue_task t WHERE state = 'blocked' AND NOT EXISTS (SELECT 1 FROM queue_dependency d
		JOIN queue_task o ON o.seq = d.depends_on WHERE d.seq = t.seq AND o.state <> 'completed')
		AND NOT EXISTS (SELECT 1 FROM queue_awaited a WHERE a.seq = t.seq AND a.state <> 'completed')`;
	const early = `SELECT t.task_id FROM queue_awaited a JOIN queue_task t ON t.seq = a.seq
		WHERE a.state <> 'completed' AND t.token > 0`;
	expect(db.query(early).all()).toEqual([]);
	expect(db.query(idle).all()).toEqual([]);
}
