/** What an agent says of itself. */
import { z } from "zod";
import { MODEL_STATUSES } from "../../schema/model.ts";
import { nodeSchema, taskCountersSchema } from "../../schema/node.ts";
import type { Route } from "../route.ts";
import { HOST, BOTH } from "./fields.ts";

const hostStatus = z.object({
	model_status: z.array(
		z.object({
			model_name: z.string(),
			model_type: z.string(),
			model_size: z.number(),
			stored_locations: z.array(z.string()),
			available_services: z.record(z.string(), z.string()),
		}),
	),
	node_list: z.array(z.string()),
});

const nodeStatus = z.object({
	model_status: z.array(
		z.object({
			model_name: z.string(),
			model_type: z.string(),
			model_size: z.number(),
			model_status: z.enum(MODEL_STATUSES),
			stored_locations: z.array(z.string()),
			available_services: z.array(z.string()),
		}),
	),
	task_queue: taskCountersSchema,
	data_pool: z.object({
		chunks: z.number(),
		total_size: z.number(),
		locations: z.record(z.string(), z.unknown()),
	}),
});

export const systemRoutes = {
	health: {
		method: "GET",
		path: "/api/v1/health",
		summary: "Liveness; without a token only `status`, with one the details",
		role: "public",
		on: BOTH,
		status: 200,
		response: z.object({
			status: z.enum(["ok", "degraded"]),
			details: z
				.object({
					role: z.enum(["host", "node"]),
					name: z.string(),
					version: z.string(),
					uptime_s: z.number(),
					cluster_id: z.string(),
					nodes: z.record(z.string(), z.string()),
					problems: z.array(z.string()),
				})
				.optional(),
		}),
	},
	status: {
		method: "GET",
		path: "/api/v1/status",
		summary:
			"The registry document: the host's (model_status, node_list) or a client node's (model_status, task_queue, data_pool)",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: z.union([nodeStatus, hostStatus]),
	},
	metrics: {
		method: "GET",
		path: "/metrics",
		summary: "Figures for Prometheus: how often answers about models came from memory",
		role: "viewer",
		on: BOTH,
		status: 200,
	},
	openapi: {
		method: "GET",
		path: "/api/v1/openapi.json",
		summary: "This API as OpenAPI 3.1",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: z.record(z.string(), z.unknown()),
	},
	listNodes: {
		method: "GET",
		path: "/api/v1/nodes",
		summary: "All nodes with their tiers and what the host believes of them",
		role: "viewer",
		on: HOST,
		status: 200,
		response: z.object({ nodes: z.array(nodeSchema), total: z.number() }),
	},
} as const satisfies Record<string, Route>;
