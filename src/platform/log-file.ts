/** A log file that only ever grows, until it is trimmed. */
import { copyFileSync, fstatSync, statSync, truncateSync } from "node:fs";
import type { Clock } from "./clock.ts";

/** Of the agent's own log. */
export const LOG_LIMIT_BYTES = 64 * 1024 * 1024;

/** Size of the file; 0 when there is none. */
export function logSize(path: string): number {
	return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * Moves a log that has grown past the limit to `<path>.1` and empties it. Whoever writes it appends (O_APPEND), and so
 * goes on at the new end; lines written between the copy and the cut are lost. True when it was trimmed.
 */
export function trimLog(path: string, limitBytes: number): boolean {
	if (logSize(path) <= limitBytes) return false;
	copyFileSync(path, `${path}.1`);
	truncateSync(path, 0);
	return true;
}

/** Keeps the file that this process writes its errors to below the limit; where they go elsewhere, nothing happens. */
export async function keepTrimmed(
	{ clock, everyMs, limitBytes }: { clock: Clock; everyMs: number; limitBytes: number },
	path: string,
	signal: AbortSignal,
): Promise<void> {
	while (!signal.aborted && isStandardError(path)) {
		// Who has just started this process reads there what it says at first.
		await clock.sleep(everyMs, signal);
		if (!signal.aborted) trimLog(path, limitBytes);
	}
}

function isStandardError(path: string): boolean {
	const file = statSync(path, { throwIfNoEntry: false });
	const { dev, ino } = fstatSync(2);
	return file !== undefined && file.dev === dev && file.ino === ino;
}
