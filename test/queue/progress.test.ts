import { expect, test } from "bun:test";
import { ProgressMeter } from "../../src/core/queue/progress.ts";

const start = { phase: "queued", bytesDone: 0, bytesTotal: 0, nowMs: 0 } as const;

test("rate and time left follow the bytes", () => {
	const meter = new ProgressMeter(start);
	for (let second = 0; second <= 60; second++) {
		meter.report({ phase: "downloading", bytesDone: second * 1000, bytesTotal: 100_000 }, second * 1000);
	}
	expect(meter.snapshot(60_000)).toEqual({
		bytes_done: 60_000,
		bytes_total: 100_000,
		rate_bytes_per_s: 1000,
		eta_s: 40,
	});
});

test("how the bytes come is told once it is known, and stays", () => {
	const meter = new ProgressMeter(start);
	meter.report({ bytesDone: 1, bytesTotal: 2 }, 0);
	expect(meter.snapshot(0)).not.toHaveProperty("plane");
	meter.report({ plane: "fast" }, 1);
	meter.report({ bytesDone: 2, plane: undefined }, 2);
	expect(meter.snapshot(2).plane).toBe("fast");
});

test("the rate follows a change within seconds and fades when nothing comes", () => {
	const meter = new ProgressMeter(start);
	meter.report({ bytesDone: 0, bytesTotal: 1e9 }, 0);
	meter.report({ bytesDone: 1000 }, 1000);
	expect(meter.snapshot(1000).rate_bytes_per_s).toBe(1000);
	for (let second = 2; second <= 16; second++)
		meter.report({ bytesDone: 1000 + (second - 1) * 100 }, second * 1000);
	expect(meter.snapshot(16_000).rate_bytes_per_s).toBeLessThan(160);
	expect(meter.snapshot(120_000)).toMatchObject({ rate_bytes_per_s: 0, eta_s: null });
});

test("bytes that an earlier attempt left count as done, not as rate", () => {
	const meter = new ProgressMeter(start);
	meter.report({ bytesDone: 5_000_000, bytesTotal: 6_000_000 }, 100);
	expect(meter.snapshot(100).rate_bytes_per_s).toBe(0);
	meter.report({ bytesDone: 5_001_000 }, 1100);
	expect(meter.snapshot(1100).rate_bytes_per_s).toBe(1000);
	expect(meter.measured(1100)).toEqual({ durationMs: 1100, bytes: 1000 });
});

test("without a total there is no time left to tell", () => {
	const meter = new ProgressMeter(start);
	meter.report({ bytesDone: 0 }, 0);
	meter.report({ bytesDone: 500 }, 500);
	expect(meter.snapshot(500)).toMatchObject({ rate_bytes_per_s: 1000, eta_s: null });
});
