/** How busy the machine is now: its processors and its network, as differences of the kernel's counters. Linux. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "./clock.ts";

export interface MachineLoad {
	/** Percent of all processors, 0 to 100; null where the system does not tell. */
	cpuPercent: number | null;
	/** Of all interfaces but loopback. */
	inBytesPerSecond: number | null;
	outBytesPerSecond: number | null;
}

export interface MachineCounters {
	/** Ticks of all processors: all, and those in which they did nothing. */
	cpu: { total: number; idle: number } | undefined;
	network: { received: number; sent: number } | undefined;
}

export interface LoadSampler {
	/** Over the time since the last call, or a moment where that is long ago. */
	sample(): Promise<MachineLoad>;
}

/** A shorter one says more of chance than of load. */
const SHORTEST_MS = 250;
/** What was a minute ago is not now. */
const LONGEST_MS = 15_000;
/** With less than one processor doing nothing new work takes time from other work. */
const SPARE_PROCESSORS = 1;

/** `read` is for tests. */
export function createLoadSampler(
	{ clock }: { clock: Clock },
	read: () => MachineCounters = readCounters,
): LoadSampler {
	let last: { at: number; counters: MachineCounters } | undefined;
	let latest: MachineLoad | undefined;
	let running: Promise<MachineLoad> | undefined;
	const take = async (): Promise<MachineLoad> => {
		const age = (): number => (last === undefined ? Number.POSITIVE_INFINITY : clock.monotonicMs() - last.at);
		if (age() < SHORTEST_MS && latest !== undefined) return latest;
		if (age() > LONGEST_MS) last = { at: clock.monotonicMs(), counters: read() };
		if (age() < SHORTEST_MS) await clock.sleep(SHORTEST_MS - age());
		const before = last as { at: number; counters: MachineCounters };
		const now = { at: clock.monotonicMs(), counters: read() };
		latest = loadBetween(before.counters, now.counters, now.at - before.at);
		last = now;
		return latest;
	};
	return {
		sample() {
			running ??= take().finally(() => {
				running = undefined;
			});
			return running;
		},
	};
}

export function loadBetween(before: MachineCounters, now: MachineCounters, ms: number): MachineLoad {
	const ticks = before.cpu && now.cpu && now.cpu.total - before.cpu.total;
	const idle = before.cpu && now.cpu && now.cpu.idle - before.cpu.idle;
	// Counters of an interface that went away and came back begin anew.
	const perSecond = (was: number | undefined, is: number | undefined): number | null =>
		was === undefined || is === undefined || ms <= 0 ? null : (Math.max(0, is - was) * 1000) / ms;
	return {
		cpuPercent:
			ticks === undefined || idle === undefined || ticks <= 0
				? null
				: Math.min(100, Math.max(0, (1 - idle / ticks) * 100)),
		inBytesPerSecond: perSecond(before.network?.received, now.network?.received),
		outBytesPerSecond: perSecond(before.network?.sent, now.network?.sent),
	};
}

/**
 * Whether the processors had no time left when that was asked for the last time: the answer is there at once, and
 * being asked keeps it fresh. Unknown, also on other systems: not busy.
 */
export function createBusyWatch(sampler: LoadSampler, processors: number): () => boolean {
	let isBusy = false;
	const look = async (): Promise<void> => {
		const { cpuPercent } = await sampler.sample();
		isBusy = (1 - (cpuPercent ?? 0) / 100) * processors < SPARE_PROCESSORS;
	};
	return () => {
		void look();
		return isBusy;
	};
}

/** From `/proc`; what is not there is undefined. `root` is for tests. */
export function readCounters(root = "/"): MachineCounters {
	const cpu = /^cpu\s+([\d ]+)$/m.exec(textOf(join(root, "proc/stat")));
	const ticks = cpu?.[1]?.trim().split(/\s+/).map(Number);
	const lines = [...textOf(join(root, "proc/net/dev")).matchAll(/^\s*([^\s:]+):\s*(.*)$/gm)];
	let received = 0;
	let sent = 0;
	for (const [, name, rest = ""] of lines) {
		if (name === "lo") continue;
		const fields = rest.trim().split(/\s+/).map(Number);
		received += fields[0] ?? 0;
		sent += fields[8] ?? 0;
	}
	return {
		// Guests are in `user` already; waiting for a disk is doing nothing.
		cpu: ticks && {
			total: ticks.slice(0, 8).reduce((sum, one) => sum + one, 0),
			idle: (ticks[3] ?? 0) + (ticks[4] ?? 0),
		},
		network: lines.length === 0 ? undefined : { received, sent },
	};
}

function textOf(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return "";
	}
}
