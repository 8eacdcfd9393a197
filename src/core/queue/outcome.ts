/** How an attempt ended, and what becomes of the task: a pure function. */
import { GswarmError, asGswarmError, toStoredError } from "../../schema/errors.ts";
import { LONGEST_SPACE_WAIT_MS, retryDelayMs, spaceDelayMs } from "./backoff.ts";
import { NO_ROOM_NOW, missingNeed } from "./reserve-more.ts";
import type { Outcome } from "./settle.ts";

/** What the handler did: it returned (JSON), it threw, or it did not end in time after its signal. */
export type AttemptEnd =
	| { kind: "returned"; result: string | null }
	| { kind: "threw"; error: unknown }
	| { kind: "abandoned" };

export interface Attempt {
	taskId: string;
	attempt: number;
	maxAttempts: number;
	/** Whether the checkpoint changed in this attempt. */
	progressed: boolean;
	spaceWaitSinceMs: number | null;
	/** Why the handler was told to stop; undefined when it was not. */
	stop: "cancelled" | "shutdown" | undefined;
	nowMs: number;
}

/**
 * What a task waits for without that being an attempt, and how long. A tier that filled up under the work may be
 * emptied (what did not fit before the first byte is refused at once); a host that a destructive step needs comes back.
 */
const LONGEST_WAIT_MS: Readonly<Record<string, number>> = {
	disk_full: LONGEST_SPACE_WAIT_MS,
	gpu_full: LONGEST_SPACE_WAIT_MS,
	host_unreachable: 24 * LONGEST_SPACE_WAIT_MS,
};

export function outcomeOf(end: AttemptEnd, attempt: Attempt): Outcome {
	// What was published before the signal came is done, whatever the signal said.
	if (end.kind === "returned") return { kind: "completed", result: end.result };
	if (attempt.stop === "cancelled") return { kind: "cancelled" };
	if (attempt.stop === "shutdown") return { kind: "released", reason: "shutdown" };
	return afterError(asGswarmError(end.kind === "threw" ? end.error : undefined), attempt);
}

function afterError(error: GswarmError, attempt: Attempt): Outcome {
	const { taskId, attempt: number, maxAttempts, nowMs } = attempt;
	if (error.reason === NO_ROOM_NOW)
		return { kind: "released", reason: NO_ROOM_NOW, need: missingNeed(error) };
	const longestMs = LONGEST_WAIT_MS[error.reason ?? ""];
	if (longestMs !== undefined) {
		const sinceMs = attempt.progressed ? nowMs : (attempt.spaceWaitSinceMs ?? nowMs);
		const waitedMs = Math.max(0, nowMs - sinceMs);
		if (waitedMs >= longestMs) return { kind: "failed", ...stored(error) };
		return {
			kind: "retry",
			...stored(error),
			runAtMs: nowMs + spaceDelayMs(waitedMs),
			counts: false,
			spaceWaitSinceMs: sinceMs,
		};
	}
	if (!error.retryable) return { kind: "failed", ...stored(error) };
	if (number >= maxAttempts) return { kind: "failed", ...stored(exhausted(error, maxAttempts)) };
	return {
		kind: "retry",
		...stored(error),
		runAtMs: nowMs + retryDelayMs({ taskId, attempt: number, retryAfterS: error.retryAfterS }),
		counts: true,
		spaceWaitSinceMs: null,
	};
}

/** As a row keeps it. */
function stored(error: GswarmError): { error: string; reason: string | null } {
	const text = JSON.stringify(toStoredError(error), (_key, value: unknown) =>
		typeof value === "bigint" ? value.toString() : value,
	);
	return { error: text, reason: error.reason ?? null };
}

/** The last error with the number of attempts in its details. */
function exhausted(error: GswarmError, attempts: number): GswarmError {
	return new GswarmError(error.code, `${error.message} (attempt ${attempts} of ${attempts})`, {
		details: { ...error.details, attempts },
		...(error.hint === undefined ? {} : { hint: error.hint }),
		cause: error,
	});
}
