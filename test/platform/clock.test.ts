import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { systemClock } from "../../src/platform/clock.ts";

/** Linux counts it with the time that the machine slept, in seconds (proc(5)). */
const uptimeMs = (): number => Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;

test.skipIf(process.platform !== "linux")("the time since the boot counts the sleep of the machine", () => {
	const before = uptimeMs();
	const read = systemClock.bootMs();
	expect(read).toBeGreaterThanOrEqual(before - 10);
	expect(read).toBeLessThanOrEqual(uptimeMs() + 20);
});

test("the time since the boot does not go back", () => {
	let last = systemClock.bootMs();
	for (let n = 0; n < 1000; n++) {
		const next = systemClock.bootMs();
		expect(next).toBeGreaterThanOrEqual(last);
		last = next;
	}
});
