/** The transaction that writes how an attempt ended, and takes the next tasks in the same commit. */
import type { Database as Sqlite } from "bun:sqlite";
import type { TaskPhase } from "../../schema/task.ts";
import { type ClaimInput, type ClaimResult, claim } from "./claim.ts";
import { endTask } from "./end.ts";
import { movingAverage } from "./estimate.ts";
import { release } from "./reservations.ts";
import { type Change, type TaskRow, changeState, staleToken, taskBySeq } from "./task-row.ts";

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
	/** The agent stops; the task goes back to the line as if it had not been started. */
	| { kind: "released" };

export interface SettleInput {
	seq: number;
	token: number;
	outcome: Outcome;
	phase: TaskPhase;
	bytesDone: number;
	bytesTotal: number;
	/** Bytes this attempt moved itself, and how long it took. */
	measured: { durationMs: number; bytes: number };
	nowMs: number;
	/** Left out when nothing more is to be started. */
	next: ClaimInput | null;
}

export interface SettleResult {
	changes: Change[];
	next: ClaimResult | null;
}

/** @throws CONFLICT stale_token when the task was taken from this attempt */
export function settle(db: Sqlite, input: SettleInput): SettleResult {
	const row = taskBySeq(db, input.seq);
	if (row.token !== input.token || row.epoch === null) throw staleToken(row.task_id);
	const changes = apply(db, row, input);
	return { changes, next: input.next === null ? null : claim(db, input.next) };
}

function apply(
	db: Sqlite,
	row: TaskRow,
	{ outcome, nowMs, measured, phase, bytesDone, bytesTotal }: SettleInput,
): Change[] {
	const progress = { nowMs, phase, bytes_done: bytesDone, bytes_total: bytesTotal };
	if (outcome.kind === "completed") {
		measure(db, row, measured);
		return endTask(db, row, "completed", { ...progress, result: outcome.result, error: null });
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
				reason: "shutdown",
			});
			release(db, row);
			return [change];
		}
	}
}

/** What tasks of this type take, for estimates. */
function measure(db: Sqlite, row: TaskRow, { durationMs, bytes }: SettleInput["measured"]): void {
	const [old] = db
		.query<{ duration_ms: number; rate_bytes_per_second: number; samples: number }, [string, string]>(
			"SELECT duration_ms, rate_bytes_per_second, samples FROM queue_measure WHERE queue = ?1 AND type = ?2",
		)
		.all(row.queue, row.type);
	const rate = durationMs > 0 ? (bytes / durationMs) * 1000 : 0;
	db.query(
		`INSERT OR REPLACE INTO queue_measure (queue, type, duration_ms, rate_bytes_per_second, samples)
		VALUES (?1, ?2, ?3, ?4, ?5)`,
	).run(
		row.queue,
		row.type,
		movingAverage(old?.duration_ms, durationMs),
		rate === 0
			? (old?.rate_bytes_per_second ?? 0)
			: movingAverage(old?.rate_bytes_per_second || undefined, rate),
		(old?.samples ?? 0) + 1,
	);
}
