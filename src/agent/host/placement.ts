/** Which node does it, when the request does not say: small rules, told in the refusal. */
import type { NodeView } from "../../core/cluster/cluster.ts";
import type { Cluster } from "../../core/cluster/cluster.ts";
import type { Registry } from "../../core/registry/registry.ts";
import { formatTier, parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid, modelNotFound } from "../../schema/errors.ts";
import { isServing } from "../../schema/service.ts";
import type { Nodes } from "./nodes.ts";

export interface Placed {
	node: string;
	tier: string;
	device: string;
}

/** A download without a node goes to the reachable node with the most room on that tier. */
export function placeDownload(nodes: Nodes, deviceText: string | undefined): Placed {
	const device = parseDevice(deviceText ?? "disk");
	if (device.node !== undefined || device.kind === "web") return nodes.target(deviceText ?? "disk");
	const tier = formatTier(device);
	const best = roomiest(nodes.reachable(), tier);
	if (best !== undefined) return { node: best.name, tier, device: `${best.name}:${tier}` };
	throw new GswarmError("RESOURCE_UNAVAILABLE", `No reachable node has the device ${JSON.stringify(tier)}.`, {
		reason: "no_node",
		details: { device: tier },
		hint: "`gswarm node list` shows the nodes and their devices.",
	});
}

/** Of the views that have the tier, the one with the most available bytes; ties by name. */
export function roomiest(views: readonly NodeView[], tier: string): NodeView | undefined {
	const room = (view: NodeView): number => view.beat?.tiers[tier]?.available ?? -1;
	return [...views]
		.filter((v) => room(v) >= 0)
		.sort((a, b) => room(b) - room(a) || (a.name < b.name ? -1 : 1))[0];
}

/** Memory before disk: the order in which a copy is preferred for serving. */
export function nearestTier(tiers: readonly string[]): string | undefined {
	return tiers.find((tier) => tier === "dram") ?? [...tiers].sort()[0];
}

/**
 * The devices a service starts on: the one named, one per named node, or the nearest copy of any reachable node.
 * @throws 404 MODEL_NOT_FOUND naming where the model is missing
 */
export function placeService(
	d: { nodes: Nodes; registry: Registry; cluster: Cluster },
	model: string,
	body: {
		device?: string | undefined;
		nodes?: string[] | undefined;
		revision?: string | undefined;
		replace?: boolean | undefined;
	},
): string[] {
	if (body.device !== undefined && body.nodes !== undefined) {
		throw invalid("bad_field", "Give either `device` or `nodes`, not both.", { field: "nodes" });
	}
	if (body.device !== undefined) return [servedOn(d, model, body.device)];
	const { revision = "" } = body;
	const named = revision === "" ? model : `${model}@${revision}`;
	// A GPU is served from because somebody says so.
	const ready = d.registry
		.locations(model)
		.filter((l) => l.status === "ready" && !l.tier.startsWith("gpu") && l.revision.startsWith(revision));
	if (body.replace === true) {
		const holders = d.cluster
			.services()
			.filter((s) => s.served_name !== null && s.model_name === model && isServing(s));
		const wanted = holders.filter((s) => body.nodes === undefined || body.nodes.includes(s.node));
		// Where nobody has the name yet, it is given where the model is.
		if (wanted.length > 0) return [...new Set(wanted.map((s) => s.device))];
	}
	const nearestOn = (node: string): string | undefined =>
		nearestTier(ready.filter((l) => l.node === node).map((l) => l.tier));
	if (body.nodes !== undefined) {
		return body.nodes.map((text) => {
			const { name } = d.cluster.view(text);
			const tier = nearestOn(name);
			if (tier === undefined) throw modelNotFound(named, name);
			return `${name}:${tier}`;
		});
	}
	const reachable = new Set(d.nodes.reachable().map((v) => v.name));
	const devices = ready.filter((l) => reachable.has(l.node)).map((l) => `${l.node}:${l.tier}`);
	const best = devices.find((device) => device.endsWith(":dram")) ?? devices[0];
	if (best === undefined) throw modelNotFound(named, "any reachable node");
	return [best];
}

/** The device that is named, which has to hold the model; a GPU's node has to, on whichever device. */
function servedOn(d: { nodes: Nodes; registry: Registry }, model: string, text: string): string {
	if (parseDevice(text).kind !== "gpu") return d.nodes.holding(text, model).device;
	const { node, device } = d.nodes.target(text);
	const isThere = d.registry.locations(model).some((l) => l.node === node && l.status === "ready");
	if (!isThere) throw modelNotFound(model, node);
	return device;
}
