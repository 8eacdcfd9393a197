/** The node's routes about services, and its gateway. */
import { modelReservation } from "../../core/queue/queue.ts";
import { serviceIdOf } from "../../core/service/service.ts";
import { invalid, modelNotFound } from "../../schema/errors.ts";
import { type ServiceDocument, isServing } from "../../schema/service.ts";
import { type ModelName, parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import { textResponse } from "../http/text.ts";
import { isGpu } from "./holdings.ts";
import type { NodeRouteDependencies, NodeRequests } from "./node-requests.ts";
import { copyNowOr, requireCopy } from "./named-copy.ts";
import type { ServeRequest } from "./serve-task.ts";

type ServiceRoutes = Pick<
	Handlers<"node">,
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

export function serviceRoutes(d: NodeRouteDependencies, requests: NodeRequests): ServiceRoutes {
	const { deviceHere, submit, tiersComing, resources } = requests;
	return {
		listServices: () => {
			const services = d.services.list();
			return { services, total: services.length };
		},
		startService: async ({ body, request, caller }) => {
			const model = parseModelName(body.model_name);
			if (body.nodes?.some((name) => name !== d.nodeName) === true) {
				throw invalid(
					"wrong_node",
					`This node is ${d.nodeName}; several nodes are the host's work.`,
					{ nodes: body.nodes },
					`Send the request to the host, ${d.hostUrl()}.`,
				);
			}
			const coming = tiersComing(model, body.dependencies);
			const tier =
				body.device === undefined ? servingTier(d, model, body.revision, coming) : deviceHere(body.device);
			const { replace = false } = body;
			const now = namedService(d.services.list(), model, `${d.nodeName}:${tier}`);
			// Who has the name goes on with what it serves; another revision gets it by `replace`.
			const asked = body.revision ?? (replace ? undefined : now?.revision);
			// Which revision a task before will bring is not known yet.
			const isNewest = body.revision === undefined && !replace;
			const copy = copyNowOr(isNewest ? body.dependencies : undefined, () =>
				isGpu(tier)
					? d.devices.servable(model, tier, asked)
					: requireCopy(d.storage, model, tier, d.nodeName, asked),
			);
			if (body.config.replicas !== undefined && body.config.replicas > 1) {
				throw invalid(
					"replicas_not_supported",
					"One instance per node and device; for more, name more nodes.",
					{ field: "config.replicas" },
				);
			}
			const same = (revision: string): ServiceDocument | undefined =>
				d.services
					.list()
					.find(
						(s) => s.model_name === model && s.device === `${d.nodeName}:${tier}` && s.revision === revision,
					);
			const own = isNewest || copy === undefined ? now : same(copy.revision);
			const ofRevision = isNewest ? undefined : copy?.revision;
			const serviceId = own?.service_id ?? serviceIdOf(model, d.nodeName, tier, ofRevision);
			const { port: configPort, replicas: _replicas, framework: _framework, ...config } = body.config;
			const serve: ServeRequest = {
				model_name: model,
				device: `${d.nodeName}:${tier}`,
				service_id: serviceId,
				port: body.port ?? configPort ?? own?.port ?? null,
				config,
				...(copy === undefined ? {} : { revision: copy.revision }),
				...(isNewest ? {} : { has_name: replace }),
				...(replace ? { replaces: now?.service_id ?? null } : {}),
			};
			const more = {
				reservations: [modelReservation(model, tier, "shared")],
				resources: resources([model], [tier]),
				joinKey: `serve ${serviceId} ${replace}`,
				dependencies: body.dependencies,
				sizeBytes: copy?.size_bytes,
			};
			return {
				...(await submit("serve", model, serve, body.priority, more, { request, caller })),
				service_id: serviceId,
			};
		},
		stopService: async ({ params, request, caller }) => {
			const service = d.services.get(params.service_id);
			const more = {
				resources: { devices: [service.device], models: [service.model_name], exclusive: false },
				joinKey: `stop ${service.service_id}`,
			};
			return submit("stop", service.model_name, { service_id: service.service_id }, "critical", more, {
				request,
				caller,
			});
		},
		serviceStatus: ({ params }) => d.services.get(params.service_id),
		serviceLogs: async ({ params, query }) =>
			textResponse(await d.services.logs(params.service_id, query.lines)),

		gatewayModels: ({ request }) => d.gateway.handle(request, "/v1/models"),
		gatewayChat: ({ request }) => d.gateway.handle(request, "/v1/chat/completions"),
		gatewayCompletions: ({ request }) => d.gateway.handle(request, "/v1/completions"),
		gatewayEmbeddings: ({ request }) => d.gateway.handle(request, "/v1/embeddings"),
	};
}

/** The service on a device that answers to the model's name. */
function namedService(
	services: readonly ServiceDocument[],
	model: string,
	device: string,
): ServiceDocument | undefined {
	return services.find((s) => s.served_name === model && s.device === device && isServing(s));
}

/** Serving without a device: the nearest tier that has the model, or will have it when the task begins. */
function servingTier(
	{ storage, nodeName }: Pick<NodeRouteDependencies, "storage" | "nodeName">,
	model: ModelName,
	revision: string | undefined,
	coming: readonly string[],
): string {
	const there = storage
		.copies()
		.filter((c) => c.model_name === model && c.status === "ready" && c.revision.startsWith(revision ?? ""))
		.map((c) => c.tier);
	const tiers = [...there, ...coming];
	const tier = tiers.find((t) => t === "dram") ?? tiers[0];
	if (tier === undefined) throw modelNotFound(model, nodeName);
	return tier;
}
