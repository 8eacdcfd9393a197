/** Who waits for the end of which task; an event of one task costs nothing to those who wait for others. */
import { type TaskStatus, isTerminal } from "../../schema/task.ts";

export class TaskWaiters {
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

	/** A task changed its state, and that is in the database. */
	changed(taskId: string, status: TaskStatus): void {
		if (!isTerminal(status)) return;
		for (const onEnd of this.#waiters.get(taskId) ?? []) onEnd();
	}
}
