/** The transaction that records a task, or finds the one that does the work already. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, type StoredError, invalid } from "../../schema/errors.ts";
import { type QueueName, type TaskRow, addEvent, findTask, taskBySeq } from "./task-row.ts";

const IDEMPOTENCY_TTL_MS = 24 * 60 * 60_000;
const QUEUE_FULL_RETRY_S = 30;
const MAX_DEPENDENCIES = 64;

export interface SubmitRow {
	queue: QueueName;
	taskId: string;
	type: string;
	model: string;
	rank: number;
	request: string;
	resources: string;
	reservations: string;
	dependencies: readonly string[];
	sizeBytes: number | null;
	joinKey: string | null;
	idempotency: { key: string; bodySha256: string } | null;
	maxAttempts: number;
	maxPending: number;
	nowMs: number;
}

export interface SubmitResult {
	taskId: string;
	seq: number;
	/** False when the task was there already. */
	created: boolean;
}

/** @throws 400 unknown_dependency, too_many_dependencies; 409 idempotency_mismatch; 424 dependency_failed; 503 queue_full */
export function submit(db: Sqlite, input: SubmitRow): SubmitResult {
	const known = sameKey(db, input) ?? join(db, input);
	if (known !== undefined) return { taskId: known.task_id, seq: known.seq, created: false };
	const dependencies = checkDependencies(db, input);
	refuseWhenFull(db, input);
	const open = dependencies.filter(({ state }) => state !== "completed");
	const state = open.length > 0 ? "blocked" : "pending";
	const { lastInsertRowid } = db
		.query(
			`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations, size_bytes,
				open_dependencies, join_key, max_attempts, phase, created_at_ms)
			VALUES ($queue, $taskId, $type, $model, $rank, $state, $request, $resources, $reservations, $sizeBytes,
				$open, $joinKey, $maxAttempts, 'queued', $nowMs)`,
		)
		.run({ ...columns(input), state, open: open.length });
	const seq = Number(lastInsertRowid);
	const insert = db.query("INSERT INTO queue_dependency (seq, depends_on) VALUES (?1, ?2)");
	for (const { seq: dependsOn } of dependencies) insert.run(seq, dependsOn);
	addEvent(db, { seq, from: null, to: state, attempt: 0, nowMs: input.nowMs });
	rememberKey(db, input, input.taskId);
	return { taskId: input.taskId, seq, created: true };
}

function columns({
	queue,
	taskId,
	type,
	model,
	rank,
	request,
	resources,
	reservations,
	sizeBytes,
	joinKey,
	maxAttempts,
	nowMs,
}: SubmitRow) {
	return {
		queue,
		taskId,
		type,
		model,
		rank,
		request,
		resources,
		reservations,
		sizeBytes,
		joinKey,
		maxAttempts,
		nowMs,
	};
}

/** The task that this Idempotency-Key made. */
function sameKey(db: Sqlite, { queue, idempotency, nowMs }: SubmitRow): TaskRow | undefined {
	if (idempotency === null) return undefined;
	db.query("DELETE FROM queue_idempotency WHERE expires_at_ms <= ?1").run(nowMs);
	const [row] = db
		.query<{ task_id: string; body_sha256: string }, [string, string]>(
			"SELECT task_id, body_sha256 FROM queue_idempotency WHERE queue = ?1 AND key = ?2",
		)
		.all(queue, idempotency.key);
	if (row === undefined) return undefined;
	if (row.body_sha256 !== idempotency.bodySha256) {
		throw new GswarmError(
			"CONFLICT",
			"The Idempotency-Key was used for another request within the last 24 hours.",
			{
				reason: "idempotency_mismatch",
				details: { task_id: row.task_id },
				hint: "Send a new key with a new request, or the same request again.",
			},
		);
	}
	return findTask(db, queue, row.task_id);
}

function rememberKey(db: Sqlite, { queue, idempotency, nowMs }: SubmitRow, taskId: string): void {
	if (idempotency === null) return;
	db.query(
		"INSERT OR REPLACE INTO queue_idempotency (queue, key, task_id, body_sha256, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
	).run(queue, idempotency.key, taskId, idempotency.bodySha256, nowMs + IDEMPOTENCY_TTL_MS);
}

/** A live task that does the same work gets one more waiter, and the more urgent priority of both. */
function join(db: Sqlite, input: SubmitRow): TaskRow | undefined {
	if (input.joinKey === null || input.dependencies.length > 0) return undefined;
	const [live] = db
		.query<{ seq: number }, [string, string]>(
			`SELECT seq FROM queue_task INDEXED BY queue_joinable
			WHERE queue = ?1 AND join_key = ?2 AND join_key IS NOT NULL AND completed_at_ms IS NULL AND state <> 'cancelling'
			ORDER BY seq LIMIT 1`,
		)
		.all(input.queue, input.joinKey);
	if (live === undefined) return undefined;
	db.query("UPDATE queue_task SET waiters = waiters + 1, rank = min(rank, ?2) WHERE seq = ?1").run(
		live.seq,
		input.rank,
	);
	const row = taskBySeq(db, live.seq);
	rememberKey(db, input, row.task_id);
	return row;
}

function checkDependencies(db: Sqlite, { queue, dependencies }: SubmitRow): TaskRow[] {
	const ids = [...new Set(dependencies)];
	if (ids.length > MAX_DEPENDENCIES) {
		throw invalid(
			"too_many_dependencies",
			`A task can depend on at most ${MAX_DEPENDENCIES} others; got ${ids.length}.`,
			{ field: "dependencies", limit: MAX_DEPENDENCIES },
		);
	}
	return ids.map((taskId) => {
		const row = findTask(db, queue, taskId);
		if (row === undefined) {
			throw invalid(
				"unknown_dependency",
				`The dependency ${JSON.stringify(taskId.slice(0, 200))} is not a task of this queue.`,
				{
					field: "dependencies",
					dependency: taskId.slice(0, 200),
				},
			);
		}
		if (row.state === "failed" || row.state === "cancelled") {
			throw new GswarmError(
				"DEPENDENCY_FAILED",
				`The dependency ${taskId} is ${row.state} already; nothing was queued.`,
				{
					reason: "dependency_failed",
					details: { dependency: taskId, root: rootOf(row) },
					hint: `\`gswarm queue show ${taskId}\` says why.`,
				},
			);
		}
		return row;
	});
}

/** The task whose own failure or cancellation began the chain that this one is part of. */
export function rootOf(row: Pick<TaskRow, "task_id" | "error">): string {
	const error = row.error === null ? undefined : (JSON.parse(row.error) as StoredError);
	const root = error?.code === "DEPENDENCY_FAILED" ? error.details["root"] : undefined;
	return typeof root === "string" ? root : row.task_id;
}

function refuseWhenFull(db: Sqlite, { queue, maxPending }: SubmitRow): void {
	const [{ pending } = { pending: 0 }] = db
		.query<{ pending: number }, [string]>(
			`SELECT coalesce(sum(count), 0) AS pending FROM queue_counter
			WHERE queue = ?1 AND state IN ('blocked', 'pending', 'retry_wait')`,
		)
		.all(queue);
	if (pending < maxPending) return;
	throw new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The queue is full: ${pending} tasks wait, and ${maxPending} may.`,
		{
			reason: "queue_full",
			details: { pending, limit: maxPending },
			retryable: true,
			retryAfterS: QUEUE_FULL_RETRY_S,
			hint: "Try again when some have finished; `gswarm queue status` shows how many wait.",
		},
	);
}
