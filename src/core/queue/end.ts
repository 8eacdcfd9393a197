/** What follows the end of a task, inside the transaction that ends it. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, type StoredError, toStoredError } from "../../schema/errors.ts";
import type { TaskPhase, TaskState } from "../../schema/task.ts";
import { release } from "./reservations.ts";
import {
	type Change,
	type ChangingRow,
	type RowChange,
	type TaskRow,
	changeState,
	param,
	stateText,
	taskBySeq,
	writeState,
} from "./task-row.ts";

type TerminalState = Extract<TaskState, "completed" | "failed" | "cancelled">;

/** What the end of a task must know of its row. */
export type EndingRow = ChangingRow & Pick<TaskRow, "queue" | "reservations">;

/**
 * Ends a task: gives back its reservations, and frees or fails those that depend on it. The answer names every task
 * whose state changed, this one first.
 */
export function endTask(
	db: Sqlite,
	row: EndingRow,
	to: TerminalState,
	change: RowChange & { nowMs: number; reason?: string | null },
): Change[] {
	const left = row.state === "pending" ? { parked_on: null, parked_mode: null, parked_bytes: 0 } : {};
	const ended = changeState(db, row, to, {
		epoch: null,
		run_at_ms: null,
		completed_at_ms: change.nowMs,
		...left,
		...change,
	});
	release(db, row);
	const others =
		to === "completed" ? freeDependents(db, row, change.nowMs) : failDependents(db, row, to, change.nowMs);
	return [ended, ...others];
}

/** endTask for the end that most tasks have. */
export function completeTask(
	db: Sqlite,
	row: EndingRow & { has_dependents: number },
	end: { nowMs: number; phase: TaskPhase; bytesDone: number; bytesTotal: number; result: string | null },
): Change[] {
	const { nowMs, phase, bytesDone, bytesTotal, result } = end;
	const ended = writeState(db, row, "completed", {
		sql: COMPLETE,
		values: [nowMs, phase, bytesDone, bytesTotal, result],
		attempt: row.attempt,
		nowMs,
		reason: null,
	});
	release(db, row);
	return row.has_dependents === 0 ? [ended] : [ended, ...freeDependents(db, row, nowMs)];
}

const COMPLETE = stateText(
	"completed_at_ms = ?5, phase = ?6, bytes_done = ?7, bytes_total = ?8, result = ?9, epoch = NULL, error = NULL",
);

function freeDependents(db: Sqlite, row: EndingRow, nowMs: number): Change[] {
	return blockedBy(db, row.seq).flatMap((dependent) => completedOne(db, dependent, nowMs));
}

/** One of those that a blocked task waits for has completed. */
export function completedOne(db: Sqlite, dependent: TaskRow, nowMs: number): Change[] {
	const open = dependent.open_dependencies - 1;
	if (open === 0) return [changeState(db, dependent, "pending", { nowMs, open_dependencies: 0 })];
	db.query("UPDATE queue_task SET open_dependencies = ?2 WHERE seq = ?1").run(dependent.seq, open);
	return [];
}

/** Why a dependent fails: which one it waited for, and the task that began it. */
interface Cause {
	dependency: string;
	root: string;
	/** What became of the root. */
	how: TerminalState;
	nowMs: number;
}

/** Transitively: a dependent of a dependent fails too, and each names the task that began it. */
function failDependents(db: Sqlite, root: EndingRow, how: TerminalState, nowMs: number): Change[] {
	return dependentsFail(db, [root], { root: root.task_id, how, nowMs });
}

/** Fails a blocked task, and with it those that depend on it. */
export function failDependent(db: Sqlite, row: TaskRow, cause: Cause): Change[] {
	return [failed(db, row, cause), ...dependentsFail(db, [row], cause)];
}

function dependentsFail(
	db: Sqlite,
	causes: readonly EndingRow[],
	cause: Omit<Cause, "dependency">,
): Change[] {
	const changes: Change[] = [];
	let ended = causes;
	while (ended.length > 0) {
		const next: EndingRow[] = [];
		for (const { seq, task_id: dependency } of ended) {
			for (const dependent of blockedBy(db, seq)) {
				changes.push(failed(db, dependent, { ...cause, dependency }));
				next.push(dependent);
			}
		}
		ended = next;
	}
	return changes;
}

function failed(db: Sqlite, row: TaskRow, { dependency, root, how, nowMs }: Cause): Change {
	return changeState(db, row, "failed", {
		nowMs,
		completed_at_ms: nowMs,
		error: JSON.stringify(dependencyFailed(dependency, root, how)),
		reason: "dependency_failed",
	});
}

/** Those that wait for this task, the oldest first. */
function blockedBy(db: Sqlite, seq: number): TaskRow[] {
	return db
		.query<{ seq: number }, [number]>(
			`SELECT seq FROM queue_dependency INDEXED BY queue_dependent WHERE depends_on = ${param(1)} ORDER BY seq`,
		)
		.all(seq)
		.map((dependent) => taskBySeq(db, dependent.seq))
		.filter(({ state }) => state === "blocked");
}

function dependencyFailed(dependency: string, root: string, how: TerminalState): StoredError {
	return toStoredError(
		new GswarmError(
			"DEPENDENCY_FAILED",
			`It depends on ${root}, which ${how === "failed" ? "failed" : "was cancelled"}.`,
			{
				reason: "dependency_failed",
				details: { dependency, root },
				hint: `\`gswarm queue show ${root}\` says why.`,
			},
		),
	);
}
