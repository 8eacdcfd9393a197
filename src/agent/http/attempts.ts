/**
 * Slows down who guesses: after so many failures a minute, an address gets 429. Who has a right token never does, and
 * who joins with a right secret is not counted. Bounded: the address heard of longest ago is forgotten first.
 */
import { countedAs } from "../../platform/address-range.ts";
import type { Clock } from "../../platform/clock.ts";
import {
	MAX_COUNTED_ADDRESSES,
	MAX_FAILED_LOGINS,
	MAX_JOINS,
	RATE_WINDOW_MS,
} from "../../platform/limits.ts";
import { GswarmError } from "../../schema/errors.ts";

export interface Attempts {
	/** Counts a wrong credential; undefined while there are few, else the answer that takes the place of 401. */
	failedLogin(address: string): GswarmError | undefined;
	/** Counts a join that begins; call the answer when it was let in, which takes it off the count. @throws 429 too_many_joins */
	beginJoin(address: string): () => void;
}

/** One for all listeners of an agent. */
export function createAttempts({ clock }: { clock: Clock }): Attempts {
	const logins = createWindows(clock);
	const joins = createWindows(clock);
	return {
		failedLogin(address) {
			const { count, endsInMs } = logins.add(countedAs(address));
			if (count <= MAX_FAILED_LOGINS) return undefined;
			return tooMany("too_many_failures", `${MAX_FAILED_LOGINS} wrong tokens`, endsInMs);
		},
		beginJoin(address) {
			const key = countedAs(address);
			const { count, endsInMs } = joins.add(key);
			if (count > MAX_JOINS) throw tooMany("too_many_joins", `${MAX_JOINS} tries to join`, endsInMs);
			return () => joins.takeBack(key);
		},
	};
}

interface Windows {
	add(key: string): { count: number; endsInMs: number };
	takeBack(key: string): void;
}

/** Counts within windows of fixed length, each of which begins with the first count. */
function createWindows(clock: Clock): Windows {
	const windows = new Map<string, { endsMs: number; count: number }>();
	return {
		add(key) {
			const now = clock.monotonicMs();
			const known = windows.get(key);
			const current =
				known !== undefined && known.endsMs > now ? known : { endsMs: now + RATE_WINDOW_MS, count: 0 };
			current.count++;
			windows.delete(key);
			windows.set(key, current);
			const [oldest] = windows.keys();
			if (windows.size > MAX_COUNTED_ADDRESSES && oldest !== undefined) windows.delete(oldest);
			return { count: current.count, endsInMs: current.endsMs - now };
		},
		takeBack(key) {
			const known = windows.get(key);
			if (known !== undefined && known.count > 0) known.count--;
		},
	};
}

function tooMany(reason: string, what: string, endsInMs: number): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`More than ${what} within a minute came from your address.`,
		{
			reason,
			status: 429,
			retryable: true,
			retryAfterS: endsInMs / 1000,
		},
	);
}
