/**
 * The rule that leaves no orphan: the engine lives as long as its agent asks for it. Every health check under
 * the right instance id renews the lease, and so does every request that the agent carries. Without one for the
 * timeout the engine ends itself. Time counts only while the process runs, so a suspended machine or a stopped
 * process does not end an engine whose agent was stopped with it.
 */
import type { Clock } from "../../../../platform/clock.ts";

export interface Lease extends Disposable {
	renew(): void;
	/** Keeps the lease until the returned function is called, for a request in flight. */
	hold(): () => void;
}

/** Starts a lease; `onTick` is called at every look at the clock, `onExpired` once. */
export function startLease(
	{ clock }: { clock: Clock },
	options: { timeoutMs: number; onExpired: () => void; onTick?: () => void },
): Lease {
	const tickMs = Math.min(MAX_TICK_MS, options.timeoutMs / 4);
	let idleMs = 0;
	let held = 0;
	let lastMs = clock.monotonicMs();
	const timer = setInterval(() => {
		const nowMs = clock.monotonicMs();
		idleMs = held > 0 ? 0 : idleMs + Math.min(nowMs - lastMs, 2 * tickMs);
		lastMs = nowMs;
		options.onTick?.();
		if (idleMs < options.timeoutMs) return;
		clearInterval(timer);
		options.onExpired();
	}, tickMs);
	return {
		renew() {
			idleMs = 0;
		},
		hold() {
			held++;
			let released = false;
			return () => {
				if (!released) held--;
				released = true;
				idleMs = 0;
			};
		},
		[Symbol.dispose]: () => clearInterval(timer),
	};
}

const MAX_TICK_MS = 1000;
