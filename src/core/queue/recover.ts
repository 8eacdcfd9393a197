/**
 * The transaction of an open: a new epoch, and every task that an older one left running is given back at once.
 * A death without any progress since the claim counts as an attempt; the third fails the task, so that one task that
 * kills the agent cannot keep it from ever working.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, toStoredError } from "../../schema/errors.ts";
import { endTask } from "./end.ts";
import { forgetRoom, release } from "./reservations.ts";
import { type Change, type QueueName, type TaskRow, changeState } from "./task-row.ts";

const MAX_CRASHES = 3;

export interface RecoverInput {
	queue: QueueName;
	/** Tasks of which a journal elsewhere shows progress since their claim. */
	progressed: readonly string[];
	/** An epoch that was given out before, whatever this database says: it may be an old one. */
	above: number;
	nowMs: number;
}

export interface RecoverResult {
	epoch: number;
	/** In the order of submission; those that failed with a dependency come after it. */
	changes: Change[];
}

export function recover(db: Sqlite, { queue, progressed, above, nowMs }: RecoverInput): RecoverResult {
	const [{ epoch } = { epoch: 1 }] = db
		.query<{ epoch: number }, [string, number]>(
			`INSERT INTO queue_epoch (queue, epoch) VALUES (?1, ?2 + 1)
			ON CONFLICT DO UPDATE SET epoch = max(epoch, ?2) + 1 RETURNING epoch`,
		)
		.all(queue, above);
	forgetRoom(db, queue);
	const changes = orphans(db, queue).flatMap((row) =>
		giveBack(db, row, row.progressed === 1 || progressed.includes(row.task_id), nowMs),
	);
	return { epoch, changes };
}

/** Tasks that a process of an older epoch was running. */
export function orphans(db: Sqlite, queue: QueueName): TaskRow[] {
	return db
		.query<TaskRow, [string]>(
			"SELECT * FROM queue_task INDEXED BY queue_running WHERE queue = ?1 AND epoch IS NOT NULL ORDER BY seq",
		)
		.all(queue);
}

function giveBack(db: Sqlite, row: TaskRow, progressed: boolean, nowMs: number): Change[] {
	if (row.state === "cancelling") return endTask(db, row, "cancelled", { nowMs, reason: "crash" });
	const crashes = progressed ? row.crashes : row.crashes + 1;
	const attempt = progressed ? row.attempt - 1 : row.attempt;
	if (crashes >= MAX_CRASHES) return fail(db, row, crashes, poison(row.task_id, crashes), nowMs);
	if (attempt >= row.max_attempts) return fail(db, row, crashes, outOfAttempts(row), nowMs);
	const change = changeState(db, row, "pending", {
		nowMs,
		reason: "crash",
		phase: "queued",
		epoch: null,
		crashes,
		attempt,
	});
	release(db, row);
	return [change];
}

function fail(db: Sqlite, row: TaskRow, crashes: number, error: GswarmError, nowMs: number): Change[] {
	return endTask(db, row, "failed", {
		nowMs,
		crashes,
		error: JSON.stringify(toStoredError(error)),
		reason: error.reason ?? null,
	});
}

function poison(taskId: string, crashes: number): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`The agent died ${crashes} times while it ran ${taskId}, without any progress in between.`,
		{
			reason: "poison",
			details: { crashes },
			hint: "The agent's log and the kernel's (out of memory?) say why it died; submit the task again when that is solved.",
		},
	);
}

function outOfAttempts({ task_id, max_attempts }: TaskRow): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`The agent died while it ran the last of ${max_attempts} attempts of ${task_id}.`,
		{
			reason: "attempts_exhausted",
			details: { max_attempts },
		},
	);
}
