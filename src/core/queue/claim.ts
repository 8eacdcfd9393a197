/** The transaction that takes the next tasks out of the line: the decision is `schedule`, the index names the candidates. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, toStoredError } from "../../schema/errors.ts";
import { LONGEST_DELAY_MS, LONGEST_SPACE_WAIT_MS, SHORTEST_SPACE_DELAY_MS } from "./backoff.ts";
import type { Capacity, Reservation } from "./conflicts.ts";
import { endTask } from "./end.ts";
import { hold, needsOf, park, plant, readHolds, unpark, wake, wakeForRoom } from "./reservations.ts";
import { type Candidate, type Limits, RANKS, type Waiter, hasSlot, inOrder, schedule } from "./schedule.ts";
import {
	type Change,
	type QueueName,
	type TaskRow,
	changeState,
	forEachQueue,
	param,
	quoted,
	stateText,
	taskBySeq,
	writeState,
} from "./task-row.ts";

/** Candidates that one transaction looks at, so that a storm of blocked tasks cannot hold up the writer. */
const MAX_EXAMINED = 2000;
const MAX_PAGE = 64;

export interface ClaimInput {
	queue: QueueName;
	epoch: number;
	limits: Limits;
	/** False: what tasks need of devices is neither looked at nor taken. */
	tracksDevices: boolean;
	/** Bytes that tasks may hold together now. */
	capacity: Capacity;
	nowMs: number;
}

export interface ClaimResult {
	/** As they are now: running, with the token of this claim. */
	claimed: ClaimedRow[];
	/** Of retries that came due, and of tasks that waited too long for room; all of them before the claims. */
	changes: Change[];
	/** When the next claim is due, if nothing else calls for one: a retry, or another look for room. */
	nextDueMs: number | null;
	/** There may be more to claim at once. */
	more: boolean;
}

/** What an attempt needs to know of its row. */
export type ClaimedRow = Pick<
	TaskRow,
	| "seq"
	| "task_id"
	| "type"
	| "model"
	| "rank"
	| "request"
	| "attempt"
	| "max_attempts"
	| "token"
	| "space_wait_since_ms"
	| "phase"
	| "bytes_done"
	| "bytes_total"
	| "checkpoint"
	| "operation_id"
	| "fence_epoch"
	| "fence_n"
	| "resources"
	| "created_at_ms"
	| "started_at_ms"
> & {
	/** Of the event of this claim. */
	event_id: number;
	/** 1: it depends on nothing and does no other task again, so that its row has its whole document. */
	stands_alone: number;
};

/** @throws CONFLICT stale_epoch when the queue was opened again since */
export function claim(db: Sqlite, input: ClaimInput): ClaimResult {
	const { queue, limits, capacity, nowMs } = input;
	const standing = readStanding(db, queue);
	refuseStaleEpoch(standing, input);
	const changes = wakeRetries(db, queue, standing, nowMs);
	const stuck = standing.parked === 1 ? wakeForRoom(db, queue, capacity) : [];
	for (const waiter of stuck) changes.push(...giveUpOnRoom(db, waiter, input));
	const claimed: ClaimedRow[] = [];
	let { running } = standing;
	let examined = 0;
	let page = limits.slots + limits.criticalSlots - running;
	let more = false;
	// After most completions nobody is there, and nobody has come back.
	const isEmpty = standing.line === 0 && standing.parked === 0 && changes.length === 0;
	while (!isEmpty && hasSlot(0, running, limits)) {
		const ranks = RANKS.filter((rank) => hasSlot(rank, running, limits));
		const line = readLine(db, input, ranks, page);
		if (line.length === 0) break;
		const keys = line.flatMap(({ needs }) => needs.map(({ key }) => key));
		const plan = schedule({ line, ...readHolds(db, queue, keys), capacity, running, limits, nowMs });
		for (const { candidate, on } of plan.park) park(db, candidate.seq, on, nowMs);
		for (const seq of plan.passed)
			db.query("UPDATE queue_task SET bypassed = bypassed + 1 WHERE seq = ?1").run(seq);
		for (const seq of plan.plant) plant(db, queue, seq, needsOf(taskBySeq(db, seq), input.tracksDevices));
		for (const { row: waiting, needs } of plan.start) {
			claimed.push(start(db, waiting, needs, input).row);
		}
		// Who started or parked may have been what others were woken for.
		wake(
			db,
			queue,
			[...plan.start, ...plan.park.map(({ candidate }) => candidate)].flatMap(({ needs }) => needs),
		);
		// Only after a start: one that fits and is parked again would be woken for ever.
		if (!plan.start.every(needsNothing)) wakeForRoom(db, queue, capacity);
		running += plan.start.length;
		examined += plan.start.length + plan.park.length;
		more = examined >= MAX_EXAMINED;
		const nobodyWoken = plan.park.length === 0 && plan.start.every(needsNothing);
		// Nobody is behind them, or nobody who has a slot. Who was woken may be critical, and has one of its own.
		const wasAll = line.length < page || plan.full;
		if (more || (wasAll && nobodyWoken)) break;
		page = Math.min(MAX_PAGE, page * 2);
	}
	const nextLookMs = stuck.length > 0 ? [nowMs + SHORTEST_SPACE_DELAY_MS] : [];
	const { firstDueMs } = changes.length > 0 ? readStanding(db, queue) : standing;
	const dueMs = firstDueMs === null ? nextLookMs : [...nextLookMs, firstDueMs];
	return { claimed, changes, nextDueMs: dueMs.length === 0 ? null : Math.min(...dueMs), more };
}

function needsNothing({ needs }: Candidate): boolean {
	return needs.length === 0;
}

/** What a claim must know before it looks at the line. */
interface Standing {
	/** Of the process that opened the queue last. */
	epoch: number | null;
	running: number;
	/** The first and the last time at which a retry is due; null when there is none. */
	firstDueMs: number | null;
	lastDueMs: number | null;
	/** 1 when anybody is in line, and when anybody is parked. */
	line: number;
	parked: number;
}

function readStanding(db: Sqlite, queue: QueueName): Standing {
	const [standing] = db.query<Standing, []>(STANDING[queue]).all();
	if (standing === undefined) throw new Error("a query without a table gives one row");
	return standing;
}

const STANDING = forEachQueue((queue) => {
	const due = (which: "min" | "max"): string =>
		`(SELECT ${which}(run_at_ms) FROM queue_task INDEXED BY queue_retry WHERE queue = ${queue} AND run_at_ms IS NOT NULL)`;
	return `SELECT (SELECT epoch FROM queue_epoch WHERE queue = ${queue}) AS epoch,
		(SELECT count(*) FROM queue_task INDEXED BY queue_running WHERE queue = ${queue} AND epoch IS NOT NULL) AS running,
		${due("min")} AS firstDueMs, ${due("max")} AS lastDueMs,
		EXISTS (SELECT 1 FROM queue_task INDEXED BY queue_ready WHERE queue = ${queue} AND state = 'pending'
			AND parked_on IS NULL) AS line,
		EXISTS (SELECT 1 FROM queue_task INDEXED BY queue_parked WHERE queue = ${queue} AND parked_on IS NOT NULL) AS parked`;
});

/** A process that was taken for dead must not take tasks that nobody would ever give back. */
function refuseStaleEpoch(now: Standing, { queue, epoch }: ClaimInput): void {
	if (now.epoch === epoch) return;
	throw new GswarmError(
		"CONFLICT",
		"Another process works on this queue now; this one starts nothing more.",
		{
			reason: "stale_epoch",
			details: { queue, epoch, now: now.epoch },
		},
	);
}

type Starting = Omit<ClaimedRow, "started_at_ms" | "event_id"> & Pick<TaskRow, "state">;

/** A task that gave its place in line, with what an attempt must know of it. */
type InLine = Candidate & { row: Starting };
type LineRow = Starting & Pick<TaskRow, "reservations" | "parked_at_ms" | "bypassed">;

function start(
	db: Sqlite,
	row: Starting,
	needs: readonly Reservation[],
	{ queue, epoch, nowMs }: Pick<ClaimInput, "queue" | "epoch" | "nowMs">,
): { row: ClaimedRow; change: Change } {
	const [token, attempt] = [row.token + 1, row.attempt + 1];
	const change = writeState(db, row, "running", {
		sql: START,
		values: [epoch, nowMs],
		attempt,
		nowMs,
		reason: null,
	});
	hold(db, queue, row.seq, needs);
	return { row: claimedRow(row, { token, attempt, nowMs, eventId: change.eventId }), change };
}

/** The token rises in the row itself: whatever was read, no claim can leave one that is not above all before. */
const START = stateText(
	"token = token + 1, attempt = attempt + 1, epoch = ?5, started_at_ms = ?6, progressed = 0, parked_at_ms = NULL, bypassed = 0",
);

/** What a claim says of a task that it started, as the transaction did not say it beside the row. */
export function startedChange(row: ClaimedRow): Change {
	return {
		eventId: row.event_id,
		seq: row.seq,
		taskId: row.task_id,
		type: row.type,
		model: row.model,
		rank: row.rank,
		from: "pending",
		state: "running",
		attempt: row.attempt,
		reason: null,
		atMs: row.started_at_ms ?? 0,
	};
}

function claimedRow(
	row: Starting,
	{ token, attempt, nowMs, eventId }: { token: number; attempt: number; nowMs: number; eventId: number },
): ClaimedRow {
	return {
		seq: row.seq,
		task_id: row.task_id,
		type: row.type,
		model: row.model,
		rank: row.rank,
		request: row.request,
		attempt,
		max_attempts: row.max_attempts,
		token,
		space_wait_since_ms: row.space_wait_since_ms,
		phase: row.phase,
		bytes_done: row.bytes_done,
		bytes_total: row.bytes_total,
		checkpoint: row.checkpoint,
		operation_id: row.operation_id,
		fence_epoch: row.fence_epoch,
		fence_n: row.fence_n,
		resources: row.resources,
		created_at_ms: row.created_at_ms,
		started_at_ms: nowMs,
		event_id: eventId,
		stands_alone: row.stands_alone,
	};
}

/** The first `page` tasks of the line, by effective priority: the heads of each priority are enough to know them. */
function readLine(
	db: Sqlite,
	{ queue, tracksDevices, nowMs }: ClaimInput,
	ranks: readonly number[],
	page: number,
): InLine[] {
	const heads = LINES[queue].filter((_, rank) => ranks.includes(rank));
	const line = db
		.query<LineRow, [number]>(heads.length === RANKS.length ? WHOLE_LINES[queue] : heads.join(" UNION ALL "))
		.all(page)
		.map((row) => ({
			seq: row.seq,
			rank: row.rank,
			createdAtMs: row.created_at_ms,
			needs: needsOf(row, tracksDevices),
			parkedAtMs: row.parked_at_ms ?? undefined,
			bypassed: row.bypassed,
			row,
		}));
	return inOrder(line, nowMs).slice(0, page);
}

/** The line of each priority. */
const LINES = forEachQueue((queue) =>
	RANKS.map(
		(rank) =>
			`SELECT * FROM (SELECT seq, task_id, type, model, rank, state, request, attempt, max_attempts, token,
				space_wait_since_ms, phase, bytes_done, bytes_total, checkpoint, operation_id, fence_epoch, fence_n,
				resources, created_at_ms, reservations, parked_at_ms, bypassed,
				retry_of IS NULL AND NOT EXISTS (SELECT 1 FROM queue_dependency d WHERE d.seq = queue_task.seq) AS stands_alone
				FROM queue_task INDEXED BY queue_ready WHERE queue = ${queue} AND rank = ${rank}
				AND state = 'pending' AND parked_on IS NULL ORDER BY seq LIMIT ${param(1)})`,
	),
);
const WHOLE_LINES = { node: LINES.node.join(" UNION ALL "), host: LINES.host.join(" UNION ALL ") };

/** Retries that are due go back to the line; one too far ahead was written before the wall clock was set back. */
function wakeRetries(
	db: Sqlite,
	queue: QueueName,
	{ firstDueMs, lastDueMs }: Standing,
	nowMs: number,
): Change[] {
	if (firstDueMs === null || lastDueMs === null) return [];
	const tooFarMs = nowMs + LONGEST_DELAY_MS;
	if (firstDueMs > nowMs && lastDueMs <= tooFarMs) return [];
	const query = (condition: string, atMs: number): TaskRow[] =>
		db
			.query<TaskRow, [number]>(
				`SELECT * FROM queue_task INDEXED BY queue_retry WHERE queue = ${quoted(queue)} AND run_at_ms IS NOT NULL
				AND run_at_ms ${condition} ${param(1)} ORDER BY run_at_ms LIMIT ${MAX_EXAMINED}`,
			)
			.all(atMs);
	return [...query("<=", nowMs), ...query(">", tooFarMs)].map((row) =>
		changeState(db, row, "pending", { nowMs, run_at_ms: null, phase: "queued" }),
	);
}

/** A task that waited an hour for room is started and ended in one step: it had its turn, and there was none. */
function giveUpOnRoom(
	db: Sqlite,
	{ seq, key, bytes }: Waiter,
	{ queue, epoch, capacity, nowMs }: ClaimInput,
): Change[] {
	const row = taskBySeq(db, seq);
	const sinceMs = row.space_wait_since_ms ?? nowMs;
	if (nowMs - sinceMs < LONGEST_SPACE_WAIT_MS) return [];
	const error = noRoom(row.task_id, key, bytes, capacity[key] ?? 0);
	unpark(db, seq);
	const { change } = start(db, { ...row, stands_alone: 0 }, [], { queue, epoch, nowMs });
	const ended = endTask(db, taskBySeq(db, seq), "failed", {
		nowMs,
		error: JSON.stringify(toStoredError(error)),
		reason: error.reason ?? null,
	});
	return [change, ...ended];
}

function noRoom(taskId: string, key: string, required: number, available: number): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${taskId} waited an hour for ${required} bytes on ${key.replace(/^bytes:/, "")}; ${available} are there for tasks.`,
		{
			reason: "insufficient_space",
			status: 507,
			details: { required, available, device: key.replace(/^bytes:/, "") },
			hint: "Make room there, then `gswarm queue retry` it.",
		},
	);
}
