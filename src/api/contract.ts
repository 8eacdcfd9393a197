/**
 * The contract of host, node and peer listeners, as data. No behaviour here.
 * A route that both roles answer is one record: the host forwards it to the node that the device, task or service names.
 */
import { z } from "zod";
import {
	MODEL_STATUSES,
	copySchema,
	locationSchema,
	metadataSchema,
	modelDetailSchema,
	modelSchema,
} from "../schema/model.ts";
import { manifestSchema } from "../schema/manifest.ts";
import { heartbeatAnswerSchema, heartbeatSchema, nodeSchema, taskCountersSchema } from "../schema/node.ts";
import { BALANCE_POLICIES, FRAMEWORKS, serviceSchema } from "../schema/service.ts";
import { FINISHED_STATUSES, PRIORITIES, TASK_TYPES, submittedSchema, taskSchema } from "../schema/task.ts";
import type { Route } from "./route.ts";

const HOST = ["host"] as const;
const NODE = ["node"] as const;
const BOTH = ["host", "node"] as const;
const PEER = ["peer"] as const;

/** Query flags: exactly `true` or `false`. */
const flag = z.enum(["true", "false"]).transform((text) => text === "true");
const name = z.string().min(1).max(400);
const device = z.string().min(1).max(160);
const pattern = z.array(z.string().min(1).max(400)).max(64);
/** Bytes per second, at least 1 kB. */
const bandwidth = z.number().int().min(1000);
const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const priority = z.enum(PRIORITIES).default("normal");
const compression = z.literal("none").default("none");

const paging = {
	page: z.coerce.number().int().min(1).max(1_000_000).default(1),
	per_page: z.coerce.number().int().min(1).max(200).default(20),
};

const submittedService = submittedSchema.extend({
	service_id: z.string(),
	node: z.string(),
	/** All of them, where several nodes were named; `service_id` is the first. */
	service_ids: z.array(z.string()).optional(),
});
const submittedOn = submittedSchema.extend({ node: z.string() });

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

export const contract = {
	// System
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

	// Models
	listModels: {
		method: "GET",
		path: "/api/v1/models",
		summary: "Registered models (host) or locally stored ones (node)",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			type: z.string().max(64).optional(),
			location: device.optional(),
			status: z.enum(MODEL_STATUSES).optional(),
			...paging,
		}),
		status: 200,
		response: z.object({
			models: z.array(modelSchema),
			total: z.number(),
			page: z.number(),
			per_page: z.number(),
		}),
	},
	getModel: {
		method: "GET",
		path: "/api/v1/models/{model_name}",
		summary: "One model with its metadata and locations",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: modelDetailSchema,
	},
	registerModel: {
		method: "POST",
		path: "/api/v1/models",
		summary: "Register a model, so that its name stands for its source",
		role: "user",
		on: HOST,
		body: z.strictObject({
			model_name: name,
			model_type: z.string().min(1).max(64).default("unknown"),
			model_size: size.default(0),
			source_url: z.string().min(1).max(4096).optional(),
			metadata: metadataSchema.default({}),
		}),
		status: 201,
		response: modelDetailSchema,
	},
	deleteModel: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}",
		summary:
			"Host: unregister and remove every copy, or with `device` one copy. Node: remove the copy on `device`",
		role: "operator",
		on: BOTH,
		query: z.strictObject({ device: device.optional(), force: flag.default(false) }),
		status: 202,
		response: submittedOn,
	},
	listLocations: {
		method: "GET",
		path: "/api/v1/models/{model_name}/locations",
		summary: "Where the model is",
		role: "viewer",
		on: HOST,
		status: 200,
		response: z.object({ model_name: z.string(), locations: z.array(locationSchema) }),
	},
	addLocation: {
		method: "POST",
		path: "/api/v1/models/{model_name}/locations",
		summary: "Claim that a copy is on a device: `unavailable` until the node confirms it",
		role: "operator",
		on: HOST,
		body: z.strictObject({ device, status: z.enum(MODEL_STATUSES).default("ready") }),
		status: 201,
		response: locationSchema,
	},
	removeLocation: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}/locations/{device}",
		summary: "Remove the copy on a device, bytes included",
		role: "operator",
		on: HOST,
		query: z.strictObject({ force: flag.default(false) }),
		status: 202,
		response: submittedOn,
	},
	downloadModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/download",
		summary: "Download a model from its source to a device",
		role: "user",
		on: BOTH,
		body: z.strictObject({
			source_url: z.string().min(1).max(4096).optional(),
			target_device: device.optional(),
			priority,
			verify_checksum: z.boolean().optional(),
			model_type: z.string().min(1).max(64).optional(),
			include: pattern.optional(),
			exclude: pattern.optional(),
			all_files: z.boolean().optional(),
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},
	moveModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/move",
		summary: "Move a model between devices; the source stays when it is the last durable copy or in use",
		role: "operator",
		on: BOTH,
		body: z.strictObject({
			source_device: device,
			target_device: device,
			keep_source: z.boolean().default(false),
			priority,
			compression,
			verify_checksum: z.boolean().optional(),
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},
	copyModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/copy",
		summary: "Copy a model to another device, on the same node or another",
		role: "user",
		on: BOTH,
		body: z.strictObject({
			source_device: device,
			target_device: device,
			priority,
			compression,
			verify_checksum: z.boolean().optional(),
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},

	// Services
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
		body: z.strictObject({
			model_name: name,
			device: device.optional(),
			nodes: z.array(name).min(1).max(64).optional(),
			port: z.number().int().min(1).max(65535).optional(),
			priority,
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
		query: z.strictObject({ lines: z.coerce.number().int().min(1).max(10_000).default(100) }),
		status: 200,
	},

	// Queue
	queueStatus: {
		method: "GET",
		path: "/api/v1/queue",
		summary: "Queue counters, its configuration, and the tasks that are pending or running",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({ node: name.optional() }),
		status: 200,
		response: z.object({
			queue_config: z.object({
				max_concurrent_tasks: z.number(),
				priority_levels: z.array(z.enum(PRIORITIES)),
				resource_tracking: z.boolean(),
			}),
			task_queue: taskCountersSchema,
			tasks: z.array(taskSchema),
		}),
	},
	getTask: {
		method: "GET",
		path: "/api/v1/queue/tasks/{task_id}",
		summary: "One task",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: taskSchema,
	},
	cancelTask: {
		method: "POST",
		path: "/api/v1/queue/tasks/{task_id}/cancel",
		summary: "Cancel a pending or running task",
		role: "user",
		on: BOTH,
		status: 200,
		response: taskSchema,
	},
	queueHistory: {
		method: "GET",
		path: "/api/v1/queue/history",
		summary: "Finished tasks, the newest first; `cursor` continues a page",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			limit: z.coerce.number().int().min(1).max(200).default(50),
			status: z.enum(FINISHED_STATUSES).optional(),
			type: z.enum(TASK_TYPES).optional(),
			since: z.coerce.number().nonnegative().max(1e12).optional(),
			cursor: z.string().max(200).optional(),
			node: name.optional(),
		}),
		status: 200,
		response: z.object({ tasks: z.array(taskSchema), next_cursor: z.string().nullable() }),
	},

	// Identity
	createToken: {
		method: "POST",
		path: "/api/v1/tokens",
		summary: "Make a join string for other machines",
		role: "admin",
		on: HOST,
		body: z.strictObject({
			kind: z.literal("join"),
			ttl_s: z
				.number()
				.int()
				.min(1)
				.max(30 * 86_400)
				.default(3600),
			uses: z.number().int().min(1).max(1000).default(1),
		}),
		status: 201,
		response: z.object({ token: z.string(), expires_at: z.number(), uses: z.number(), command: z.string() }),
	},

	// Between agents
	join: {
		method: "POST",
		path: "/api/v1/join",
		summary: "A new node presents the secret of a join string and its key, and gets its credential",
		role: "join",
		on: HOST,
		internal: true,
		body: z.object({
			node: name,
			secret: z.string().max(200),
			/** The node's own Ed25519 public key, SPKI, base64: the same key may join again under its name. */
			public_key: z.string().max(400),
			protocol_version: z.number().int(),
			version: z.string().max(64),
		}),
		status: 200,
		response: z.object({
			node: z.string(),
			node_token: z.string(),
			cluster_id: z.string(),
			/** The host signs its calls to nodes with the private half. SPKI, base64. */
			host_public_key: z.string(),
		}),
	},
	heartbeat: {
		method: "POST",
		path: "/api/v1/heartbeat",
		summary: "A node reports its tiers, tasks, services and copies",
		role: "node",
		on: HOST,
		internal: true,
		body: heartbeatSchema,
		status: 200,
		response: heartbeatAnswerSchema,
	},
	resolveModel: {
		method: "GET",
		path: "/api/v1/models/{model_name}/manifest",
		summary: "The sealed manifest of the copy on `device`",
		role: "host",
		on: NODE,
		internal: true,
		query: z.object({ device }),
		status: 200,
		response: z.object({ copy: copySchema, manifest: manifestSchema }),
	},
	grantParts: {
		method: "POST",
		path: "/api/v1/grants",
		summary: "The host allows a receiver to read the parts of one manifest from this node",
		role: "host",
		on: NODE,
		internal: true,
		body: z.object({
			operation_id: z.string().max(200),
			model_name: name,
			device,
			content_id: z.string(),
			receiver: name,
		}),
		status: 201,
		response: z.object({ grant: z.string(), expires_in_s: z.number() }),
	},
	releaseGrant: {
		method: "DELETE",
		path: "/api/v1/grants/{task_id}",
		summary: "The operation has ended: its receiver may read no more, and the source is free",
		role: "host",
		on: NODE,
		internal: true,
		status: 200,
		response: z.object({ released: z.boolean() }),
	},
	pullModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/pull",
		summary: "The host has this node receive a model from another node",
		role: "host",
		on: NODE,
		internal: true,
		body: z.object({
			operation_id: z.string(),
			target_device: device,
			revision: z.string(),
			content_id: z.string(),
			size_bytes: size,
			model_type: z.string(),
			source_url: z.string().nullable(),
			format: z.string(),
			source: z.object({ node: name, device }),
			priority: z.enum(PRIORITIES),
			verify_checksum: z.boolean(),
			bandwidth_limit: bandwidth.nullable(),
		}),
		status: 202,
		response: submittedOn,
	},
	requestGrant: {
		method: "POST",
		path: "/api/v1/grants",
		summary:
			"The receiver of an operation asks for access to its source's parts; the host pushes a grant there",
		role: "node",
		on: HOST,
		internal: true,
		body: z.object({ operation_id: z.string().max(200) }),
		status: 200,
		response: z.object({ base_url: z.string(), grant: z.string(), manifest: manifestSchema }),
	},
	condemn: {
		method: "POST",
		path: "/api/v1/condemn",
		summary:
			"A node asks leave to destroy a durable copy; granted only while another one is safe, or with force",
		role: "node",
		on: HOST,
		internal: true,
		body: z.object({
			model_name: name,
			revision: z.string(),
			tier: z.string(),
			force: z.boolean(),
			/** Only ask; change nothing. */
			dry_run: z.boolean(),
		}),
		status: 200,
		response: z.object({ granted: z.boolean(), reason: z.string().nullable() }),
	},
	readPart: {
		method: "GET",
		path: "/parts/{content_id}/{file_index}",
		summary: "Bytes of one file of a sealed manifest (Range), on a grant",
		role: "grant",
		on: PEER,
		internal: true,
		status: 206,
	},

	// Gateway
	gatewayModels: {
		method: "GET",
		path: "/v1/models",
		summary: "OpenAI: the models that are served",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayChat: {
		method: "POST",
		path: "/v1/chat/completions",
		summary: "OpenAI chat completions, SSE too, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayCompletions: {
		method: "POST",
		path: "/v1/completions",
		summary: "OpenAI completions, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
	gatewayEmbeddings: {
		method: "POST",
		path: "/v1/embeddings",
		summary: "OpenAI embeddings, routed by `model`",
		role: "inference",
		on: BOTH,
		status: 200,
	},
} as const satisfies Record<string, Route>;

export type Contract = typeof contract;
export type RouteId = keyof Contract;
