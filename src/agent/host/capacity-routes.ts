/** The host's routes about what devices have: each is answered by the node of the device. */
import { isReachable } from "../../core/cluster/cluster.ts";
import { asGswarmError, modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { NodeResources } from "../../schema/resources.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import { clusterResources } from "./cluster-resources.ts";
import { nodeUnreachable } from "./nodes.ts";

type CapacityRoutes = Pick<
	Handlers<"host">,
	"getResources" | "planEviction" | "evictModels" | "pinModel" | "findCopies"
>;

export function capacityRoutes(
	d: HostRouteDependencies,
	{ forwarded, passKey }: HostRequests,
): CapacityRoutes {
	return {
		getResources: async ({ query }) => {
			if (query.node !== undefined) {
				const { name } = d.cluster.view(query.node);
				return d.nodes.client(name).call("getResources", {});
			}
			const views = d.cluster.views();
			const asked = views.map(async ({ name }) => [name, await resourcesOf(d, name)] as const);
			const answers = await Promise.all(asked);
			const nodes = answers.flatMap(([name, answer]) =>
				answer === undefined ? [] : [[name, answer] as const],
			);
			const missing = answers.flatMap(([name, answer]) => (answer === undefined ? [name] : []));
			return clusterResources(Object.fromEntries(nodes), missing);
		},
		planEviction: ({ query }) => {
			const { node, device } = d.nodes.target(query.device);
			const bytes = query.bytes === undefined ? {} : { bytes: String(query.bytes) };
			return d.nodes.client(node).call("planEviction", { query: { device, ...bytes } });
		},
		evictModels: async ({ body, request }) => {
			const { node, device } = d.nodes.target(body.device);
			const input = { body: { ...body, device }, headers: passKey(request.headers) };
			return forwarded(await d.nodes.client(node).call("evictModels", input));
		},
		pinModel: async ({ params, body }) => {
			const model = parseModelName(params.model_name);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const target = body.device === undefined ? undefined : d.nodes.target(body.device);
			const here = d.registry
				.locations(model)
				.filter((l) => l.claimed === 0 && (target === undefined || `${l.node}:${l.tier}` === target.device));
			const nodes = [...new Set(here.map((l) => l.node))];
			if (nodes.length === 0) throw modelNotFound(model, target?.device ?? "any node");
			const devices: string[] = [];
			const unreachable: string[] = [];
			for (const node of nodes) {
				try {
					const device = target === undefined ? {} : { device: target.device };
					const input = { params: { model_name: model }, body: { ...device, pinned: body.pinned } };
					devices.push(...(await d.nodes.client(node).call("pinModel", input)).devices);
				} catch (error) {
					const { code, reason } = asGswarmError(error);
					if (code !== "NETWORK_ERROR" && reason !== "node_unreachable") throw error;
					unreachable.push(node);
				}
			}
			const [first] = unreachable;
			if (first !== undefined && devices.length === 0)
				throw nodeUnreachable(first, d.cluster.view(first).liveness);
			return { model_name: model, pinned: body.pinned, devices, unreachable };
		},
		findCopies: ({ body, caller }) => {
			const alive = d.cluster
				.views()
				.filter((v) => v.name !== caller?.node && isReachable(v.liveness) && d.inventoryVersions.has(v.name))
				.map((v) => v.name);
			return { copies: d.registry.whereabouts(body.revisions, alive) };
		},
	};
}

/** One slow machine does not keep the figures of the others. */
const LIMIT_MS = 5_000;

/** Undefined for a node that cannot be asked now. */
async function resourcesOf(d: HostRouteDependencies, node: string): Promise<NodeResources | undefined> {
	try {
		return await d.nodes.client(node).call("getResources", { signal: AbortSignal.timeout(LIMIT_MS) });
	} catch (error) {
		d.log.debug("resources.node_missing", { node, error });
		return undefined;
	}
}
