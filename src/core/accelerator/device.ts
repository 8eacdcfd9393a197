/** One GPU of a node: what it is, what of its memory is free, and what models it holds. */
import type { ModelCopy } from "../../schema/model.ts";
import type { TierUsage } from "../../schema/node.ts";
import type { Holder } from "./holder/holder-process.ts";

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
}

export interface DeviceState {
	device: AcceleratorDevice;
	holder: Holder;
	slots: Map<string, Slot>;
	claims: Set<Claim>;
	/** As the driver said last; undefined: not heard of yet. */
	freeBytes: number | undefined;
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
