import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { CopyIndex, isListed, keyOf } from "../../src/core/storage/copy-index.ts";
import type { CopyRow } from "../../src/core/storage/copy-store.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";

function row(change: Partial<CopyRow>): CopyRow {
	return {
		tier: "disk",
		model: parseModelName("a"),
		revision: parseRevision("1"),
		state: "ready",
		contentId: "c",
		sizeBytes: 10,
		modelType: "llm",
		sourceUrl: null,
		format: "gguf",
		readyAt: 1,
		bootId: null,
		lastUsedAt: null,
		pinned: false,
		purpose: "asked",
		place: "store",
		adoptedFrom: null,
		...change,
	};
}

const step = fc.record({
	model: fc.constantFrom("a", "b", "c/d", "e").map(parseModelName),
	tier: fc.constantFrom("disk", "dram"),
	revision: fc.constantFrom("1", "2").map(parseRevision),
	state: fc.constantFrom(
		"publishing" as const,
		"ready" as const,
		"unavailable" as const,
		"removing" as const,
	),
	modelType: fc.constantFrom("llm", "embedding"),
	sizeBytes: fc.integer({ min: 0, max: 100 }),
	place: fc.constantFrom("store" as const, "adopted" as const),
	goes: fc.boolean(),
	asks: fc.boolean(),
});

test("names, copies and bytes are what looking at every row would tell, whatever came and went and whenever it is asked", () => {
	const ready = {
		key: "ready",
		choose: (rows: readonly CopyRow[]) => rows.some((one) => one.state === "ready"),
	};
	fc.assert(
		fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
			const index = new CopyIndex();
			const plain = new Map<string, CopyRow>();
			const check = (): void => {
				const listed = [...plain.values()].filter(isListed);
				expect(index.names()).toEqual([...new Set(listed.map((one) => one.model))].sort());
				const withReady = listed.filter((one) => one.state === "ready").map((one) => one.model);
				expect(index.names(ready)).toEqual([...new Set(withReady)].sort());
				for (const tier of ["disk", "dram"]) {
					const here = [...plain.values()].filter((one) => one.tier === tier);
					expect([...index.onTier(tier)].length).toBe(here.length);
					const ours = here.filter((one) => one.place === "store");
					expect(index.bytesOn(tier)).toBe(ours.reduce((sum, one) => sum + one.sizeBytes, 0));
				}
				for (const model of ["a", "c/d"])
					expect([...index.ofModel(model)].map(keyOf).sort()).toEqual(
						[...plain.values()]
							.filter((one) => one.model === model)
							.map(keyOf)
							.sort(),
					);
			};
			for (const { goes, asks, ...change } of steps) {
				const one = row(change);
				if (goes) {
					index.delete(keyOf(one));
					plain.delete(keyOf(one));
				} else {
					index.set(keyOf(one), one);
					plain.set(keyOf(one), one);
				}
				if (asks) check();
			}
			check();
		}),
	);
});
