import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
	createBusyWatch,
	createLoadSampler,
	loadBetween,
	type MachineLoad,
	type MachineCounters,
	readCounters,
} from "../../src/platform/machine-load.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

test("counters are those of all processors, and of all interfaces but loopback", () => {
	using dir = tempDir();
	mkdirSync(join(dir.path, "proc/net"), { recursive: true });
	writeFileSync(join(dir.path, "proc/stat"), "cpu  10 0 20 60 10 0 0 0 5 5\ncpu0 1 1 1 1\n");
	writeFileSync(
		join(dir.path, "proc/net/dev"),
		"Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 40 1 0 0 0 0 0 0\n  eth1:5 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n",
	);
	expect(readCounters(dir.path)).toEqual({
		cpu: { total: 100, idle: 70 },
		network: { received: 105, sent: 42 },
	});
	expect(readCounters(join(dir.path, "nowhere"))).toEqual({ cpu: undefined, network: undefined });
});

test("load is the difference of two moments, never below zero or above all", () => {
	const at = (total: number, idle: number, received: number): MachineCounters => ({
		cpu: { total, idle },
		network: { received, sent: 0 },
	});
	expect(loadBetween(at(100, 50, 1000), at(200, 75, 3000), 2000)).toEqual({
		cpuPercent: 75,
		inBytesPerSecond: 1000,
		outBytesPerSecond: 0,
	});
	expect(loadBetween(at(100, 50, 1000), at(100, 50, 10), 1000)).toMatchObject({
		cpuPercent: null,
		inBytesPerSecond: 0,
	});
	const nothing = { cpu: undefined, network: undefined };
	expect(loadBetween(nothing, nothing, 1000)).toEqual({
		cpuPercent: null,
		inBytesPerSecond: null,
		outBytesPerSecond: null,
	});
});

test("a sample is of the time since the last one, not since the machine started; many at once are one", async () => {
	const clock = new FakeClock();
	let busy = 1000;
	let reads = 0;
	const sampler = createLoadSampler({ clock }, () => {
		reads++;
		return {
			cpu: { total: clock.monotonicMs() + 10_000, idle: clock.monotonicMs() + 10_000 - busy },
			network: undefined,
		};
	});
	const first = Promise.all([sampler.sample(), sampler.sample()]);
	await clock.advance(250);
	const [one, two] = await first;
	expect(one).toBe(two);
	expect(reads).toBe(2);
	expect(one.cpuPercent).toBe(0);
	await clock.advance(1000);
	busy += 500;
	expect((await sampler.sample()).cpuPercent).toBe(50);
});

test("whether the processors are busy is answered at once, from what was measured since it was asked before", async () => {
	const percents = [80, null, 70];
	const sample = (): Promise<MachineLoad> =>
		Promise.resolve({
			cpuPercent: percents.shift() ?? null,
			inBytesPerSecond: null,
			outBytesPerSecond: null,
		});
	const isBusy = createBusyWatch({ sample }, 4);
	const answers: boolean[] = [];
	for (let asked = 0; asked < 3; asked++) {
		answers.push(isBusy());
		await Promise.resolve();
	}
	expect(answers).toEqual([false, true, false]);
});
