/** Whether and when a crashed engine is started again. Pure. */

export interface RestartPolicy {
	/** This many crashes within the window are the end. */
	crashLimit: number;
	windowMs: number;
	firstDelayMs: number;
	maxDelayMs: number;
}

export const RESTART_POLICY: RestartPolicy = {
	crashLimit: 5,
	windowMs: 10 * 60_000,
	firstDelayMs: 1000,
	maxDelayMs: 30_000,
};

export type RestartDecision = { action: "restart"; delayMs: number } | { action: "give_up"; crashes: number };

/**
 * The decision after a crash. `crashesMs` are the monotonic times of all crashes so far, the last one included.
 * The n-th crash within the window waits firstDelayMs · 2^(n-1), at most maxDelayMs.
 */
export function decideRestart(
	crashesMs: readonly number[],
	nowMs: number,
	policy: RestartPolicy = RESTART_POLICY,
): RestartDecision {
	const crashes = recentCrashes(crashesMs, nowMs, policy).length;
	if (crashes >= policy.crashLimit) return { action: "give_up", crashes };
	const delayMs = policy.firstDelayMs * 2 ** Math.max(0, crashes - 1);
	return { action: "restart", delayMs: Math.min(policy.maxDelayMs, delayMs) };
}

/** Crashes that still count. */
export function recentCrashes(
	crashesMs: readonly number[],
	nowMs: number,
	policy: RestartPolicy = RESTART_POLICY,
): number[] {
	return crashesMs.filter((atMs) => nowMs - atMs < policy.windowMs);
}
