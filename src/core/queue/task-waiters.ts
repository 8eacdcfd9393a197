/** Who waits for the end of which task; an event of one task costs nothing to those who wait for others. */
import { isTerminal } from "../../schema/task.ts";
import type { Change } from "./task-row.ts";

/** Tasks that are known to live without a look into the database. */
const MAX_KNOWN = 10_000;

export class TaskWaiters {
	readonly #live = new Set<string>();
	readonly #waiters = new Map<string, Set<() => void>>();

	/** Resolves when the task has ended. @throws the signal's reason */
	wait(taskId: string, signal: AbortSignal): Promise<void> {
		return new Promise((resolve, reject) => {
			const stop = (): void => {
				signal.removeEventListener("abort", onAbort);
				const others = this.#waiters.get(taskId);
				others?.delete(onEnd);
				if (others?.size === 0) this.#waiters.delete(taskId);
			};
			const onEnd = (): void => {
				stop();
				resolve();
			};
			const onAbort = (): void => {
				stop();
				reject(signal.reason);
			};
			if (signal.aborted) return onAbort();
			signal.addEventListener("abort", onAbort, { once: true });
			const waiters = this.#waiters.get(taskId) ?? new Set();
			this.#waiters.set(taskId, waiters.add(onEnd));
		});
	}

	/** True for a task that was put in line by this process and has not ended; false says nothing. */
	isLive(taskId: string): boolean {
		return this.#live.has(taskId);
	}

	/** A task changed its state, and that is in the database. */
	changed({ taskId, from, state }: Pick<Change, "taskId" | "from" | "state">): void {
		if (from === null && this.#live.size < MAX_KNOWN) this.#live.add(taskId);
		if (!isTerminal(state)) return;
		this.#live.delete(taskId);
		for (const onEnd of this.#waiters.get(taskId) ?? []) onEnd();
	}
}
