/** Device names: `<node>:<tier>`, e.g. `node1:disk`, `node1:gpu0`; without a node the one that is asked; `web` takes none. */
import { invalid } from "./errors.ts";
import { type NodeName, parseNodeName } from "./names.ts";

export type TierKind = "web" | "disk" | "dram" | "gpu";

export interface Device {
	/** Undefined means the node that is asked; a prefix that is there is never dropped. */
	node: NodeName | undefined;
	kind: TierKind;
	/** Which disk or GPU; 0 for the first. dram and web have only 0. */
	index: number;
}

/**
 * Parses a device name; the indexed form of the design (`node1:gpu:0`, `node1:disk:1`) is accepted too.
 * @throws 400 bad_device
 */
export function parseDevice(text: string): Device {
	const parts = text.split(":");
	const last = parts.at(-1) ?? "";
	const indexed = parts.length > 1 && /^\d{1,3}$/.test(last);
	const tierText = indexed ? `${parts.at(-2) ?? ""}${last}` : last;
	const nodeParts = parts.slice(0, indexed ? -2 : -1);
	const tier = /^(?:(web|dram)|(disk)(\d{0,3})|(gpu)(\d{1,3}))$/.exec(tierText);
	if (tier === null || nodeParts.length > 1) throw badDevice(text);
	const kind = (tier[1] ?? tier[2] ?? tier[4]) as TierKind;
	const index = Number(tier[3] ?? tier[5] ?? 0);
	if (kind === "web" && nodeParts.length > 0) throw badDevice(text);
	const [nodeText] = nodeParts;
	if (nodeText === undefined) return { node: undefined, kind, index };
	if (nodeText === "") throw badDevice(text);
	return { node: parseNodeName(nodeText), kind, index };
}

/** The tier part of a device as the wire writes it: `web`, `disk`, `disk1`, `dram`, `gpu0`. */
export function formatTier(device: Pick<Device, "kind" | "index">): string {
	switch (device.kind) {
		case "web":
		case "dram":
			return device.kind;
		case "disk":
			return device.index === 0 ? "disk" : `disk${device.index}`;
		case "gpu":
			return `gpu${device.index}`;
	}
}

/** The whole name as the wire writes it. */
export function formatDevice(device: Device): string {
	const tier = formatTier(device);
	return device.node === undefined ? tier : `${device.node}:${tier}`;
}

/** Durable tiers keep their bytes over a restart of the machine. `web` never counts as a copy. */
export function isDurable(device: Pick<Device, "kind">): boolean {
	return device.kind === "disk";
}

function badDevice(text: string): Error {
	return invalid(
		"bad_device",
		`${JSON.stringify(text.slice(0, 120))} is not a device: wanted [node:]disk, [node:]diskN, [node:]dram, [node:]gpuN or web.`,
		{ field: "device" },
		"`gswarm node list` shows the nodes and their devices.",
	);
}
