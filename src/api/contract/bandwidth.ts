/** How fast bytes may go: of one task, of one node, of the cluster. */
import { z } from "zod";
import type { Route } from "../route.ts";
import { BOTH, bandwidth } from "./fields.ts";

/** Null: no limit. */
const rate = bandwidth.nullable();
const nodeLimits = z.object({
	node: z.string(),
	/** Bytes per second that it may receive and send, set by a person. */
	down: rate,
	up: rate,
	/** Its share of the cluster's, as far as it has heard; of `all`: null. */
	share_down: z.number().nullable(),
	share_up: z.number().nullable(),
});

export const bandwidthRoutes = {
	setTaskBandwidth: {
		method: "PUT",
		path: "/api/v1/queue/tasks/{task_id}/bandwidth",
		summary:
			"Change how fast a task may receive, also while it runs: a user one that they submitted, an operator any",
		role: "user",
		ownTask: true,
		on: BOTH,
		audited: ["bandwidth_limit"],
		body: z.strictObject({ bandwidth_limit: rate }),
		status: 200,
		response: z.object({ task_id: z.string(), bandwidth_limit: rate }),
	},
	getNodeBandwidth: {
		method: "GET",
		path: "/api/v1/nodes/{node}/bandwidth",
		summary: "How fast a node may receive and send; `all`: all nodes of the cluster together",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: nodeLimits,
	},
	setNodeBandwidth: {
		method: "PUT",
		path: "/api/v1/nodes/{node}/bandwidth",
		summary:
			"Change it, for later starts of its agent, too; what is left out stays. `all`: the cluster's, on the host",
		role: "operator",
		on: BOTH,
		audited: ["down", "up"],
		body: z.strictObject({ down: rate.optional(), up: rate.optional() }),
		status: 200,
		response: nodeLimits,
	},
} as const satisfies Record<string, Route>;
