/** Tells committed changes to who counts, waits, follows or listens; nobody's failure is another one's. */
import type { Log } from "../../platform/log.ts";
import { type TaskStatus, taskStatus } from "../../schema/task.ts";
import type { QueueEvent } from "./queue-types.ts";
import type { Tally } from "./tally.ts";
import type { Change } from "./task-row.ts";
import { TaskWaiters } from "./task-waiters.ts";

export class Announcer {
	readonly #log: Log;
	readonly #tally: Tally;
	readonly #waiters = new TaskWaiters();
	readonly #listeners = new Set<(event: QueueEvent) => void>();
	readonly #followers = new Set<(change: Change) => void>();
	#completed = 0;

	constructor({ log, tally }: { log: Log; tally: Tally }) {
		this.#log = log;
		this.#tally = tally;
	}

	/** Tasks that completed since the open. */
	get completed(): number {
		return this.#completed;
	}

	/**
	 * Tells what a write changed when its answer is there, before anybody who waits for the answer goes on. Answers come
	 * in the order of the commits, and so do the changes, whatever their callers await in between.
	 */
	after<T>(written: Promise<T>, changesOf: (result: T) => Iterable<Change>): Promise<T> {
		return written.then((result) => {
			this.#changed(changesOf(result));
			return result;
		});
	}

	progressed(taskId: string, { type, model }: Pick<QueueEvent, "type" | "model">): void {
		this.#tell({ kind: "progress", taskId, type, model, status: "running" });
	}

	onEvent(listener: (event: QueueEvent) => void): Disposable {
		return member(this.#listeners, listener);
	}

	onChange(follower: (change: Change) => void): Disposable {
		return member(this.#followers, follower);
	}

	/** Resolves when the task has ended; `read` is asked when nothing is known of it. @throws the signal's reason */
	async ended(taskId: string, read: () => TaskStatus, signal: AbortSignal): Promise<void> {
		if (this.#waiters.isLive(taskId) || isOpen(read())) await this.#waiters.wait(taskId, signal);
	}

	#changed(changes: Iterable<Change>): void {
		for (const change of changes) {
			const { taskId, type, model, state } = change;
			this.#tally.apply(change);
			if (state === "completed") this.#completed++;
			for (const follower of this.#followers) follower(change);
			this.#waiters.changed(change);
			if (this.#listeners.size > 0)
				this.#tell({ kind: "state", taskId, type, model, status: taskStatus(state) });
		}
	}

	#tell(event: QueueEvent): void {
		for (const listener of this.#listeners) {
			try {
				listener(event);
			} catch (error) {
				// A listener's failure is its own; the queue's state is committed already.
				this.#log.error("queue.listener_failed", { task_id: event.taskId, error });
			}
		}
	}
}

function isOpen(status: TaskStatus): boolean {
	return status === "pending" || status === "running";
}

function member<T>(set: Set<T>, one: T): Disposable {
	set.add(one);
	return { [Symbol.dispose]: () => void set.delete(one) };
}
