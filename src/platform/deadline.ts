/** A limit on how long work from the network may take, by the clock. */
import type { Clock } from "./clock.ts";
import { timeoutError } from "./network-error.ts";

/**
 * Runs `work` with a signal that aborts with the caller's or when `limitMs` have passed; once the work has settled the
 * limit is gone, while the caller's abort still reaches what holds on to the signal (the body of an answer).
 * @throws NETWORK_ERROR timeout (retryable) naming `host`; the reason of the caller's signal; what the work throws
 */
export async function withDeadline<T>(
	{ clock }: { clock: Clock },
	{ limitMs, host, signal }: { limitMs: number; host: string; signal: AbortSignal },
	work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
	signal.throwIfAborted();
	const settled = new AbortController();
	const tooLong = new AbortController();
	const giveUp = async (): Promise<void> => {
		await clock.sleep(limitMs, settled.signal);
		if (!settled.signal.aborted) tooLong.abort();
	};
	void giveUp();
	try {
		return await work(AbortSignal.any([signal, tooLong.signal]));
	} catch (error) {
		signal.throwIfAborted();
		throw tooLong.signal.aborted ? timeoutError(host, limitMs, error) : error;
	} finally {
		settled.abort();
	}
}
