/** When a task that failed is tried again. */
import { xxh64Hex } from "../../platform/hash.ts";
import type { TaskType } from "../../schema/task.ts";

const SECOND_MS = 1000;
const LONGEST_CAP_MS = 300 * SECOND_MS;
const LONGEST_RETRY_AFTER_MS = 15 * 60 * SECOND_MS;
/** Room is not looked for more often than this. */
export const SHORTEST_SPACE_DELAY_MS = 5 * SECOND_MS;
const LONGEST_SPACE_DELAY_MS = 60 * SECOND_MS;

/** A task waits so long for room on a tier, then it fails. */
export const LONGEST_SPACE_WAIT_MS = 60 * 60 * SECOND_MS;

/** No retry lies further ahead than this; one that does was written under a wrong wall clock. */
export const LONGEST_DELAY_MS = Math.max(LONGEST_CAP_MS, LONGEST_RETRY_AFTER_MS, LONGEST_SPACE_DELAY_MS);

/** Attempts of a task, crashes included; transfers over the internet fail more often than others. */
export function defaultMaxAttempts(type: TaskType): number {
	return type === "download" ? 8 : 5;
}

/**
 * Delay after the failed attempt `attempt` (1 for the first): half of `min(300 s, 2^(n-1) s)` and a random part of
 * the other half, the same for the same task and attempt; never less than what the source asked for, and of that at
 * most 15 minutes.
 */
export function retryDelayMs({
	taskId,
	attempt,
	retryAfterS = 0,
}: {
	taskId: string;
	attempt: number;
	retryAfterS?: number | undefined;
}): number {
	const capMs = Math.min(LONGEST_CAP_MS, 2 ** (attempt - 1) * SECOND_MS);
	const delayMs = capMs / 2 + (seededFraction(`${taskId}:${attempt}`) * capMs) / 2;
	return Math.round(Math.max(delayMs, Math.min(LONGEST_RETRY_AFTER_MS, retryAfterS * SECOND_MS)));
}

/** Delay before room on a tier is looked for again: a quarter of the time waited so far, 5 s to 60 s. */
export function spaceDelayMs(waitedMs: number): number {
	return Math.round(Math.min(LONGEST_SPACE_DELAY_MS, Math.max(SHORTEST_SPACE_DELAY_MS, waitedMs / 4)));
}

/** A number in [0, 1) that the text decides: its first 52 hash bits. */
function seededFraction(text: string): number {
	return Number.parseInt(xxh64Hex(new TextEncoder().encode(text)).slice(0, 13), 16) / 2 ** 52;
}
