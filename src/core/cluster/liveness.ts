/** What the host believes of a node, from the time since its last beat: a pure function. */
import type { Liveness } from "../../schema/node.ts";

export const HEARTBEAT_MS = 5_000;
export const SUSPECT_MS = 15_000;
export const UNREACHABLE_MS = 30_000;
export const DEAD_MS = 5 * 60_000;

/**
 * `silentMs` is counted on the host's monotonic clock since the beat was received, less the time that the host
 * itself was paused.
 */
export function livenessOf(silentMs: number): Liveness {
	if (silentMs < SUSPECT_MS) return "alive";
	if (silentMs < UNREACHABLE_MS) return "suspect";
	if (silentMs < DEAD_MS) return "unreachable";
	return "dead";
}

/** Whether work may be sent to a node and requests routed to it. */
export function isReachable(liveness: Liveness): boolean {
	return liveness === "alive" || liveness === "suspect";
}
