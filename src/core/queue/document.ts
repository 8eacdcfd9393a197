/** A task as the API shows it, made from its row and, while it runs, from its live progress. */
import { shownSource } from "../../platform/outbound-guard.ts";
import type { StoredError } from "../../schema/errors.ts";
import { type TaskDocument, type TaskPhase, taskStatus } from "../../schema/task.ts";
import { NO_RESOURCES } from "./insert.ts";
import type { ProgressMeter } from "./progress.ts";
import type { TaskReader } from "./task-reader.ts";
import type { SubmitInput } from "./submission.ts";
import { type TaskRow, rankPriority } from "./task-row.ts";

export interface Shown {
	node: string;
	reader: TaskReader;
	/** How many tasks run now, and how many may; for what a task in line waits for. */
	running: number;
	slots: number;
	/** Monotonic. */
	nowMs: number;
}

/** What a document is made of. */
export type ShownRow = Pick<
	TaskRow,
	| "seq"
	| "task_id"
	| "type"
	| "rank"
	| "state"
	| "resources"
	| "phase"
	| "bytes_done"
	| "bytes_total"
	| "attempt"
	| "max_attempts"
	| "created_at_ms"
	| "started_at_ms"
	| "completed_at_ms"
	| "request"
	| "result"
	| "error"
	| "epoch"
	| "run_at_ms"
	| "space_wait_since_ms"
	| "parked_on"
	| "retry_of"
> & { has_dependencies?: number };

export function toDocument(row: ShownRow, meter: ProgressMeter | undefined, shown: Shown): TaskDocument {
	const dependencies = row.has_dependencies === 0 ? [] : shown.reader.dependencies(row.seq);
	return {
		task_id: row.task_id,
		seq: row.seq,
		task_type: row.type,
		priority: rankPriority(row.rank),
		dependencies: dependencies.map(({ task_id }) => task_id),
		resources: JSON.parse(row.resources) as TaskDocument["resources"],
		status: taskStatus(row.state),
		phase: meter?.phase ?? phaseOf(row),
		progress: meter?.snapshot(shown.nowMs) ?? {
			bytes_done: row.bytes_done,
			bytes_total: row.bytes_total,
			rate_bytes_per_s: 0,
			eta_s: null,
		},
		attempt: row.attempt,
		max_attempts: row.max_attempts,
		node: shown.node,
		created_at: row.created_at_ms / 1000,
		started_at: seconds(row.started_at_ms),
		completed_at: seconds(row.completed_at_ms),
		waiting_for: meter === undefined ? waitingFor(row, dependencies, shown) : meter.waitingFor,
		request: shownRequest(JSON.parse(row.request) as Record<string, unknown>),
		result: row.result === null ? null : (JSON.parse(row.result) as Record<string, unknown>),
		error: row.error === null ? null : (JSON.parse(row.error) as StoredError),
		retry_of: row.retry_of === null ? null : shown.reader.idOf(row.retry_of),
		retried_as: row.state === "failed" || row.state === "cancelled" ? shown.reader.retriedAs(row.seq) : null,
	};
}

/**
 * The row has the whole address, which a restart needs; who reads tasks does not need what signs it, nor `forward`, which
 * says the same once more as another agent is sent it.
 */
function shownRequest({ forward: _forward, ...request }: Record<string, unknown>): Record<string, unknown> {
	const { source_url: source } = request;
	return typeof source === "string" ? { ...request, source_url: shownSource(source) } : request;
}

/** The document of a task that was put in line just now and depends on nothing: nobody has to read its row for that. */
export function newDocument(
	input: SubmitInput,
	{
		taskId,
		seq,
		node,
		maxAttempts,
		nowMs,
	}: { taskId: string; seq: number; node: string; maxAttempts: number; nowMs: number },
): TaskDocument {
	return {
		task_id: taskId,
		seq,
		task_type: input.type,
		priority: input.priority,
		dependencies: [],
		resources: input.resources ?? NO_RESOURCES,
		status: "pending",
		phase: "queued",
		progress: { bytes_done: 0, bytes_total: 0, rate_bytes_per_s: 0, eta_s: null },
		attempt: 0,
		max_attempts: maxAttempts,
		node,
		created_at: nowMs / 1000,
		started_at: null,
		completed_at: null,
		waiting_for: null,
		request: shownRequest(input.request),
		result: null,
		error: null,
		retry_of: null,
		retried_as: null,
	};
}

function phaseOf({ state, phase }: ShownRow): TaskPhase {
	if (state === "blocked" || state === "retry_wait") return "waiting";
	if (state === "completed") return phase === "ready" ? "ready" : "done";
	return phase;
}

/** What keeps a waiting task from running, in words; null when nothing does but its turn, or when it does not wait. */
function waitingFor(
	row: ShownRow,
	dependencies: ReturnType<TaskReader["dependencies"]>,
	{ reader, running, slots }: Shown,
): string | null {
	switch (row.state) {
		case "blocked":
			return `dependencies: ${dependencies
				.filter(({ state }) => state !== "completed")
				.map(({ task_id, state }) => `${task_id} (${taskStatus(state)})`)
				.join(", ")}`;
		case "retry_wait": {
			const error = row.error === null ? undefined : (JSON.parse(row.error) as StoredError);
			const at = new Date(row.run_at_ms ?? 0).toISOString();
			const what = row.space_wait_since_ms === null ? "the next attempt" : "room";
			return `${what} at ${at}${error === undefined ? "" : `, after: ${error.message}`}`;
		}
		case "pending": {
			if (row.parked_on !== null) {
				const holders = reader.holders(row.parked_on, row.seq);
				return `${row.parked_on}${holders.length === 0 ? "" : `, held by ${holders.join(", ")}`}`;
			}
			return running >= slots ? `a free slot: ${running} tasks run, and ${slots} may` : null;
		}
		case "running":
		case "cancelling":
		case "completed":
		case "failed":
		case "cancelled":
			return null;
	}
}

function seconds(ms: number | null): number | null {
	return ms === null ? null : ms / 1000;
}
