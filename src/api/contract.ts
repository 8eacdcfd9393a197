/**
 * The contract of host, node and peer listeners, as data. No behaviour here.
 * A route that both roles answer is one record: the host forwards it to the node that the device, task or service names.
 */
import { adoptionsRoutes } from "./contract/adoptions.ts";
import { agentsRoutes } from "./contract/agents.ts";
import { bandwidthRoutes } from "./contract/bandwidth.ts";
import { capacityRoutes } from "./contract/capacity.ts";
import { gatewayRoutes } from "./contract/gateway.ts";
import { identityRoutes } from "./contract/identity.ts";
import { modelsRoutes } from "./contract/models.ts";
import { nodesRoutes } from "./contract/nodes.ts";
import { offersRoutes } from "./contract/offers.ts";
import { partsRoutes } from "./contract/parts.ts";
import { preloadRoutes } from "./contract/preload.ts";
import { queueRoutes } from "./contract/queue.ts";
import { recordsRoutes } from "./contract/records.ts";
import { servicesRoutes } from "./contract/services.ts";
import { swarmRoutes } from "./contract/swarm.ts";
import { systemRoutes } from "./contract/system.ts";
import type { Route } from "./route.ts";

export const contract = {
	...systemRoutes,
	...modelsRoutes,
	...adoptionsRoutes,
	...preloadRoutes,
	...servicesRoutes,
	...queueRoutes,
	...offersRoutes,
	...bandwidthRoutes,
	...capacityRoutes,
	...identityRoutes,
	...recordsRoutes,
	...nodesRoutes,
	...agentsRoutes,
	...swarmRoutes,
	...partsRoutes,
	...gatewayRoutes,
} as const satisfies Record<string, Route>;

export type Contract = typeof contract;
export type RouteId = keyof Contract;
