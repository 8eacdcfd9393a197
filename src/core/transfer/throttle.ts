/** A rate that several streams share. */
import type { Clock } from "../../platform/clock.ts";

export interface Throttle {
	/** Resolves when these bytes may have passed, or at once when the signal aborts. */
	pass(bytes: number, signal: AbortSignal): Promise<void>;
}

/** What may pass at once after a pause, in seconds of the rate. */
const BURST_S = 0.1;

/** Undefined: no limit. */
export function createThrottle(
	{ clock }: { clock: Clock },
	rateBytesPerSecond: number | undefined,
): Throttle {
	if (rateBytesPerSecond === undefined) return { pass: () => Promise.resolve() };
	// The moment at which all bytes that have passed are paid for.
	let paidAtMs = clock.monotonicMs();
	return {
		async pass(bytes, signal) {
			const nowMs = clock.monotonicMs();
			paidAtMs = Math.max(paidAtMs, nowMs) + (bytes / rateBytesPerSecond) * 1000;
			const waitMs = paidAtMs - nowMs - BURST_S * 1000;
			if (waitMs > 0) await clock.sleep(waitMs, signal);
		},
	};
}
