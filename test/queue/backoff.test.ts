import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	LONGEST_DELAY_MS,
	defaultMaxAttempts,
	retryDelayMs,
	spaceDelayMs,
} from "../../src/core/queue/backoff.ts";

test("the delay lies in the upper half of a cap that doubles from one second to five minutes", () => {
	fc.assert(
		fc.property(fc.string(), fc.integer({ min: 1, max: 40 }), (taskId, attempt) => {
			const capMs = Math.min(300_000, 1000 * 2 ** (attempt - 1));
			const delayMs = retryDelayMs({ taskId, attempt });
			expect(delayMs).toBeGreaterThanOrEqual(capMs / 2);
			expect(delayMs).toBeLessThanOrEqual(capMs);
			expect(retryDelayMs({ taskId, attempt })).toBe(delayMs);
		}),
	);
});

test("tasks that failed together do not come back together", () => {
	const delays = Array.from({ length: 200 }, (_, at) => retryDelayMs({ taskId: `task-${at}`, attempt: 9 }));
	expect(new Set(delays).size).toBeGreaterThan(190);
	expect(Math.max(...delays) - Math.min(...delays)).toBeGreaterThan(100_000);
});

test("a source is not asked before the time it named, up to 15 minutes", () => {
	expect(retryDelayMs({ taskId: "a", attempt: 1, retryAfterS: 120 })).toBe(120_000);
	expect(retryDelayMs({ taskId: "a", attempt: 1, retryAfterS: 86_400 })).toBe(15 * 60_000);
	expect(retryDelayMs({ taskId: "a", attempt: 9, retryAfterS: 1 })).toBeGreaterThanOrEqual(128_000);
});

test("room is looked for after 5 s at first and every minute at last", () => {
	expect(spaceDelayMs(0)).toBe(5000);
	expect(spaceDelayMs(100_000)).toBe(25_000);
	expect(spaceDelayMs(3_000_000)).toBe(60_000);
});

test("no delay is longer than the one that counts as a mistake of the clock", () => {
	expect(LONGEST_DELAY_MS).toBe(15 * 60_000);
});

test("downloads get eight attempts and others five", () => {
	expect(defaultMaxAttempts("download")).toBe(8);
	expect(defaultMaxAttempts("move")).toBe(5);
});
