import { expect, test } from "bun:test";
import { decideRestart, RESTART_POLICY, recentCrashes } from "../../src/core/service/restart.ts";

const MINUTE_MS = 60_000;

test("the pause doubles with each crash within the window", () => {
	const crashes = [0, 1000, 3000, 7000];
	const delays = crashes.map((atMs, i) => decideRestart(crashes.slice(0, i + 1), atMs));
	expect(delays).toEqual([1000, 2000, 4000, 8000].map((delayMs) => ({ action: "restart", delayMs })));
});

test("the fifth crash in ten minutes is the last", () => {
	const crashes = [0, 1, 2, 3, 9.99].map((minutes) => minutes * MINUTE_MS);
	expect(decideRestart(crashes, 9.99 * MINUTE_MS)).toEqual({ action: "give_up", crashes: 5 });
});

test("crashes before the window do not count any more", () => {
	const crashes = [0, 1, 2, 3, 10].map((minutes) => minutes * MINUTE_MS);
	expect(recentCrashes(crashes, 10 * MINUTE_MS)).toHaveLength(4);
	expect(decideRestart(crashes, 10 * MINUTE_MS)).toEqual({ action: "restart", delayMs: 8000 });
});

test("no pause is longer than the limit", () => {
	const policy = { ...RESTART_POLICY, crashLimit: 100 };
	const crashes = Array.from({ length: 60 }, () => 0);
	expect(decideRestart(crashes, 0, policy)).toEqual({ action: "restart", delayMs: policy.maxDelayMs });
});
