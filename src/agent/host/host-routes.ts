/** The host's API, put together: the registry, and every node route forwarded to the node it names. */
import { contract } from "../../api/contract.ts";
import { openApiDocument } from "../../api/openapi.ts";
import { version } from "../../platform/version.ts";
import { metricsResponse } from "../http/metrics.ts";
import { seesDetails } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { adoptRoutes } from "./adopt-routes.ts";
import { agentRoutes } from "./agent-routes.ts";
import { bandwidthRoutes } from "./bandwidth-routes.ts";
import { capacityRoutes } from "./capacity-routes.ts";
import { type HostRouteDependencies, createHostRequests } from "./host-requests.ts";
import { createInspections } from "./inspections.ts";
import { modelRoutes } from "./model-routes.ts";
import { nodeAdminRoutes } from "./node-admin-routes.ts";
import { offerRoutes } from "./offer-routes.ts";
import { peopleRoutes } from "./people-routes.ts";
import { preloadRoutes } from "./preload-routes.ts";
import { queueRoutes } from "./queue-routes.ts";
import { repairRoutes } from "./repair-routes.ts";
import { secretRoutes } from "./secret-routes.ts";
import { serviceRoutes } from "./service-routes.ts";
import { sourceRoutes } from "./source-routes.ts";
import { bundleRoutes } from "./bundle-routes.ts";
import { uploadRoutes } from "./upload-routes.ts";
import { swarmRoutes } from "./swarm-routes.ts";

export function hostHandlers(d: HostRouteDependencies): Handlers<"host"> {
	const requests = createHostRequests(d);
	const inspections = createInspections();
	return {
		...modelRoutes(d, requests),
		...serviceRoutes(d, requests),
		...bandwidthRoutes(d),
		...capacityRoutes(d, requests),
		...queueRoutes(d, requests),
		...preloadRoutes(d),
		...sourceRoutes(d, inspections),
		...uploadRoutes(d, requests),
		...adoptRoutes(d, requests),
		...bundleRoutes(d, requests),
		...offerRoutes(d, requests),
		...swarmRoutes(d, requests),
		...agentRoutes(d),
		...nodeAdminRoutes(d),
		...repairRoutes(d),
		...secretRoutes({ ...d, inspections }),
		...peopleRoutes(d),
		listAudit: ({ query }) => d.audit.list(query),
		health: ({ caller }) => {
			if (!seesDetails(caller)) return { status: "ok" as const };
			const views = d.cluster.views();
			const problems = views
				.filter((v) => v.liveness !== "alive")
				.map((v) => `node ${v.name} is ${v.liveness}`);
			return {
				status: problems.length === 0 ? ("ok" as const) : ("degraded" as const),
				details: {
					role: "host" as const,
					name: d.hostName,
					version,
					uptime_s: d.uptimeS(),
					cluster_id: d.clusterId,
					nodes: Object.fromEntries(views.map((v) => [v.name, v.liveness])),
					problems,
				},
			};
		},
		status: () => ({
			model_status: d.registry.all().map((m) => ({
				model_name: m.model_name,
				model_type: m.model_type,
				model_size: m.model_size,
				stored_locations: m.locations,
				available_services: m.services,
			})),
			node_list: d.cluster.views().map((v) => v.name),
		}),
		metrics: () => metricsResponse(d.registry.cacheFigures()),
		openapi: () => openApiDocument(contract, { listener: "host", version }),
		listNodes: () => {
			const nodes = d.cluster.documents();
			return { nodes, total: nodes.length };
		},
	};
}
