/** A rate that several streams share. */

export interface Throttle {
	/** Resolves when these bytes may have passed, or at once when the signal aborts. */
	pass(bytes: number, signal: AbortSignal): Promise<void>;
}
