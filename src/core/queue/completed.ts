/**
 * Tasks that this process has just completed, for those who waited for them: finished rows never change, and so nobody
 * has to read one of them to know what is in it.
 */
import type { ClaimedRow } from "./claim.ts";
import type { ShownRow } from "./document.ts";
import type { SettleInput } from "./settle.ts";
import type { Change } from "./task-row.ts";

/** Who waits asks at once; later the database answers. */
const MAX_KEPT = 256;

export class CompletedTasks {
	readonly #rows = new Map<string, ShownRow>();

	/** A settlement is committed. Only of a completed task that stands alone the row is known whole. */
	settled(
		row: ClaimedRow,
		{ outcome, phase, bytesDone, bytesTotal, nowMs }: SettleInput,
		change: Change,
	): void {
		if (outcome.kind !== "completed" || row.stands_alone === 0) return;
		this.#rows.set(row.task_id, {
			seq: row.seq,
			task_id: row.task_id,
			type: row.type,
			// A submit that joined it may have raised it meanwhile.
			rank: change.rank,
			state: "completed",
			resources: row.resources,
			phase,
			bytes_done: bytesDone,
			bytes_total: bytesTotal,
			attempt: row.attempt,
			max_attempts: row.max_attempts,
			created_at_ms: row.created_at_ms,
			started_at_ms: row.started_at_ms,
			completed_at_ms: nowMs,
			request: row.request,
			result: outcome.result,
			error: null,
			epoch: null,
			run_at_ms: null,
			space_wait_since_ms: row.space_wait_since_ms,
			parked_on: null,
			retry_of: null,
			has_dependencies: 0,
		});
		const [oldest] = this.#rows.keys();
		if (this.#rows.size > MAX_KEPT && oldest !== undefined) this.#rows.delete(oldest);
	}

	row(taskId: string): ShownRow | undefined {
		return this.#rows.get(taskId);
	}

	/** Finished tasks were thrown away, perhaps one of these. */
	forget(): void {
		this.#rows.clear();
	}
}
