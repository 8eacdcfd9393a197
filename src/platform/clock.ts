/** Time behind an interface: the only file that reads it, so that tests can own it. */

export interface Clock {
	/** Milliseconds since the epoch, for display and for rows; never for durations. */
	nowMs(): number;
	/** Milliseconds that never jump; for durations, leases and deadlines. */
	monotonicMs(): number;
	/** Resolves after `ms`, or at once when the signal aborts (without throwing; check the signal). */
	sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
	nowMs: () => Date.now(),
	monotonicMs: () => performance.now(),
	sleep: (ms, signal) =>
		new Promise((resolve) => {
			if (signal?.aborted === true) {
				resolve();
				return;
			}
			const done = (): void => {
				clearTimeout(timer);
				signal?.removeEventListener("abort", done);
				resolve();
			};
			const timer = setTimeout(done, ms);
			signal?.addEventListener("abort", done, { once: true });
		}),
};
