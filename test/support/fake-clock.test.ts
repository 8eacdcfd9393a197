import { expect, test } from "bun:test";
import { FakeClock } from "./fake-clock.ts";

test("sleepers wake in order, and those who sleep again in time wake again", async () => {
	const clock = new FakeClock();
	const woken: string[] = [];
	const tick = async () => {
		for (let round = 1; round <= 3; round++) {
			await clock.sleep(10);
			woken.push(`tick ${round} at ${clock.monotonicMs()}`);
		}
	};
	const ticking = tick();
	const late = clock.sleep(25).then(() => woken.push("late"));
	await clock.advance(29);
	expect(woken).toEqual(["tick 1 at 10", "tick 2 at 20", "late"]);
	await clock.advance(1);
	await Promise.all([ticking, late]);
	expect(woken.at(-1)).toBe("tick 3 at 30");
	expect(clock.sleeping).toBe(0);
});

test("an aborted sleep ends at once and a wall jump moves no duration", async () => {
	const clock = new FakeClock(1000);
	const abort = new AbortController();
	const sleeping = clock.sleep(50, abort.signal);
	abort.abort();
	await sleeping;
	clock.jumpWall(-500);
	expect([clock.nowMs(), clock.monotonicMs(), clock.sleeping]).toEqual([500, 0, 0]);
});
