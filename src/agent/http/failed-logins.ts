/** Slows down who guesses: after so many failures a minute, an address gets 429. Who has a right token never does. */
import type { Clock } from "../../platform/clock.ts";
import { GswarmError } from "../../schema/errors.ts";

const MAX_FAILURES = 20;
const WINDOW_MS = 60_000;
/** The one heard of longest ago is forgotten first. */
const MAX_ADDRESSES = 10_000;

export interface FailedLogins {
	/** Counts a failure; undefined while there are few, else the answer that takes the place of 401. */
	count(address: string): GswarmError | undefined;
}

export function createFailedLogins({ clock }: { clock: Clock }): FailedLogins {
	const windows = new Map<string, { endsMs: number; failures: number }>();
	return {
		count(address) {
			const now = clock.monotonicMs();
			const known = windows.get(address);
			const current =
				known !== undefined && known.endsMs > now ? known : { endsMs: now + WINDOW_MS, failures: 0 };
			current.failures++;
			windows.delete(address);
			windows.set(address, current);
			const [oldest] = windows.keys();
			if (windows.size > MAX_ADDRESSES && oldest !== undefined) windows.delete(oldest);
			if (current.failures <= MAX_FAILURES) return undefined;
			return new GswarmError(
				"RESOURCE_UNAVAILABLE",
				`More than ${MAX_FAILURES} wrong tokens within a minute came from your address.`,
				{
					reason: "too_many_failures",
					status: 429,
					retryable: true,
					retryAfterS: (current.endsMs - now) / 1000,
				},
			);
		},
	};
}
