import { expect, setDefaultTimeout, test } from "bun:test";
import { FOLLOW_EVERY_MS, followPauseMs } from "../../src/agent/host/dispatch.ts";

setDefaultTimeout(60_000);

const progress = (done: number, total: number) =>
	({ progress: { bytes_done: done, bytes_total: total } }) as Parameters<typeof followPauseMs>[1];

test("the end of a short task is heard of within a tenth of its time, a long one is not asked more often than before", () => {
	for (const ageMs of [0, 50, 200, 1000, 1990]) {
		expect(followPauseMs(ageMs, progress(1, 2))).toBeLessThanOrEqual(Math.max(10, ageMs / 10));
		expect(followPauseMs(ageMs, progress(1, 2))).toBeGreaterThanOrEqual(10);
	}
	for (const ageMs of [3, 17.4, 1234.5]) expect(followPauseMs(ageMs, undefined) % 1).toBe(0);
	for (const ageMs of [2000, 60_000, 1e9]) expect(followPauseMs(ageMs, progress(1, 2))).toBe(FOLLOW_EVERY_MS);
	expect(followPauseMs(60_000, undefined)).toBe(FOLLOW_EVERY_MS);
});

test("a task all of whose bytes have come is looked at sooner", () => {
	expect(followPauseMs(1000, progress(2, 2))).toBe(25);
	expect(followPauseMs(1000, progress(0, 0))).toBe(100);
	expect(followPauseMs(60_000, progress(2, 2))).toBe(FOLLOW_EVERY_MS);
});
