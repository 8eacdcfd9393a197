/** What this machine has and how much of it is in use, read when it is asked for. */
import { availableParallelism } from "node:os";
import type { Accelerator } from "../../core/accelerator/accelerator.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Bandwidth } from "../../core/transfer/transfer.ts";
import type { LoadSampler } from "../../platform/machine-load.ts";
import type { MemoryReader } from "../../platform/memory.ts";
import type { NodeResources } from "../../schema/resources.ts";
import type { Eviction } from "./eviction.ts";
import type { GpuEviction } from "./gpu-eviction.ts";

export interface ResourceDependencies {
	nodeName: string;
	storage: Storage;
	accelerator: Accelerator;
	eviction: Pick<Eviction, "usage" | "counters">;
	gpuEviction: Pick<GpuEviction, "usage" | "counters">;
	bandwidth: { down: Bandwidth; up: Bandwidth };
	load: LoadSampler;
	memory: MemoryReader;
}

export async function readResources(d: ResourceDependencies): Promise<NodeResources> {
	const { cpuPercent, inBytesPerSecond, outBytesPerSecond } = await d.load.sample();
	const storage: NodeResources["storage"] = {};
	for (const { name, limitBytes } of d.storage.tiers()) {
		const { total, available, floor } = d.storage.filesystem(name);
		storage[name] = {
			...d.eviction.usage(name),
			limit: limitBytes ?? null,
			filesystem: { total, available, floor },
			evicted: d.eviction.counters(name),
		};
	}
	const compute: NodeResources["compute"] = {
		cpu: { cores: availableParallelism(), usage: cpuPercent === null ? null : round(cpuPercent) },
	};
	for (const { device, memory, simulated, ...reading } of d.accelerator.readDevices()) {
		if (memory !== null)
			storage[device] = { ...d.gpuEviction.usage(device), evicted: d.gpuEviction.counters(device) };
		compute[device] = { ...reading, ...(simulated ? { simulated: true as const } : {}) };
	}
	const memory = d.memory.read();
	return {
		storage,
		compute,
		network: {
			bandwidth: {
				in: inBytesPerSecond === null ? null : Math.round(inBytesPerSecond),
				out: outBytesPerSecond === null ? null : Math.round(outBytesPerSecond),
				limit_in: limitOf(d.bandwidth.down),
				limit_out: limitOf(d.bandwidth.up),
			},
		},
		memory:
			memory === undefined
				? null
				: { total: memory.totalBytes, available: memory.availableBytes, limit: memory.limitBytes ?? null },
		node: d.nodeName,
	};
}

/** Its own, or its share of the cluster's, the smaller. */
function limitOf(bandwidth: Bandwidth): number | null {
	const { own, share } = bandwidth.limits();
	const limit = Math.min(own ?? Number.POSITIVE_INFINITY, share ?? Number.POSITIVE_INFINITY);
	return Number.isFinite(limit) ? limit : null;
}

function round(percent: number): number {
	return Math.round(percent * 10) / 10;
}
