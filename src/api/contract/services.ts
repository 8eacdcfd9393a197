/** Served models. */
import { z } from "zod";
import { BALANCE_POLICIES, FRAMEWORKS, serviceSchema } from "../../schema/service.ts";
import { submittedSchema } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { BOTH, name, device, priority, revision, submittedOn, queryInteger, dependencies } from "./fields.ts";

const submittedService = submittedSchema.extend({
	service_id: z.string(),
	node: z.string(),
	/** All of them, where several nodes were named; `service_id` is the first. */
	service_ids: z.array(z.string()).optional(),
});

export const servicesRoutes = {
	listServices: {
		method: "GET",
		path: "/api/v1/services",
		summary: "Active services",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: z.object({ services: z.array(serviceSchema), total: z.number() }),
	},
	startService: {
		method: "POST",
		path: "/api/v1/services",
		summary: "Serve a model: on a device (node and host), or on named nodes (host)",
		role: "user",
		on: BOTH,
		audited: ["model_name", "device", "revision", "replace"],
		body: z.strictObject({
			model_name: name,
			device: device.optional(),
			nodes: z.array(name).min(1).max(64).optional(),
			/** One of those that are there, or the beginning of it; it then answers to MODEL@REVISION. */
			revision: revision.optional(),
			/** The model's name goes to it as soon as it answers, and what had the name is drained and stopped. */
			replace: z.boolean().optional(),
			port: z.number().int().min(1).max(65535).optional(),
			priority,
			dependencies,
			config: z
				.strictObject({
					framework: z.enum(FRAMEWORKS).optional(),
					port: z.number().int().min(1).max(65535).optional(),
					replicas: z.number().int().min(1).max(64).optional(),
					load_balancing: z.enum(BALANCE_POLICIES).optional(),
					max_batch_size: z.number().int().min(1).max(64).optional(),
					max_sequence_length: z.number().int().min(64).max(1_048_576).optional(),
					gpu_memory_fraction: z.number().gt(0).max(1).optional(),
					timeout: z.number().gt(0).max(86_400).optional(),
				})
				.default({}),
		}),
		status: 202,
		response: submittedService,
	},
	stopService: {
		method: "DELETE",
		path: "/api/v1/services/{service_id}",
		summary: "Stop and remove a service: no new requests, in-flight ones finish, then the engine ends",
		role: "user",
		on: BOTH,
		status: 202,
		response: submittedOn,
	},
	serviceStatus: {
		method: "GET",
		path: "/api/v1/services/{service_id}/status",
		summary: "State and counters of a service",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: serviceSchema,
	},
	serviceLogs: {
		method: "GET",
		path: "/api/v1/services/{service_id}/logs",
		summary: "The last lines of the engine's log, as text",
		role: "user",
		on: BOTH,
		query: z.strictObject({ lines: queryInteger({ min: 1, max: 10_000, fallback: 100 }) }),
		status: 200,
	},
} as const satisfies Record<string, Route>;
