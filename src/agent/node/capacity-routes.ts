/** The node's routes about what its devices have: who would go from a full one, and who may not. */
import { invalid, modelNotFound } from "../../schema/errors.ts";
import { type Revision, parseModelName } from "../../schema/names.ts";
import type { EvictionPlan } from "../../schema/eviction.ts";
import type { Handlers } from "../http/app.ts";
import { isGpu } from "./holdings.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";

/** What the task of an eviction keeps. */
export interface EvictRequest {
	device: string;
	/** null: down to the low watermark. */
	bytes: number | null;
}

type CapacityRoutes = Pick<Handlers<"node">, "getResources" | "planEviction" | "evictModels" | "pinModel">;

export function capacityRoutes(d: NodeRouteDependencies, requests: NodeRequests): CapacityRoutes {
	const { deviceHere, submit, resources } = requests;
	const planOf = async (tier: string, bytes: number | undefined): Promise<EvictionPlan> =>
		isGpu(tier) ? d.gpuEviction.plan(tier, bytes) : d.eviction.plan(tier, bytes);
	return {
		getResources: ({ query }) => {
			if (query.node !== undefined && query.node !== d.nodeName) {
				throw invalid(
					"wrong_node",
					`This node is ${d.nodeName}.`,
					{ node: query.node },
					`Ask the host, ${d.hostUrl()}.`,
				);
			}
			return d.resources();
		},
		planEviction: ({ query }) => planOf(deviceHere(query.device), query.bytes),
		evictModels: async ({ body, request, caller }) => {
			const tier = deviceHere(body.device);
			const plan = await planOf(tier, body.bytes);
			if (!plan.suffices) throw d.eviction.refusal(plan);
			const device = `${d.nodeName}:${tier}`;
			const evict: EvictRequest = { device, bytes: body.bytes ?? null };
			const models = plan.copies.filter((c) => c.verdict === "goes").map((c) => c.model_name);
			const more = {
				reservations: [],
				resources: resources([...new Set(models)], [tier]),
				joinKey: `evict ${device} ${body.bytes ?? "low"}`,
			};
			return submit("evict", tier, evict, body.priority, more, { request, caller });
		},
		pinModel: async ({ params, body }) => {
			const model = parseModelName(params.model_name);
			const tier = body.device === undefined ? undefined : deviceHere(body.device);
			// What an engine has on a GPU stays as long as it runs.
			const held = d.accelerator.residencies().filter((copy) => copy.model_name === model);
			const copies = [...d.storage.copies({ model }), ...held].filter(
				(copy) => tier === undefined || copy.tier === tier,
			);
			if (copies.length === 0)
				throw modelNotFound(model, tier === undefined ? d.nodeName : `${d.nodeName}:${tier}`);
			for (const copy of copies) {
				if (isGpu(copy.tier)) d.accelerator.mark(copy, { pinned: body.pinned });
				else await d.storage.pin(model, copy.revision as Revision, copy.tier, body.pinned);
			}
			return {
				model_name: model,
				pinned: body.pinned,
				devices: [...new Set(copies.map((copy) => `${d.nodeName}:${copy.tier}`))],
				unreachable: [],
			};
		},
	};
}
