import type { Clock } from "../../src/platform/clock.ts";

interface Sleeper {
	dueMs: number;
	wake(): void;
}

/** A clock that moves only when the test says so. */
export class FakeClock implements Clock {
	#wallMs: number;
	#monotonicMs = 0;
	#asleepMs = 0;
	#sleepers = new Set<Sleeper>();

	constructor(wallMs = Date.UTC(2026, 0, 1)) {
		this.#wallMs = wallMs;
	}

	nowMs(): number {
		return this.#wallMs;
	}

	monotonicMs(): number {
		return this.#monotonicMs;
	}

	bootMs(): number {
		return this.#monotonicMs + this.#asleepMs;
	}

	sleep(ms: number, signal?: AbortSignal): Promise<void> {
		if (signal?.aborted === true || ms <= 0) return Promise.resolve();
		return new Promise((resolve) => {
			const sleeper = { dueMs: this.#monotonicMs + ms, wake: resolve };
			this.#sleepers.add(sleeper);
			signal?.addEventListener(
				"abort",
				() => {
					this.#sleepers.delete(sleeper);
					resolve();
				},
				{ once: true },
			);
		});
	}

	/** How many sleeps are under way; a test waits for one before it advances. */
	get sleeping(): number {
		return this.#sleepers.size;
	}

	/** Lets time pass; sleepers wake in order of their hour and may fall asleep again on the way. */
	async advance(ms: number): Promise<void> {
		const endMs = this.#monotonicMs + ms;
		for (;;) {
			await settled();
			const next = [...this.#sleepers].sort((one, other) => one.dueMs - other.dueMs)[0];
			if (!next || next.dueMs > endMs) break;
			this.#sleepers.delete(next);
			this.#pass(next.dueMs - this.#monotonicMs);
			next.wake();
		}
		this.#pass(endMs - this.#monotonicMs);
		await settled();
	}

	/** The machine sleeps: the wall clock goes on, and no duration notices. */
	suspend(ms: number): void {
		this.#asleepMs += ms;
		this.#wallMs += ms;
	}

	/** Sets the wall clock as an administrator or NTP does; durations do not notice. */
	jumpWall(ms: number): void {
		this.#wallMs += ms;
	}

	#pass(ms: number): void {
		this.#monotonicMs += ms;
		this.#wallMs += ms;
	}
}

/** Lets everything run that waits for nothing but its turn. */
function settled(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
}
