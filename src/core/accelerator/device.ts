/** One GPU of a node: what it is, what of its memory is free, and what models it holds. */
import type { ModelCopy } from "../../schema/model.ts";
import type { TierUsage } from "../../schema/node.ts";
import type { Holder } from "./holder/holder-process.ts";
import type { GpuReading } from "./probe/reading.ts";

export interface AcceleratorDevice {
	/** `gpu0`: the number that the vendor's own tool shows. */
	name: string;
	product: string;
	/** By which the driver knows it. */
	uuid: string | undefined;
	totalBytes: number;
	/** There is no such GPU: its memory is the machine's. */
	simulated: boolean;
	/** Why no model can be loaded to it; undefined: one can. */
	problem: string | undefined;
}

/** A model in the memory of a device, and the process that holds it there. */
export interface Slot {
	/** By which the holder knows it. */
	id: number;
	copy: ModelCopy;
	/** Of its files, in the manifest's order; what another process maps. */
	handles: readonly (string | null)[];
	paths: readonly string[];
	/** Why it is in use, once per holder. */
	uses: string[];
}

/** Bytes that something takes of a device: a load under way, or an engine beside us. */
export interface Claim {
	bytes: number;
	/** The driver's figures have it already. */
	isCounted: boolean;
	/** Of a model that is being loaded, and may give way once it is. */
	isLoad: boolean;
}

export interface DeviceState {
	device: AcceleratorDevice;
	holder: Holder;
	slots: Map<string, Slot>;
	claims: Set<Claim>;
	/** As the driver said last, and when; undefined: not heard of yet. */
	freeBytes: number | undefined;
	freeAtMs: number;
	/** What the last look at the machine's GPUs said of it, and when (seconds since the epoch). */
	reading: { gpu: GpuReading; at: number } | undefined;
}

/** A device with all that is known of it now; null: nobody tells. */
export interface DeviceReading {
	device: string;
	product: string;
	uuid: string | null;
	simulated: boolean;
	problem: string | null;
	/** Null where it cannot be used. */
	memory: TierUsage | null;
	/** Percent. */
	usage: number | null;
	/** Degrees Celsius. */
	temperature: number | null;
	power_w: number | null;
	power_limit_w: number | null;
	clock_mhz: number | null;
	memory_clock_mhz: number | null;
	processes: { pid: number; used_bytes: number | null }[];
	/** Seconds since the epoch. */
	read_at: number | null;
}

export function readingOf(state: DeviceState): DeviceReading {
	const { device, reading } = state;
	const gpu = reading?.gpu;
	return {
		device: device.name,
		product: device.product,
		uuid: device.uuid ?? null,
		simulated: device.simulated,
		problem: device.problem ?? null,
		memory: device.problem === undefined ? usageOf(state) : null,
		usage: gpu?.usagePercent ?? null,
		temperature: gpu?.temperatureC ?? null,
		power_w: gpu?.powerW ?? null,
		power_limit_w: gpu?.powerLimitW ?? null,
		clock_mhz: gpu?.clockMhz ?? null,
		memory_clock_mhz: gpu?.memoryClockMhz ?? null,
		processes: (gpu?.processes ?? []).map(({ pid, usedBytes }) => ({ pid, used_bytes: usedBytes })),
		read_at: reading?.at ?? null,
	};
}

/** A GPU of the machine as a device. */
export function deviceOf(gpu: GpuReading): AcceleratorDevice {
	const unknown = gpu.totalBytes === null ? "the size of its memory cannot be read" : undefined;
	return {
		name: `gpu${gpu.index}`,
		product: gpu.product,
		uuid: gpu.uuid ?? undefined,
		totalBytes: gpu.totalBytes ?? 0,
		simulated: false,
		problem: gpu.problem ?? unknown,
	};
}

export function slotKey({ model_name, revision }: Pick<ModelCopy, "model_name" | "revision">): string {
	return `${model_name}@${revision}`;
}

/** What is there, what is taken and by whom, what is asked for and not taken yet. */
export function usageOf({ device, slots, claims, freeBytes }: DeviceState): TierUsage {
	const sum = (all: readonly Claim[]): number => all.reduce((bytes, one) => bytes + one.bytes, 0);
	const held = [...slots.values()].reduce((bytes, { copy }) => bytes + copy.size_bytes, 0);
	const counted = sum([...claims].filter(({ isCounted }) => isCounted));
	const reserved = sum([...claims].filter(({ isCounted }) => !isCounted));
	const { totalBytes: total } = device;
	// Nobody but us takes anything of a device that is not there.
	const used = device.simulated || freeBytes === undefined ? held + counted : Math.max(0, total - freeBytes);
	return {
		total,
		used,
		reserved,
		available: Math.max(0, total - used - reserved),
		...(device.simulated ? { simulated: true as const } : {}),
	};
}
