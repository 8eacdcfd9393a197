/**
 * How many tasks are in which state, kept in memory: counted once at the open, and followed by every committed change.
 * In the database such a number would be a row that each change has to write as well.
 */
import type { Database as Sqlite } from "bun:sqlite";
import type { TaskCounters } from "../../schema/node.ts";
import { TASK_STATES, type TaskState, isTerminal, taskStatus } from "../../schema/task.ts";
import { RANKS } from "./schedule.ts";
import { type Change, type QueueName, quoted } from "./task-row.ts";

export type StateCounts = Record<TaskState, number>;

export class Tally {
	readonly #states: StateCounts;
	/** By rank: tasks that have not begun or wait for another attempt. */
	readonly #waiting: number[];

	constructor(states: StateCounts, waiting: readonly number[]) {
		this.#states = { ...states };
		this.#waiting = [...waiting];
	}

	/** A change that is committed. */
	apply({ from, state, rank }: Pick<Change, "from" | "state" | "rank">): void {
		if (from === state) return;
		if (from !== null) this.#states[from]--;
		this.#states[state]++;
		const added = Number(isWaiting(state)) - Number(from !== null && isWaiting(from));
		this.#waiting[rank] = (this.#waiting[rank] ?? 0) + added;
	}

	/** A waiting task became more urgent. */
	raise(from: number, to: number): void {
		this.#waiting[from] = (this.#waiting[from] ?? 0) - 1;
		this.#waiting[to] = (this.#waiting[to] ?? 0) + 1;
	}

	/** Finished tasks were thrown away. */
	forget(state: TaskState, count: number): void {
		this.#states[state] -= count;
	}

	/** How many wait with this rank or a more urgent one. */
	waiting(rank = RANKS.length): number {
		return this.#waiting.reduce((sum, count, other) => (other <= rank ? sum + count : sum), 0);
	}

	/** How many wait with exactly this rank. */
	waitingAt(rank: number): number {
		return this.#waiting[rank] ?? 0;
	}

	finished(): number {
		return TASK_STATES.reduce((sum, state) => (isTerminal(state) ? sum + this.#states[state] : sum), 0);
	}

	/** As they are on the wire. That a task runs may be told before its submit is answered, which counts it. */
	counters(): Pick<TaskCounters, "pending" | "running"> {
		const { running, cancelling } = this.#states;
		return { pending: Math.max(0, this.waiting()), running: Math.max(0, running + cancelling) };
	}

	states(): StateCounts {
		return { ...this.#states };
	}
}

/** Counts what is there: indices alone, except for the few tasks that run or wait for a retry. */
export function countTasks(db: Sqlite, queue: QueueName): Tally {
	const counts = (sql: string): { state: TaskState; rank: number; count: number }[] =>
		db.query<{ state: TaskState; rank: number; count: number }, []>(sql).all();
	const where = `WHERE queue = ${quoted(queue)} AND`;
	const ready = counts(
		`SELECT 'pending' AS state, rank, count(*) AS count FROM queue_task INDEXED BY queue_ready
		${where} state = 'pending' AND parked_on IS NULL GROUP BY rank`,
	);
	const parked = counts(
		`SELECT 'pending' AS state, rank, count(*) AS count FROM queue_task INDEXED BY queue_parked
		${where} parked_on IS NOT NULL GROUP BY rank`,
	);
	const retries = counts(
		`SELECT state, rank, count(*) AS count FROM queue_task INDEXED BY queue_retry
		${where} run_at_ms IS NOT NULL GROUP BY state, rank`,
	);
	const running = counts(
		`SELECT state, rank, count(*) AS count FROM queue_task INDEXED BY queue_running
		${where} epoch IS NOT NULL GROUP BY state, rank`,
	);
	const live = counts(
		`SELECT 'blocked' AS state, rank, count(*) AS count FROM queue_task INDEXED BY queue_live
		${where} completed_at_ms IS NULL GROUP BY rank`,
	);
	const finished = counts(
		`SELECT state, 0 AS rank, count(*) AS count FROM queue_task INDEXED BY queue_finished
		${where} completed_at_ms IS NOT NULL GROUP BY state`,
	);
	const known = [...ready, ...parked, ...retries, ...running];
	const sum = (rows: readonly { count: number }[]): number => rows.reduce((all, { count }) => all + count, 0);
	const states = Object.fromEntries(
		TASK_STATES.map((state) => [state, sum([...known, ...finished].filter((row) => row.state === state))]),
	) as StateCounts;
	// What is unfinished and none of the others waits for a dependency.
	states.blocked = sum(live) - sum(known);
	const waiting = RANKS.map(
		(rank) => sum(live.filter((row) => row.rank === rank)) - sum(running.filter((row) => row.rank === rank)),
	);
	return new Tally(states, waiting);
}

function isWaiting(state: TaskState): boolean {
	return taskStatus(state) === "pending";
}
