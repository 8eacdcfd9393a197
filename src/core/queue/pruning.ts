/** Throws away what is too old, now and then, as long as the queue works. */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import type { CompletedTasks } from "./completed.ts";
import type { Retention } from "./retention.ts";
import type { Tally } from "./tally.ts";
import type { QueueName } from "./task-row.ts";
import { queueModule } from "./task-store.ts";

const PRUNE_INTERVAL_MS = 10 * 60_000;

/** Resolves when the signal aborts. */
export async function keepPruned(
	{ db, clock, log }: { db: Database; clock: Clock; log: Log },
	{
		queue,
		retention,
		tally,
		completed,
		signal,
	}: {
		queue: QueueName;
		retention: Retention;
		tally: Tally;
		completed: CompletedTasks;
		signal: AbortSignal;
	},
): Promise<void> {
	const { prune } = db.writer(queueModule);
	for (;;) {
		await clock.sleep(PRUNE_INTERVAL_MS, signal);
		try {
			for (let more = true; more && !signal.aborted; ) {
				const pruned = await prune({ queue, retention, finished: tally.finished(), nowMs: clock.nowMs() });
				for (const { state } of pruned.removed) tally.forget(state, 1);
				if (pruned.removed.length > 0) completed.forget();
				({ more } = pruned);
			}
		} catch (error) {
			// A full disk: what is too old is still there next time.
			log.warn("queue.prune_failed", { error });
		}
		if (signal.aborted) return;
	}
}
