/** Ends reads that wait too long: a source that holds the line without sending anything must not hold a transfer. */
import type { Clock } from "../../platform/clock.ts";

export interface StallWatch extends AsyncDisposable {
	/**
	 * Waits for the work, but neither longer than the limit nor than the signal: work that hangs may not hear it.
	 * @throws Stalled after `cut`, or the signal's reason
	 */
	guard<T>(work: Promise<T>, connection: { signal: AbortSignal; cut: () => void }): Promise<T>;
}

/** Nothing came for the whole limit. */
export class Stalled extends Error {
	constructor(limitMs: number) {
		super(`nothing came for ${Math.round(limitMs / 1000)} s`);
	}
}

const CHECKS_PER_LIMIT = 20;
/** Of the limit: nothing has come for so long, on any stream, that it is worth a word. */
const QUIET_SHARE = 1 / 6;

interface Waiting {
	sinceMs: number;
	end: () => void;
}

/**
 * One loop watches all streams of a transfer, so that a read costs no timer of its own. `onQuiet` hears now and then
 * for how long every one of them has waited.
 */
export function createStallWatch(
	{ clock, onQuiet }: { clock: Clock; onQuiet?: (quietMs: number) => void },
	limitMs: number,
): StallWatch {
	const waiting = new Set<Waiting>();
	const stop = new AbortController();
	const loop = (async () => {
		while (!stop.signal.aborted) {
			await clock.sleep(limitMs / CHECKS_PER_LIMIT, stop.signal);
			const nowMs = clock.monotonicMs();
			let quietMs = waiting.size === 0 ? 0 : limitMs;
			for (const one of waiting) {
				quietMs = Math.min(quietMs, nowMs - one.sinceMs);
				if (nowMs - one.sinceMs >= limitMs) one.end();
			}
			if (quietMs >= limitMs * QUIET_SHARE) onQuiet?.(quietMs);
		}
	})();
	return {
		guard: (work, { signal, cut }) =>
			new Promise((resolve, reject) => {
				const aborted = (): void => reject(signal.reason as Error);
				const one: Waiting = {
					sinceMs: clock.monotonicMs(),
					end: () => {
						waiting.delete(one);
						reject(new Stalled(limitMs));
						cut();
					},
				};
				waiting.add(one);
				signal.addEventListener("abort", aborted, { once: true });
				if (signal.aborted) aborted();
				work.then(resolve, reject).finally(() => {
					waiting.delete(one);
					signal.removeEventListener("abort", aborted);
				});
			}),
		async [Symbol.asyncDispose]() {
			stop.abort();
			await loop;
		},
	};
}
