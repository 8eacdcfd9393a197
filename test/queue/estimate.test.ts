import { expect, test } from "bun:test";
import { estimateSeconds, movingAverage } from "../../src/core/queue/estimate.ts";

const download = { type: "download", durationMs: 60_000, rateBytesPerSecond: 1e6, samples: 3 };
const serve = { type: "serve", durationMs: 4000, rateBytesPerSecond: 0, samples: 1 };

test("nothing is promised before anything was measured", () => {
	expect(estimateSeconds({ type: "download", sizeBytes: 5e6, ahead: 3, slots: 4 }, [])).toBe(0);
});

test("a task of known size takes its bytes over the measured rate", () => {
	expect(estimateSeconds({ type: "download", sizeBytes: 5e6, ahead: 0, slots: 4 }, [download])).toBe(5);
});

test("a task of unknown size takes what its type took, and one of an unknown type what all took", () => {
	expect(
		estimateSeconds({ type: "serve", sizeBytes: undefined, ahead: 0, slots: 4 }, [download, serve]),
	).toBe(4);
	expect(estimateSeconds({ type: "copy", sizeBytes: undefined, ahead: 0, slots: 4 }, [download, serve])).toBe(
		46,
	);
});

test("those before it are shared out over the slots", () => {
	expect(estimateSeconds({ type: "serve", sizeBytes: undefined, ahead: 8, slots: 4 }, [serve])).toBe(12);
});

test("the average moves towards new samples", () => {
	expect(movingAverage(undefined, 10)).toBe(10);
	expect(movingAverage(10, 20)).toBe(13);
});
