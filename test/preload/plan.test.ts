import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Candidate, plan, type PlanInput, type Resident } from "../../src/core/preload/preload.ts";

const NOW_S = 1_000_000;
const expected = (uses: number, isKnown = true) => ({ uses, expectedAtS: NOW_S, isKnown });

function candidate(model: string, change: Partial<Candidate> = {}): Candidate {
	return {
		model,
		revision: "r",
		source: "disk",
		sizeBytes: 10,
		lastUsedS: undefined,
		forecast: undefined,
		...change,
	};
}

function resident(model: string, change: Partial<Resident> = {}): Resident {
	return {
		model,
		revision: "r",
		sizeBytes: 10,
		isUnused: false,
		stays: false,
		forecast: undefined,
		...change,
	};
}

/** Takes them in order until it is enough. */
function inOrder(from: readonly Resident[], needBytes: number): Resident[] {
	const chosen: Resident[] = [];
	let bytes = 0;
	for (const one of from) {
		if (bytes >= needBytes) break;
		chosen.push(one);
		bytes += one.sizeBytes;
	}
	return bytes >= needBytes ? chosen : [];
}

function planned(change: Partial<PlanInput>) {
	return plan({
		nowS: NOW_S,
		hints: [],
		candidates: [],
		residents: [],
		coming: [],
		totalBytes: 100,
		availableBytes: 100,
		budgetBytes: 50,
		rateBytesPerSecond: 1,
		resting: new Set(),
		mode: "auto",
		chooseVictims: inOrder,
		...change,
	});
}
const decisions = (change: Partial<PlanInput>): Record<string, string> =>
	Object.fromEntries(planned(change).items.map(({ model, decision }) => [model, decision]));
const hint = (model: string, inS: number) => ({ model, fromS: NOW_S + inS, untilS: NOW_S + inS + 600 });

test("a hint is acted upon in time: twice what reading takes before it, or a minute", () => {
	const candidates = [candidate("small"), candidate("large", { sizeBytes: 50 })];
	const at = (inS: number) => decisions({ candidates, hints: [hint("small", inS), hint("large", inS)] });
	expect(at(120)).toEqual({ small: "later", large: "later" });
	expect(at(90)).toEqual({ small: "later", large: "start" });
	expect(planned({ candidates, hints: [hint("small", 60)] }).start).toMatchObject({ model: "small" });
});

test("a hint that is over counts for nothing", () => {
	const over = { model: "a", fromS: NOW_S - 700, untilS: NOW_S - 100 };
	expect(decisions({ candidates: [candidate("a")], hints: [over] })).toEqual({ a: "no" });
});

test("a hint goes before every forecast, and the likeliest before the less likely", () => {
	const candidates = [
		candidate("rare", { forecast: expected(0.5) }),
		candidate("often", { forecast: expected(9) }),
		candidate("hinted"),
	];
	const { items, start } = planned({ candidates, hints: [hint("hinted", 0)] });
	expect(items.map(({ model }) => model)).toEqual(["hinted", "often", "rare"]);
	expect(start?.model).toBe("hinted");
	expect(items.map(({ decision }) => decision)).toEqual(["start", "later", "later"]);
});

test.each<[string, Partial<PlanInput>, string]>([
	["never used", { candidates: [candidate("a")] }, "never used"],
	["hardly used", { candidates: [candidate("a", { forecast: expected(0.1) })] }, "hardly expected"],
	["little known", { candidates: [candidate("a", { forecast: expected(5, false) })] }, "not enough record"],
	["not hinted", { candidates: [candidate("a", { forecast: expected(5) })], mode: "hints" }, "only hints"],
	["too large", { candidates: [candidate("a", { forecast: expected(5), sizeBytes: 60 })] }, "budget"],
])("a model that is %s stays on disk, and why is said", (_what, change, why) => {
	const { items, start } = planned(change);
	expect(start).toBeUndefined();
	expect(items[0]).toMatchObject({ decision: "no" });
	expect(items[0]?.why).toContain(why);
});

test("one at a time, and none that is there, on its way or failed a moment ago", () => {
	const candidates = ["a", "b", "c"].map((name) => candidate(name, { forecast: expected(5) }));
	const coming = [{ model: "b", sizeBytes: 10, isPreload: true }];
	expect(decisions({ candidates, residents: [resident("a")], coming })).toEqual({
		a: "there",
		b: "coming",
		c: "later",
	});
	expect(decisions({ candidates, resting: new Set(["a"]) })).toMatchObject({ a: "later", b: "start" });
});

test("a copy gives way to what is expected clearly more often, and to nothing else", () => {
	const full = { availableBytes: 0, candidates: [candidate("new", { forecast: expected(2) })] };
	const gives = (one: Resident) =>
		planned({ ...full, residents: [one] }).start?.displaced.map(({ model }) => model);
	expect(gives(resident("old", { forecast: expected(0.5) }))).toEqual(["old"]);
	expect(gives(resident("old"))).toEqual(["old"]);
	expect(gives(resident("old", { forecast: expected(1.5) }))).toBeUndefined();
	expect(gives(resident("old", { stays: true }))).toBeUndefined();
	const hinted = { ...full, residents: [resident("old")], hints: [hint("old", 0)] };
	expect(planned(hinted).start).toBeUndefined();
});

test("what nobody has used yet takes its share of the memory and no more", () => {
	const unused = (model: string, uses: number) =>
		resident(model, { isUnused: true, forecast: expected(uses) });
	const candidates = [candidate("new", { forecast: expected(2), sizeBytes: 20 })];
	const full = [unused("a", 3), unused("b", 3), unused("c", 3), unused("d", 3)];
	expect(planned({ candidates, residents: full }).items[0]?.why).toContain("budget is full");
	const old = [...full.slice(1), unused("old", 0.1)];
	expect(planned({ candidates, residents: old }).start?.displaced.map(({ model }) => model)).toEqual(["old"]);
});

test("what somebody said may take more than the share of guesses, and never more than there is", () => {
	const large = { candidates: [candidate("large", { sizeBytes: 80 })], hints: [hint("large", 0)] };
	expect(decisions(large)).toEqual({ large: "start" });
	expect(decisions({ ...large, availableBytes: 70 })).toEqual({ large: "no" });
});

test("what should be in memory is what is hinted and what is likeliest, as far as it fits", () => {
	const candidates = [
		candidate("often", { forecast: expected(9), sizeBytes: 60 }),
		candidate("less", { forecast: expected(3), sizeBytes: 40 }),
		candidate("small", { forecast: expected(1), sizeBytes: 20 }),
		candidate("guess", { forecast: expected(9, false) }),
		candidate("hinted", { sizeBytes: 5 }),
	];
	const { wanted } = planned({ candidates, hints: [hint("hinted", 0)] });
	expect([...wanted].sort()).toEqual(["hinted", "often", "small"]);
});

test("whatever is where, no more is started than there is room for, and nothing leaves that must stay", () => {
	const one = fc.record({
		sizeBytes: fc.integer({ min: 1, max: 60 }),
		uses: fc.double({ min: 0, max: 9, noNaN: true }),
		place: fc.constantFrom("disk", "used", "unused", "stays"),
		hinted: fc.boolean(),
	});
	fc.assert(
		fc.property(fc.array(one, { maxLength: 12 }), fc.integer({ min: 1, max: 100 }), (all, budgetBytes) => {
			const named = all.map((each, at) => ({ ...each, model: `m${at}`, forecast: expected(each.uses) }));
			const residents = named
				.filter(({ place }) => place !== "disk")
				.map(({ place, model, sizeBytes, forecast }) =>
					resident(model, {
						sizeBytes,
						forecast,
						isUnused: place === "unused",
						stays: place === "stays",
					}),
				);
			const usedBytes = residents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
			const availableBytes = Math.max(0, 100 - usedBytes);
			const { start } = planned({
				candidates: named.map(({ model, sizeBytes, forecast }) => candidate(model, { sizeBytes, forecast })),
				residents,
				hints: named.filter(({ hinted }) => hinted).map(({ model }) => hint(model, 0)),
				availableBytes,
				budgetBytes,
			});
			if (start === undefined) return;
			const freed = start.displaced.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
			expect(start.sizeBytes).toBeLessThanOrEqual(availableBytes + freed);
			const isHinted = named.some(({ model, hinted }) => hinted && model === start.model);
			if (!isHinted) expect(start.sizeBytes).toBeLessThanOrEqual(budgetBytes);
			expect(start.displaced.some(({ stays }) => stays)).toBe(false);
			expect(residents.some(({ model }) => model === start.model)).toBe(false);
		}),
	);
});
