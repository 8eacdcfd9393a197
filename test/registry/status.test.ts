import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Activity, modelStatus } from "../../src/core/registry/status.ts";
import { MODEL_STATUSES, type ModelStatus } from "../../src/schema/model.ts";

/** Best first, as the semantics say it. */
const ORDER: readonly ModelStatus[] = ["ready", "moving", "downloading", "queued", "unavailable"];
const anyStatus = fc.constantFrom(...MODEL_STATUSES);
const anyActivity = fc.constantFrom<Activity["status"]>("queued", "downloading", "moving");

test("a model is as good as the best of its locations and of what is done to it", () => {
	fc.assert(
		fc.property(fc.array(anyStatus), fc.array(anyActivity), (locations, activities) => {
			const ranks = [...locations, ...activities].map((status) => ORDER.indexOf(status));
			const best = ORDER[Math.min(...ranks, ORDER.length - 1)];
			expect(modelStatus(locations, activities)).toBe(best ?? "unavailable");
		}),
	);
});

test("the order in which they are listed does not matter", () => {
	fc.assert(
		fc.property(fc.array(anyStatus), fc.array(anyActivity), (locations, activities) => {
			expect(modelStatus([...locations].reverse(), [...activities].reverse())).toBe(
				modelStatus(locations, activities),
			);
		}),
	);
});

test("a model that is nowhere and of which nothing comes is unavailable", () => {
	expect(modelStatus([], [])).toBe("unavailable");
});
