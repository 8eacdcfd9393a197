/** How often a sender with a rate limit should ask again. */
export const PACE_TICK_MS = 5;
/** Time that may be saved up while nothing is sent. */
const LONGEST_CREDIT_MS = 20;

/** Spreads bytes evenly over time; the rate may change between two questions. */
export class Pacer {
	#creditBytes = 0;
	#askedMs = performance.now() - PACE_TICK_MS;

	/** How many of `wanted` bytes may go now; they have to be reported as `spent`. */
	allowed(rateBytesPerSecond: number, wanted: number): number {
		const now = performance.now();
		const earned = ((now - this.#askedMs) / 1000) * rateBytesPerSecond;
		const most = Math.max(1, (LONGEST_CREDIT_MS / 1000) * rateBytesPerSecond);
		this.#creditBytes = Math.min(most, this.#creditBytes + earned);
		this.#askedMs = now;
		const allowed = Math.min(wanted, Math.floor(this.#creditBytes));
		// A few bytes at a time as fast as the clock goes would be a loop that lets nobody else have a turn.
		const least = Math.min(wanted, Math.max(1, (PACE_TICK_MS / 1000) * rateBytesPerSecond));
		return allowed < least ? 0 : allowed;
	}

	spent(bytes: number): void {
		this.#creditBytes -= bytes;
	}
}
