/** Which machines belong to the cluster. */
import { z } from "zod";
import type { Route } from "../route.ts";
import { HOST, flag } from "./fields.ts";

export const nodesRoutes = {
	approveNode: {
		method: "POST",
		path: "/api/v1/nodes/{node}/approve",
		summary: "Let a waiting node in, or let a node's certificate vouch for more addresses",
		role: "admin",
		on: HOST,
		body: z.strictObject({
			/** Names and IP addresses; left out: those that the node asks for, without any of the host's. */
			addresses: z.array(z.string().min(1).max(253)).max(32).optional(),
		}),
		status: 200,
		response: z.object({
			node: z.string(),
			/** `waiting`: it is let in when it asks again, within seconds. */
			status: z.enum(["waiting", "joined"]),
			addresses: z.array(z.string()),
		}),
	},
	removeNode: {
		method: "DELETE",
		path: "/api/v1/nodes/{node}",
		summary: "Remove a node: its credential is refused from now on, and nothing is known of its copies",
		role: "admin",
		on: HOST,
		audited: ["force"],
		/** `force`: also while it serves, or has the last durable copy of a model. */
		query: z.strictObject({ force: flag.default(false) }),
		status: 200,
		response: z.object({ node: z.string(), removed: z.literal(true) }),
	},
	resetNode: {
		method: "POST",
		path: "/api/v1/nodes/{node}/reset",
		summary: "Forget a node's key, so that a machine set up anew can join under its name",
		role: "admin",
		on: HOST,
		status: 200,
		response: z.object({ node: z.string(), reset: z.literal(true) }),
	},
} as const satisfies Record<string, Route>;
