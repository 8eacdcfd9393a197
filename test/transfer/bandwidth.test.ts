import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { type Bandwidth, createBandwidth } from "../../src/core/transfer/bandwidth.ts";
import { createFairShare } from "../../src/core/transfer/fair-share.ts";
import { FakeClock } from "../support/fake-clock.ts";

setDefaultTimeout(60_000);

const never = new AbortController().signal;

/** Streams of one transfer that take whatever they get, in blocks; counts what has passed. */
function stream(
	bandwidth: Bandwidth,
	id: string,
	{ block, streams = 1, limit, total = Infinity }: StreamPlan,
) {
	const lane = bandwidth.join(id, limit);
	const stop = new AbortController();
	const counted = { bytes: 0, doneAtMs: Number.NaN, stop: () => stop.abort(), lane };
	const run = async (): Promise<void> => {
		while (!stop.signal.aborted && counted.bytes < total) {
			counted.bytes += block;
			await lane.pass(block, stop.signal);
		}
	};
	const done = Promise.all(Array.from({ length: streams }, run));
	return Object.assign(counted, { done });
}

interface StreamPlan {
	block: number;
	streams?: number;
	limit?: number;
	total?: number;
}

test("a node's rate is the rate of all its transfers together, whatever their blocks and streams", async () => {
	const plans = fc.array(
		fc.record({
			block: fc.integer({ min: 20_000, max: 300_000 }),
			streams: fc.integer({ min: 1, max: 8 }),
		}),
		{ minLength: 1, maxLength: 4 },
	);
	await fc.assert(
		fc.asyncProperty(plans, fc.integer({ min: 1_000_000, max: 20_000_000 }), async (list, rate) => {
			const clock = new FakeClock();
			const bandwidth = createBandwidth({ clock }, rate);
			const all = list.map((plan, at) => stream(bandwidth, `t${at}`, plan));
			await clock.advance(10_000);
			const passed = all.reduce((sum, { bytes }) => sum + bytes, 0);
			// Each stream has one block under way that is not paid for; a tenth of a second's bytes may pass after a
			// pause, and as many ahead of time.
			const underWay = list.reduce((sum, { block, streams }) => sum + block * streams, 0);
			expect(passed).toBeGreaterThan(rate * 10 * 0.97);
			expect(passed).toBeLessThan(rate * 10.2 + underWay + 300_000);
			for (const one of all) one.stop();
			await Promise.all(all.map(({ done }) => done));
		}),
		{ numRuns: 6 },
	);
});

test("transfers share a rate by bytes, not by streams or by the size of their blocks", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock }, 10_000_000);
	const large = stream(bandwidth, "large", { block: 250_000, streams: 8 });
	const small = stream(bandwidth, "small", { block: 10_000 });
	await clock.advance(10_000);
	expect(small.bytes / large.bytes).toBeGreaterThan(0.85);
	expect(small.bytes / large.bytes).toBeLessThan(1.15);
	for (const one of [large, small]) one.stop();
});

test("a small transfer beside large ones is done about when its share says, not when they are", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock }, 8_000_000);
	const large = ["a", "b", "c"].map((id) => stream(bandwidth, id, { block: 256_000, streams: 8 }));
	await clock.advance(3000);
	const startedMs = clock.monotonicMs();
	let doneMs = Number.NaN;
	const small = stream(bandwidth, "small", { block: 4_000, total: 1_000_000 });
	void small.done.then(() => (doneMs = clock.monotonicMs()));
	await clock.advance(3000);
	// A quarter of the rate is its own.
	expect(doneMs - startedMs).toBeLessThan(800);
	for (const one of large) one.stop();
});

test("a transfer's own limit holds beside the node's, and what it leaves is the others'", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock }, 10_000_000);
	const limited = stream(bandwidth, "limited", { block: 20_000, streams: 4, limit: 1_000_000 });
	const free = stream(bandwidth, "free", { block: 100_000, streams: 4 });
	await clock.advance(10_000);
	expect(limited.bytes).toBeGreaterThan(9_500_000);
	expect(limited.bytes).toBeLessThan(10_600_000);
	expect(free.bytes).toBeGreaterThan(86_000_000);
	for (const one of [limited, free]) one.stop();
});

test("a limit that changes counts at once, also for those that wait at a lower one", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock });
	const slow = stream(bandwidth, "slow", { block: 100_000, limit: 1000 });
	await clock.advance(1000);
	expect(slow.bytes).toBeLessThan(300_001);
	// At the old rate it would wait for more than a minute.
	bandwidth.setTransfer("slow", 10_000_000);
	await clock.advance(1000);
	expect(slow.bytes).toBeGreaterThan(9_000_000);
	bandwidth.setNode({ own: 1_000_000 });
	const before = slow.bytes;
	await clock.advance(2000);
	expect(slow.bytes - before).toBeLessThan(2_400_000);
	bandwidth.setNode({ share: 500_000 });
	const later = slow.bytes;
	await clock.advance(4000);
	expect(slow.bytes - later).toBeLessThan(2_300_000);
	expect(bandwidth.limits()).toEqual({ own: 1_000_000, share: 500_000 });
	slow.stop();
	await slow.done;
});

test("a limit that was set for a transfer stays its limit when it is run again, until it is forgotten", () => {
	const bandwidth = createBandwidth({ clock: new FakeClock() });
	bandwidth.setTransfer("t", 5000);
	{
		using lane = bandwidth.join("t", undefined);
		expect(lane.isLimited()).toBe(true);
	}
	bandwidth.setTransfer("t", undefined);
	{
		using lane = bandwidth.join("t", 7000);
		expect(lane.isLimited()).toBe(false);
	}
	bandwidth.forget("t");
	using lane = bandwidth.join("t", 7000);
	expect(lane.isLimited()).toBe(true);
});

test("without a limit nothing waits; a wait ends with its transfer", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock });
	using free = bandwidth.join("free", undefined);
	await free.pass(1e12, never);
	const stop = new AbortController();
	using stuck = bandwidth.join("stuck", 1000);
	const first = stuck.pass(1_000_000, stop.signal);
	const second = stuck.pass(1_000_000, stop.signal);
	stop.abort();
	await Promise.all([first, second]);
	const ended = bandwidth.join("ended", 1000);
	const waiting = ended.pass(1_000_000, never);
	ended[Symbol.dispose]();
	await waiting;
	expect(clock.sleeping).toBeLessThan(2);
});

test("what comes in one block under a transfer's limit is paid for before the block is done with", async () => {
	const clock = new FakeClock();
	const bandwidth = createBandwidth({ clock });
	using lane = bandwidth.join("small", 5_000);
	let isPaid = false;
	const paid = lane.pass(600_000, never).then(() => (isPaid = true));
	await clock.advance(118_000);
	expect(isPaid).toBe(false);
	await clock.advance(3_000);
	expect(isPaid).toBe(true);
	await paid;
});

test("what is not paid for yet when a limit is lowered is not paid for at the lower one", () => {
	const share = createFairShare(0);
	const block = (bytes: number) => ({ bytes, release: () => undefined });
	share.setRate(10_000_000);
	share.add("one", block(10_000_000));
	expect(share.advance(0)).toHaveLength(1);
	share.add("one", block(1));
	expect(share.advance(100)).toHaveLength(0);
	share.setRate(1000);
	expect(share.advance(200)).toHaveLength(1);
});
