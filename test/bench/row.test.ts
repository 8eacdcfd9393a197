import { expect, test } from "bun:test";
import { type Goal, median, rowOf, tableOf } from "../../bench/row.ts";

const measured = (goal: Goal, ours: number[], peer: number[] | "missing" | undefined) =>
	rowOf({ name: "copy", unit: "GB/s", goal, ours, peer });

test("the median of an even number of samples lies between the two in the middle", () => {
	expect([median([3, 1, 2]), median([4, 1, 3, 2]), median([])]).toEqual([2, 2.5, null]);
});

test("a goal is met by the ratio of the medians", () => {
	expect(measured({ ratioAtLeast: 1.5 }, [3, 1, 9], [2, 2, 2])).toMatchObject({ ratio: 1.5, ok: true });
	expect(measured({ ratioAtLeast: 1.5 }, [2.9], [2])).toMatchObject({ ok: false });
	expect(measured({ ratioAtMost: 1.5 }, [3], [2])).toMatchObject({ ok: true });
	expect(measured({ ratioAtMost: 1.5 }, [3.1], [2])).toMatchObject({ ok: false });
	expect(measured({ oursAtLeast: 5 }, [4, 5, 9], undefined)).toMatchObject({ ours: 5, ok: true });
	expect(measured({ oursAtLeast: 5 }, [4, 4.9, 9], [1])).toMatchObject({ ok: false });
	expect(measured({ oursBelow: 200 }, [199], undefined)).toMatchObject({ peer: null, ratio: null, ok: true });
	expect(measured({ oursBelow: 200 }, [100, 120, 200], undefined)).toMatchObject({ ours: 200, ok: false });
});

test("a missing peer, or no samples of ours, is a missed goal and never a met one", () => {
	expect(measured({ ratioAtLeast: 1.5 }, [9], "missing")).toMatchObject({
		peer: null,
		ratio: null,
		ok: false,
	});
	expect(measured({ ratioAtMost: 1.5 }, [0.1], "missing")).toMatchObject({ ok: false });
	expect(measured({ ratioAtMost: 1.5 }, [], [1])).toMatchObject({ ours: null, ok: false });
	expect(measured({ oursBelow: 200 }, [], undefined)).toMatchObject({ ok: false });
	expect(tableOf([measured({ ratioAtLeast: 1.5 }, [9], "missing")])).toContain("missing");
});
