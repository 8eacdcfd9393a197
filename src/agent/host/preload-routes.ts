/** The host's routes about what will be wanted in memory: each node knows its own uses and plans for itself. */
import { asGswarmError, modelNotFound } from "../../schema/errors.ts";
import { type ModelName, parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import { roomiest } from "./placement.ts";

type PreloadRoutes = Pick<Handlers<"host">, "hintModel" | "dropHint" | "getPreload">;

export function preloadRoutes(
	d: Pick<HostRouteDependencies, "registry" | "nodes" | "cluster" | "log">,
): PreloadRoutes {
	return {
		hintModel: async ({ params, body: { device, ...when } }) => {
			const model = parseModelName(params.model_name);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const target = device === undefined ? placeHint(d, model) : d.nodes.target(device);
			return d.nodes
				.client(target.node)
				.call("hintModel", { params, body: { ...when, device: target.device } });
		},
		dropHint: async ({ params }) => {
			const model = parseModelName(params.model_name);
			const answers = await Promise.all(
				d.nodes.reachable().map(({ name }) => d.nodes.client(name).call("dropHint", { params })),
			);
			return { model_name: model, dropped: answers.some(({ dropped }) => dropped) };
		},
		getPreload: async ({ query: { node } }) => {
			if (node !== undefined) return d.nodes.client(node).call("getPreload", {});
			const plans = await Promise.all(
				d.nodes.reachable().map(async ({ name }) => {
					try {
						return (await d.nodes.client(name).call("getPreload", {})).plans;
					} catch (error) {
						// One node that does not answer does not hide what the others plan.
						const { code, reason } = asGswarmError(error);
						d.log.warn("preload.node_left_out", { node: name, code, reason });
						return [];
					}
				}),
			);
			return { plans: plans.flat() };
		},
	};
}

/** Of the nodes that have it on a disk the one that has it in memory already, else the one with the most memory free. */
function placeHint(
	d: Pick<HostRouteDependencies, "registry" | "nodes">,
	model: ModelName,
): { node: string; device: string } {
	const ready = d.registry.locations(model).filter(({ status }) => status === "ready");
	const holders = d.nodes
		.reachable()
		.filter(({ name }) => ready.some(({ node, tier }) => node === name && tier.startsWith("disk")));
	const best =
		holders.find(({ name }) => ready.some(({ node, tier }) => node === name && tier === "dram")) ??
		roomiest(holders, "dram");
	if (best === undefined) throw modelNotFound(model, "a disk of a reachable node with memory for models");
	return { node: best.name, device: `${best.name}:dram` };
}
