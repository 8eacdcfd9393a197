/** Loads that failed a while ago: nobody is evicted for another try of one. */
import type { Clock } from "../../platform/clock.ts";

export interface FailedLoads<Failure> {
	/** Undefined: it went well. */
	remember(tier: string, model: string, failure: Failure | undefined): void;
	/** How the last one failed, where that is not long ago. */
	last(tier: string, model: string): Failure | undefined;
}

const REMEMBER_MS = 15 * 60_000;
const MAX_REMEMBERED = 1_000;

export function createFailedLoads<Failure>({ clock }: { clock: Clock }): FailedLoads<Failure> {
	const failures = new Map<string, { failure: Failure; atMs: number }>();
	return {
		remember(tier, model, failure) {
			const key = `${tier} ${model}`;
			failures.delete(key);
			if (failure !== undefined) failures.set(key, { failure, atMs: clock.monotonicMs() });
			for (const oldest of failures.keys()) {
				if (failures.size <= MAX_REMEMBERED) break;
				failures.delete(oldest);
			}
		},
		last(tier, model) {
			const known = failures.get(`${tier} ${model}`);
			return known !== undefined && clock.monotonicMs() - known.atMs < REMEMBER_MS
				? known.failure
				: undefined;
		},
	};
}
