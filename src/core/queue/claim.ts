/** The transaction that takes the next tasks out of the line: the decision is `schedule`, the index names the candidates. */
import type { Database as Sqlite } from "bun:sqlite";
import { LONGEST_DELAY_MS } from "./backoff.ts";
import type { Reservation } from "./conflicts.ts";
import { hold, needsOf, park, plant, readHolds, wake } from "./reservations.ts";
import { type Candidate, type Limits, RANKS, hasSlot, inOrder, schedule } from "./schedule.ts";
import { type QueueName, type TaskRow, changeState, taskBySeq } from "./task-row.ts";

/** Candidates that one transaction looks at, so that a storm of blocked tasks cannot hold up the writer. */
const MAX_EXAMINED = 2000;
const MAX_PAGE = 64;

export interface ClaimInput {
	queue: QueueName;
	epoch: number;
	limits: Limits;
	nowMs: number;
}

export interface ClaimResult {
	/** As they are now: running, with the token of this claim. */
	claimed: TaskRow[];
	/** When the next retry is due. */
	nextDueMs: number | null;
	/** There may be more to claim at once. */
	more: boolean;
}

export function claim(db: Sqlite, input: ClaimInput): ClaimResult {
	const { queue, limits, nowMs } = input;
	wakeRetries(db, queue, nowMs);
	const claimed: TaskRow[] = [];
	let running = countRunning(db, queue);
	let examined = 0;
	let page = limits.slots + limits.criticalSlots - running;
	let more = false;
	while (hasSlot(0, running, limits)) {
		const ranks = RANKS.filter((rank) => hasSlot(rank, running, limits));
		const line = readLine(db, queue, ranks, page, nowMs);
		if (line.length === 0) break;
		const keys = line.flatMap(({ needs }) => needs.map(({ key }) => key));
		const plan = schedule({ line, ...readHolds(db, queue, keys), running, limits, nowMs });
		for (const { candidate, on } of plan.park) park(db, candidate.seq, on, nowMs);
		for (const seq of plan.passed)
			db.query("UPDATE queue_task SET bypassed = bypassed + 1 WHERE seq = ?1").run(seq);
		for (const seq of plan.plant) plant(db, queue, seq, needsOf(taskBySeq(db, seq)));
		for (const { seq, needs } of plan.start) claimed.push(start(db, taskBySeq(db, seq), needs, input));
		// Who started or parked may have been what others were woken for.
		wake(
			db,
			queue,
			[...plan.start, ...plan.park.map(({ candidate }) => candidate)].flatMap(({ needs }) => needs),
		);
		running += plan.start.length;
		examined += plan.start.length + plan.park.length;
		more = examined >= MAX_EXAMINED;
		if (plan.full || more) break;
		page = Math.min(MAX_PAGE, page * 2);
	}
	return { claimed, nextDueMs: nextDue(db, queue), more };
}

function start(
	db: Sqlite,
	row: TaskRow,
	needs: readonly Reservation[],
	{ queue, epoch, nowMs }: ClaimInput,
): TaskRow {
	changeState(db, row, "running", {
		nowMs,
		token: row.token + 1,
		attempt: row.attempt + 1,
		epoch,
		progressed: 0,
		started_at_ms: nowMs,
		parked_at_ms: null,
		bypassed: 0,
	});
	hold(db, queue, row.seq, needs);
	return taskBySeq(db, row.seq);
}

/** The first `page` tasks of the line, by effective priority: the heads of each priority are enough to know them. */
function readLine(
	db: Sqlite,
	queue: QueueName,
	ranks: readonly number[],
	page: number,
	nowMs: number,
): Candidate[] {
	const head = db.query<
		{
			seq: number;
			rank: number;
			created_at_ms: number;
			reservations: string;
			parked_at_ms: number | null;
			bypassed: number;
		},
		[string, number, number]
	>(
		`SELECT seq, rank, created_at_ms, reservations, parked_at_ms, bypassed FROM queue_task INDEXED BY queue_ready
		WHERE queue = ?1 AND rank = ?2 AND state = 'pending' AND parked_on IS NULL ORDER BY seq LIMIT ?3`,
	);
	const heads = ranks
		.flatMap((rank) => head.all(queue, rank, page))
		.map((row) => ({
			seq: row.seq,
			rank: row.rank,
			createdAtMs: row.created_at_ms,
			needs: needsOf(row),
			parkedAtMs: row.parked_at_ms ?? undefined,
			bypassed: row.bypassed,
		}));
	return inOrder(heads, nowMs).slice(0, page);
}

function countRunning(db: Sqlite, queue: QueueName): number {
	const [{ count } = { count: 0 }] = db
		.query<{ count: number }, [string]>(
			"SELECT count(*) AS count FROM queue_task INDEXED BY queue_running WHERE queue = ?1 AND epoch IS NOT NULL",
		)
		.all(queue);
	return count;
}

/** Retries that are due go back to the line; one too far ahead was written before the wall clock was set back. */
function wakeRetries(db: Sqlite, queue: QueueName, nowMs: number): void {
	const query = (condition: string): TaskRow[] =>
		db
			.query<TaskRow, [string, number]>(
				`SELECT * FROM queue_task INDEXED BY queue_retry
				WHERE queue = ?1 AND run_at_ms IS NOT NULL AND ${condition} LIMIT ${MAX_EXAMINED}`,
			)
			.all(queue, nowMs);
	const due = [...query("run_at_ms <= ?2"), ...query(`run_at_ms > ?2 + ${LONGEST_DELAY_MS}`)];
	for (const row of due) changeState(db, row, "pending", { nowMs, run_at_ms: null, phase: "queued" });
}

function nextDue(db: Sqlite, queue: QueueName): number | null {
	const [row] = db
		.query<{ due: number | null }, [string]>(
			"SELECT min(run_at_ms) AS due FROM queue_task INDEXED BY queue_retry WHERE queue = ?1 AND run_at_ms IS NOT NULL",
		)
		.all(queue);
	return row?.due ?? null;
}
