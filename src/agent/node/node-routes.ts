/** The node's API, put together: each handler reads valid input, calls a door and returns. */
import { contract } from "../../api/contract.ts";
import { openApiDocument } from "../../api/openapi.ts";
import { version } from "../../platform/version.ts";
import { metricsResponse } from "../http/metrics.ts";
import { seesDetails, whoIs } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { adoptRoutes } from "./adopt-routes.ts";
import { bandwidthRoutes } from "./bandwidth-routes.ts";
import { capacityRoutes } from "./capacity-routes.ts";
import { modelRoutes } from "./model-routes.ts";
import { modelSummaries } from "./model-view.ts";
import { type NodeRouteDependencies, createNodeRequests } from "./node-requests.ts";
import { offerRoutes } from "./offer-routes.ts";
import { partRoutes } from "./part-routes.ts";
import { preloadRoutes } from "./preload-routes.ts";
import { queueRoutes } from "./queue-routes.ts";
import { presentRoutes } from "./present-routes.ts";
import { serviceRoutes } from "./service-routes.ts";
import { sourceRoutes } from "./source-routes.ts";
import { bundleRoutes } from "./bundle-routes.ts";
import { uploadRoutes } from "./upload-routes.ts";
import { swarmRoutes } from "./swarm-routes.ts";

export function nodeHandlers(d: NodeRouteDependencies): Handlers<"node"> {
	const requests = createNodeRequests(d);
	return {
		...modelRoutes(d, requests),
		...serviceRoutes(d, requests),
		...bandwidthRoutes(d),
		...capacityRoutes(d, requests),
		...queueRoutes(d),
		...preloadRoutes(d, requests),
		...partRoutes(d),
		...sourceRoutes(d, requests),
		...uploadRoutes(d, requests),
		...adoptRoutes(d, requests),
		...presentRoutes(d, requests),
		...bundleRoutes(d, requests),
		...offerRoutes(d, requests),
		...swarmRoutes(d, requests),
		listAudit: ({ query }) => d.audit.list(query),
		health: ({ caller }) => {
			const problems = d.problems();
			const status = problems.length === 0 ? ("ok" as const) : ("degraded" as const);
			if (!seesDetails(caller)) return { status: "ok" as const };
			return {
				status,
				details: {
					role: "node" as const,
					name: d.nodeName,
					version,
					uptime_s: d.uptimeS(),
					cluster_id: d.clusterId,
					nodes: {},
					problems,
				},
			};
		},
		status: () => ({
			model_status: modelSummaries(d).map((m) => ({
				model_name: m.model_name,
				model_type: m.model_type,
				model_size: m.model_size,
				model_status: m.status,
				stored_locations: m.locations,
				available_services: Object.values(m.services),
			})),
			task_queue: d.queue.counters(),
			data_pool: { chunks: 0, total_size: 0, locations: {} },
		}),
		metrics: () => metricsResponse([d.inspections.figures()]),
		openapi: () => openApiDocument(contract, { listener: "node", version }),
		whoami: ({ caller }) => whoIs(caller, { role: "node", name: d.nodeName, clusterId: d.clusterId }),
		pushAuth: ({ body }) => ({ auth_version: d.pushed.take(body) }),
	};
}
