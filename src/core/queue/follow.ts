/** The stream of a queue's events: what a reader missed comes from the log, what happens now as it is committed. */
import type { Database as Sqlite } from "bun:sqlite";
import { taskStatus } from "../../schema/task.ts";
import { type TaskEvent, newestEvent, readEvents } from "./event-log.ts";
import type { Change, QueueName } from "./task-row.ts";

/** Events that a slow reader may have ahead of it in memory; with more it reads the log again. */
const MAX_AHEAD = 1000;

/** gap: events were thrown away that this reader has not seen; it should read what it shows anew. */
export type FollowItem = { kind: "event"; event: TaskEvent } | { kind: "gap" };

export interface FollowSource {
	db: Sqlite;
	queue: QueueName;
	/** Tells changes in the order of their ids, as they are committed. */
	onChange(listener: (change: Change) => void): Disposable;
}

/** Ends when the signal aborts. No event comes twice, none is left out. */
export async function* follow(
	{ db, queue, onChange }: FollowSource,
	{ after, taskId, signal }: { after: number; taskId: string | undefined; signal: AbortSignal },
): AsyncGenerator<FollowItem> {
	let ahead: TaskEvent[] = [];
	let isBehind = true;
	let wake = Promise.withResolvers<void>();
	using _subscription = onChange((change) => {
		if (taskId !== undefined && change.taskId !== taskId) return;
		if (ahead.length < MAX_AHEAD) ahead.push(toEvent(change));
		else isBehind = true;
		wake.resolve();
	});
	const onAbort = (): void => wake.resolve();
	signal.addEventListener("abort", onAbort, { once: true });
	const newest = newestEvent(db);
	let last = Math.min(after, newest);
	try {
		// An id from another database, or from before a restore.
		if (after > newest) yield { kind: "gap" };
		while (!signal.aborted) {
			if (isBehind) {
				isBehind = false;
				ahead = [];
				for (;;) {
					const { gap, events, lastId } = readEvents(db, queue, { after: last, taskId });
					if (gap) yield { kind: "gap" };
					for (const event of events) yield { kind: "event", event };
					if (signal.aborted || lastId === last) break;
					last = lastId;
				}
			}
			const now = ahead;
			ahead = [];
			for (const event of now) {
				if (event.id <= last) continue;
				last = event.id;
				yield { kind: "event", event };
			}
			if (ahead.length > 0 || isBehind || signal.aborted) continue;
			await wake.promise;
			wake = Promise.withResolvers();
		}
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}

function toEvent(change: Change): TaskEvent {
	return {
		id: change.eventId,
		task_id: change.taskId,
		task_type: change.type,
		model_name: change.model,
		from: change.from === null ? null : taskStatus(change.from),
		status: taskStatus(change.state),
		state: change.state,
		attempt: change.attempt,
		reason: change.reason,
		at: change.atMs / 1000,
	};
}
