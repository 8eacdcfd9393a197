/** The transaction that writes how an attempt ended. The claim that follows it in the same turn is in the same commit. */
import type { Database as Sqlite } from "bun:sqlite";
import type { TaskPhase } from "../../schema/task.ts";
import type { Reservation } from "./conflicts.ts";
import { type EndingRow, completeTask, endTask } from "./end.ts";
import type { Measure } from "./estimate.ts";
import { release } from "./reservations.ts";
import { withNeed } from "./reserve-more.ts";
import { type Change, type TaskRow, changeState, staleToken } from "./task-row.ts";

/** How an attempt ended. */
export type Outcome =
	| { kind: "completed"; result: string | null }
	| { kind: "failed"; error: string; reason: string | null }
	| { kind: "cancelled" }
	/** Again later; `counts` is false when the attempt is given back. */
	| {
			kind: "retry";
			error: string;
			reason: string | null;
			runAtMs: number;
			counts: boolean;
			spaceWaitSinceMs: number | null;
	  }
	/** The agent stops, or others leave too little room: back to the line as if it had not been started. */
	| { kind: "released"; reason: "shutdown" }
	/** The next claim takes what it needs with all the rest, or parks it on that. */
	| { kind: "released"; reason: "no_room_now"; need: Reservation | undefined };

export interface SettleInput {
	seq: number;
	token: number;
	outcome: Outcome;
	phase: TaskPhase;
	bytesDone: number;
	bytesTotal: number;
	/** What tasks of this type take, with this one; null when it did not complete. */
	measure: Measure | null;
	nowMs: number;
}

/** @throws CONFLICT stale_token when the task was taken from this attempt */
export function settle(db: Sqlite, input: SettleInput): Change[] {
	const row = settlingRow(db, input.seq);
	if (row.token !== input.token || row.epoch === null) throw staleToken(row.task_id);
	if (input.measure !== null) keepMeasure(db, row, input.measure);
	return apply(db, row, input);
}

/** What the end of an attempt must know of its row. */
type SettlingRow = EndingRow & Pick<TaskRow, "epoch"> & { has_dependents: number };

function settlingRow(db: Sqlite, seq: number): SettlingRow {
	const [row] = db
		.query<SettlingRow, [number]>(
			`SELECT seq, queue, task_id, type, model, rank, state, token, attempt, reservations, epoch,
				EXISTS (SELECT 1 FROM queue_dependency INDEXED BY queue_dependent WHERE depends_on = ?1) AS has_dependents
			FROM queue_task WHERE seq = ?1`,
		)
		.all(seq);
	if (row === undefined) throw new Error(`no task with seq ${seq}`);
	return row;
}

function apply(
	db: Sqlite,
	row: SettlingRow,
	{ outcome, nowMs, phase, bytesDone, bytesTotal }: SettleInput,
): Change[] {
	const progress = { nowMs, phase, bytes_done: bytesDone, bytes_total: bytesTotal };
	if (outcome.kind === "completed") {
		return completeTask(db, row, { nowMs, phase, bytesDone, bytesTotal, result: outcome.result });
	}
	// A cancel that came while the attempt failed by itself is a cancel all the same.
	if (outcome.kind === "cancelled" || row.state === "cancelling") {
		return endTask(db, row, "cancelled", { ...progress, error: null });
	}
	switch (outcome.kind) {
		case "failed":
			return endTask(db, row, "failed", {
				...progress,
				error: outcome.error,
				reason: outcome.reason,
			});
		case "retry": {
			const change = changeState(db, row, "retry_wait", {
				...progress,
				phase: "waiting",
				epoch: null,
				attempt: outcome.counts ? row.attempt : row.attempt - 1,
				run_at_ms: outcome.runAtMs,
				space_wait_since_ms: outcome.spaceWaitSinceMs,
				error: outcome.error,
				reason: outcome.reason,
			});
			release(db, row);
			return [change];
		}
		case "released": {
			const change = changeState(db, row, "pending", {
				...progress,
				phase: "queued",
				epoch: null,
				attempt: row.attempt - 1,
				reason: outcome.reason,
			});
			release(db, row);
			if (outcome.reason === "no_room_now" && outcome.need !== undefined)
				db.query("UPDATE queue_task SET reservations = ?2 WHERE seq = ?1").run(
					row.seq,
					withNeed(row, outcome.need),
				);
			return [change];
		}
	}
}

/** For estimates, also of the process that comes after this one. */
function keepMeasure(
	db: Sqlite,
	{ queue }: SettlingRow,
	{ type, durationMs, rateBytesPerSecond, samples }: Measure,
): void {
	db.query(
		`INSERT OR REPLACE INTO queue_measure (queue, type, duration_ms, rate_bytes_per_second, samples)
		VALUES (?1, ?2, ?3, ?4, ?5)`,
	).run(queue, type, durationMs, rateBytesPerSecond, samples);
}
