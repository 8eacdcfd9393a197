import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { chooseVictims, type EvictionCandidate, judge } from "../../src/core/storage/eviction.ts";

const NOW = 1_000_000;

function candidate(model: string, change: Partial<EvictionCandidate> = {}): EvictionCandidate {
	return {
		model,
		revision: "main",
		tier: "dram",
		sizeBytes: 10,
		readyAt: NOW - 1000,
		lastUsedAt: NOW - 100,
		pinned: false,
		holders: [],
		purpose: "asked",
		place: "store",
		durable: false,
		otherDurableCopies: 1,
		costToBringBackS: 10,
		...change,
	};
}

const names = (candidates: EvictionCandidate[], needBytes: number): string[] =>
	chooseVictims(candidates, { needBytes, nowS: NOW }).victims.map((v) => v.candidate.model);

const anyCandidate = fc
	.record({
		sizeBytes: fc.integer({ min: 0, max: 1000 }),
		idle: fc.integer({ min: 0, max: 10_000 }),
		used: fc.boolean(),
		pinned: fc.boolean(),
		held: fc.boolean(),
		purpose: fc.constantFrom("asked" as const, "preload" as const),
		wantedSoon: fc.boolean(),
		place: fc.constantFrom("store" as const, "adopted" as const),
		durable: fc.boolean(),
		otherDurableCopies: fc.integer({ min: 0, max: 2 }),
		costToBringBackS: fc.option(fc.double({ min: 0, max: 100, noNaN: true })),
	})
	.map(({ idle, used, held, ...rest }) => ({
		...rest,
		lastUsedAt: used ? NOW - idle : null,
		readyAt: NOW - idle,
		holders: held ? ["service s"] : [],
	}));
const anyDevice = fc
	.array(anyCandidate, { maxLength: 30 })
	.map((all) => all.map((one, i) => candidate(`m${i}`, one)));

test("just enough goes: the victims free what is needed, and without any one of them it would not be enough", () => {
	fc.assert(
		fc.property(anyDevice, fc.integer({ min: 1, max: 8000 }), (device, needBytes) => {
			const { victims, freedBytes, evictableBytes } = chooseVictims(device, { needBytes, nowS: NOW });
			const sizes = victims.map((v) => v.candidate.sizeBytes);
			expect(sizes.reduce((a, b) => a + b, 0)).toBe(freedBytes);
			if (evictableBytes < needBytes) expect(victims).toEqual([]);
			else expect(freedBytes).toBeGreaterThanOrEqual(needBytes);
			for (const size of sizes) expect(freedBytes - size).toBeLessThan(needBytes);
			expect(new Set(victims.map((v) => v.candidate.model)).size).toBe(victims.length);
		}),
	);
});

test("pinned, used, adopted, only and last durable copies never go, however much is needed", () => {
	fc.assert(
		fc.property(anyDevice, fc.integer({ min: 0, max: 30_000 }), (device, needBytes) => {
			for (const { candidate: c } of chooseVictims(device, { needBytes, nowS: NOW }).victims) {
				expect(c.pinned).toBe(false);
				expect(c.holders).toEqual([]);
				expect(c.place).toBe("store");
				expect(c.costToBringBackS).not.toBeNull();
				expect(!c.durable || c.otherDurableCopies > 0).toBe(true);
			}
		}),
	);
});

test("of copies of one size and cost those go that were used the longest ago", () => {
	fc.assert(
		fc.property(
			fc.uniqueArray(fc.integer({ min: 1, max: 10_000 }), { minLength: 1, maxLength: 30 }),
			fc.integer({ min: 1, max: 30 }),
			(idle, count) => {
				const device = idle.map((s) => candidate(`m${s}`, { lastUsedAt: NOW - s, readyAt: NOW - 20_000 }));
				const expected = [...idle].sort((a, b) => b - a).slice(0, count);
				const wanted = count <= idle.length ? expected.map((s) => `m${s}`) : [];
				expect(names(device, count * 10).sort()).toEqual(wanted.sort());
			},
		),
	);
});

test("the choice does not depend on the order in which candidates are named", () => {
	fc.assert(
		fc.property(anyDevice, fc.integer({ min: 1, max: 3000 }), (device, needBytes) => {
			expect(names([...device].reverse(), needBytes)).toEqual(names(device, needBytes));
		}),
	);
});

test("nothing is needed, nothing goes; all together are not enough, nothing goes either", () => {
	expect(names([candidate("a"), candidate("b")], 0)).toEqual([]);
	expect(names([candidate("a"), candidate("b")], -5)).toEqual([]);
	expect(names([candidate("a"), candidate("b")], 21)).toEqual([]);
	expect(names([candidate("a"), candidate("b", { pinned: true })], 11)).toEqual([]);
	expect(names([], 1)).toEqual([]);
});

test("what a forecast brought and nobody used goes first, what is wanted soon goes last", () => {
	const device = [
		candidate("old", { lastUsedAt: NOW - 9999, readyAt: NOW - 99_999 }),
		candidate("forecast", { purpose: "preload", lastUsedAt: null, readyAt: NOW - 1 }),
		candidate("good-forecast", { purpose: "preload", lastUsedAt: NOW - 1 }),
		candidate("soon", { wantedSoon: true, lastUsedAt: NOW - 99_999, readyAt: NOW - 99_999 }),
	];
	expect(names(device, 1)).toEqual(["forecast"]);
	expect(names(device, 11)).toEqual(["forecast", "old"]);
	expect(names(device, 31)).toEqual(["forecast", "old", "good-forecast", "soon"]);
});

test("what is slow to have again stays longer than what lies on the disk beside it", () => {
	const device = [
		candidate("from-web", { costToBringBackS: 100, lastUsedAt: NOW - 300 }),
		candidate("from-disk", { costToBringBackS: 1, lastUsedAt: NOW - 100 }),
	];
	expect(names(device, 1)).toEqual(["from-disk"]);
});

test("one large copy goes rather than ten small ones, when it is not worth more", () => {
	const small = Array.from({ length: 10 }, (_, i) =>
		candidate(`small-${i}`, { sizeBytes: 10, costToBringBackS: 1, lastUsedAt: NOW - 100 }),
	);
	const large = candidate("large", { sizeBytes: 100, costToBringBackS: 9, lastUsedAt: NOW - 99 });
	expect(names([...small, large], 95)).toEqual(["large"]);
	const dear = { ...large, costToBringBackS: 100 };
	expect(names([...small, dear], 95)).toHaveLength(10);
});

test("who was chosen first and is made needless by those after stays", () => {
	const device = [
		candidate("small", { sizeBytes: 5, lastUsedAt: NOW - 900 }),
		candidate("b", { sizeBytes: 20, lastUsedAt: NOW - 100 }),
		candidate("c", { sizeBytes: 20, lastUsedAt: NOW - 50 }),
	];
	expect(names(device, 35)).toEqual(["b", "c"]);
});

test("each candidate says why it stays, or what it is worth, in the order in which they would go", () => {
	const verdicts = judge(
		[
			candidate("pinned", { pinned: true }),
			candidate("served", { holders: ["service s-1"] }),
			candidate("theirs", { place: "adopted" }),
			candidate("last", { durable: true, otherDurableCopies: 0 }),
			candidate("only", { costToBringBackS: null }),
			candidate("new", { lastUsedAt: null, readyAt: NOW - 1 }),
			candidate("old", { lastUsedAt: null, readyAt: NOW - 5000 }),
		],
		NOW,
	);
	expect(verdicts.slice(0, 2).map((v) => [v.candidate.model, v.idleS])).toEqual([
		["old", 5000],
		["new", 1],
	]);
	expect(Object.fromEntries(verdicts.slice(2).map((v) => [v.candidate.model, v.keep]))).toEqual({
		pinned: "pinned",
		served: "in_use",
		theirs: "adopted",
		last: "last_durable_copy",
		only: "only_copy",
	});
});
