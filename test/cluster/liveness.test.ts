import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	DEAD_MS,
	isReachable,
	livenessOf,
	SUSPECT_MS,
	UNREACHABLE_MS,
} from "../../src/core/cluster/liveness.ts";
import { LIVENESS } from "../../src/schema/node.ts";

test.each([
	[0, "alive"],
	[14_999, "alive"],
	[15_000, "suspect"],
	[15_001, "suspect"],
	[29_999, "suspect"],
	[30_000, "unreachable"],
	[30_001, "unreachable"],
	[299_999, "unreachable"],
	[300_000, "dead"],
	[300_001, "dead"],
	[Number.MAX_SAFE_INTEGER, "dead"],
])("after %d ms of silence a node is %s", (silentMs, expected) => {
	expect(livenessOf(silentMs)).toBe(expected as never);
});

test("the promised times are 15 s, 30 s and 5 min", () => {
	expect([SUSPECT_MS, UNREACHABLE_MS, DEAD_MS]).toEqual([15_000, 30_000, 300_000]);
});

test("longer silence never makes a node look better", () => {
	const rank = (ms: number): number => LIVENESS.indexOf(livenessOf(ms));
	fc.assert(
		fc.property(fc.nat(600_000), fc.nat(600_000), (silentMs, moreMs) => {
			expect(rank(silentMs + moreMs)).toBeGreaterThanOrEqual(rank(silentMs));
		}),
	);
});

test("work goes to nodes that are alive or merely suspect", () => {
	expect(LIVENESS.filter(isReachable)).toEqual(["alive", "suspect"]);
});
