/** Which person submitted which task, so that a user can cancel their own and nobody else's. */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import { identityModule } from "./token-store.ts";

/**
 * mine: submitted by this token. spent: it was, and was cancelled by it; a task that several people joined goes on
 * for the others.
 */
export type Ownership = "mine" | "spent" | "foreign";

export interface TaskOwners {
	/** A person submitted or joined a task; with the same Idempotency-Key it is one submission. */
	submitted(taskId: string, tokenId: string, idempotencyKey: string | null): Promise<void>;
	ownership(taskId: string, tokenId: string): Ownership;
	/** One submission of that person is cancelled. */
	cancelled(taskId: string, tokenId: string): Promise<void>;
}

export function createTaskOwners({ db, clock, ids }: { db: Database; clock: Clock; ids: Ids }): TaskOwners {
	const write = db.writer(identityModule);
	const submissions = db.read.query<{ cancelled: number }, [string, string]>(
		"SELECT cancelled FROM task_owner WHERE task_id = ?1 AND token_id = ?2",
	);
	return {
		async submitted(taskId, tokenId, idempotencyKey) {
			const submission = idempotencyKey === null ? `once:${ids.short(12)}` : `key:${idempotencyKey}`;
			await write.ownTask({ task_id: taskId, token_id: tokenId, submission, now: clock.nowMs() / 1000 });
		},
		ownership(taskId, tokenId) {
			const rows = submissions.all(taskId, tokenId);
			if (rows.length === 0) return "foreign";
			return rows.some((row) => row.cancelled === 0) ? "mine" : "spent";
		},
		async cancelled(taskId, tokenId) {
			await write.disownTask({ task_id: taskId, token_id: tokenId });
		},
	};
}
