import { expect, setDefaultTimeout, test } from "bun:test";
import { replayLru, replayPlanned } from "../../bench/preload/replay.ts";
import { makeTrace } from "../../bench/preload/trace.ts";

setDefaultTimeout(240_000);

/** Smaller than the benchmark's, with the same habits. */
const TRACE = makeTrace({ seed: 7, models: 60, weeks: 2 });
const ALL_BYTES = TRACE.models.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
const MEMORY = { bytes: ALL_BYTES * 0.15, preloadShare: 0.5, rateBytesPerSecond: 2e9 };

test("one seed is one trace", () => {
	const again = makeTrace({ seed: 7, models: 60, weeks: 2 });
	expect(again.uses.length).toBe(TRACE.uses.length);
	expect(again.uses.at(-1)?.atS).toBe(TRACE.uses.at(-1)?.atS as number);
	expect(makeTrace({ seed: 8, models: 60, weeks: 2 }).uses.length).not.toBe(TRACE.uses.length);
});

test("a replayed fortnight finds clearly more in memory than with plain LRU, at the same budget", () => {
	const [lru, planned] = [replayLru(TRACE, MEMORY), replayPlanned(TRACE, MEMORY)];
	expect(planned.uses).toBe(lru.uses);
	expect(planned.hits / lru.hits).toBeGreaterThan(1.05);
});

test("the planner knows the past alone: what comes later changes nothing of what was hit before", () => {
	const cutS = TRACE.uses[Math.floor(TRACE.uses.length / 2)]?.atS ?? TRACE.endS;
	const known = TRACE.uses.filter(({ atS }) => atS < cutS);
	const other = [...TRACE.models].reverse();
	const replaced = TRACE.uses.map((use) =>
		use.atS < cutS ? use : { ...use, model: other[TRACE.models.indexOf(use.model)] ?? use.model },
	);
	const hitsUntil = (uses: typeof TRACE.uses): number =>
		replayPlanned({ ...TRACE, uses, endS: cutS - 300 }, MEMORY).hits;
	expect(hitsUntil(replaced)).toBe(hitsUntil(known));
});
