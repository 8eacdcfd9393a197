/** The host's routes about services, and its gateway. */
import { serviceIdOf } from "../../core/service/service.ts";
import { asGswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import type { DeployRequest } from "./operations.ts";
import { nearestTier, placeService } from "./placement.ts";
import type { Order } from "./task-order.ts";

type ServiceRoutes = Pick<
	Handlers<"host">,
	| "listServices"
	| "startService"
	| "stopService"
	| "serviceStatus"
	| "serviceLogs"
	| "gatewayModels"
	| "gatewayChat"
	| "gatewayCompletions"
	| "gatewayEmbeddings"
>;

export function serviceRoutes(d: HostRouteDependencies, requests: HostRequests): ServiceRoutes {
	const { submit, order, forwarded, passKey } = requests;
	const serviceById = (id: string) => {
		const service = d.cluster.services().find((s) => s.service_id === id);
		if (service === undefined) throw notFound("service", id, "`gswarm service list` shows the services.");
		return service;
	};

	return {
		listServices: () => {
			const services = d.cluster.services();
			return { services, total: services.length };
		},
		startService: async ({ body, request }) => {
			const model = parseModelName(body.model_name);
			const after = await order(body.dependencies);
			const devices = devicesOf(d, model, body, after);
			const { nodes: _nodes, device: _device, dependencies: _dependencies, ...rest } = body;
			const [only] = devices;
			const node = only === undefined ? "" : d.nodes.target(only).node;
			if (only !== undefined && devices.length === 1 && after.isOf(node)) {
				const answer = await d.nodes.client(node).call("startService", {
					body: { ...rest, dependencies: after.on(node), device: only },
					headers: passKey(request.headers),
				});
				return forwarded(answer);
			}
			const { replicas, ...config } = rest.config;
			if (replicas !== undefined && replicas !== devices.length) {
				throw invalid(
					"replicas_not_supported",
					`${replicas} replicas on ${devices.length} nodes: one instance per node is what is possible.`,
					{ field: "config.replicas", nodes: devices.length },
				);
			}
			const deploy: DeployRequest = { model_name: model, devices, body: { ...rest, config } };
			const resources = { devices, models: [model], exclusive: false };
			const more = { priority: body.priority, resources, ...after.own };
			const ids = devices.map((device) => {
				const place = d.nodes.target(device);
				const here = d.registry
					.locations(model)
					.find(
						(l) =>
							l.node === place.node && l.tier === place.tier && l.revision.startsWith(body.revision ?? ""),
					);
				return serviceIdOf(model, place.node, place.tier, body.revision && here?.revision);
			});
			return {
				...(await submit("serve", model, deploy, more, request.headers)),
				service_id: ids[0] ?? "",
				service_ids: ids,
			};
		},
		stopService: async ({ params, request }) => {
			const service = serviceById(params.service_id);
			const client = d.nodes.client(service.node);
			return forwarded(await client.call("stopService", { params, headers: passKey(request.headers) }));
		},
		serviceStatus: ({ params }) =>
			d.nodes.client(serviceById(params.service_id).node).call("serviceStatus", { params }),
		serviceLogs: ({ params, query }) =>
			d.nodes.client(serviceById(params.service_id).node).open("serviceLogs", { params, query }),

		gatewayModels: ({ request }) => d.gateway.handle(request, "/v1/models"),
		gatewayChat: ({ request }) => d.gateway.handle(request, "/v1/chat/completions"),
		gatewayCompletions: ({ request }) => d.gateway.handle(request, "/v1/completions"),
		gatewayEmbeddings: ({ request }) => d.gateway.handle(request, "/v1/embeddings"),
	};
}

/** Where it starts; with dependencies also where these bring the model. @throws as placeService */
function devicesOf(
	d: HostRouteDependencies,
	model: string,
	body: { device?: string | undefined; nodes?: string[] | undefined },
	after: Order,
): string[] {
	try {
		if (!d.registry.has(model)) throw modelNotFound(model);
		return placeService(d, model, body);
	} catch (error) {
		if (asGswarmError(error).code !== "MODEL_NOT_FOUND" || !after.waits) throw error;
		if (body.device !== undefined) return [d.nodes.target(body.device).device];
		const coming = after.devicesOf(model).map((one) => d.nodes.target(one));
		if (body.nodes !== undefined) {
			return body.nodes.map((text) => {
				const { name } = d.cluster.view(text);
				const tiers = coming.filter((one) => one.node === name).map(({ tier }) => tier);
				const tier = nearestTier(tiers);
				if (tier === undefined) throw error;
				return `${name}:${tier}`;
			});
		}
		const best = coming.find(({ tier }) => tier === "dram") ?? coming[0];
		if (best === undefined) throw error;
		return [best.device];
	}
}
