/** Idempotency-Keys: what a key made within a day, and that it stands for the same request. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import type { QueueName } from "./task-row.ts";

const IDEMPOTENCY_TTL_MS = 24 * 60 * 60_000;

export interface IdempotencyKey {
	key: string;
	bodySha256: string;
}

/** The task that this key made; of a batch the first. @throws 409 idempotency_mismatch */
export function madeByKey(
	db: Sqlite,
	queue: QueueName,
	{ key, bodySha256 }: IdempotencyKey,
	nowMs: number,
): string | undefined {
	const [row] = db
		.query<{ task_id: string; body_sha256: string }, [string, string, number]>(
			"SELECT task_id, body_sha256 FROM queue_idempotency WHERE queue = ?1 AND key = ?2 AND expires_at_ms > ?3",
		)
		.all(queue, key, nowMs);
	if (row === undefined) return undefined;
	if (row.body_sha256 === bodySha256) return row.task_id;
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

export function rememberKey(
	db: Sqlite,
	queue: QueueName,
	{ key, bodySha256 }: IdempotencyKey,
	{ taskId, nowMs }: { taskId: string; nowMs: number },
): void {
	db.query(
		"INSERT OR REPLACE INTO queue_idempotency (queue, key, task_id, body_sha256, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
	).run(queue, key, taskId, bodySha256, nowMs + IDEMPOTENCY_TTL_MS);
}
