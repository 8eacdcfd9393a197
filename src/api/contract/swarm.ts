/** Several models to several devices in one operation, and what its receivers ask the host and each other. */
import { z } from "zod";
import { compressionSchema } from "../../schema/compression.ts";
import { manifestSchema } from "../../schema/manifest.ts";
import { taskSchema } from "../../schema/task.ts";
import { transferItemSchema, transferPlanSchema } from "../../schema/transfer-item.ts";
import { PRIORITIES } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import {
	HOST,
	NODE,
	PEER,
	bandwidth,
	compression,
	dependencies,
	device,
	name,
	priority,
	queryInteger,
	size,
	submittedOn,
} from "./fields.ts";

const pattern = z.array(z.string().min(1).max(400)).max(64);
const key = z.string().regex(/^[0-9a-f]{64}$/);

const wanted = z.strictObject({
	kind: z.enum(["copy", "download"]),
	models: z
		.array(
			z.strictObject({
				model_name: name,
				/** Of a copy; left out: from wherever it is. */
				source_device: device.optional(),
				/** Of a download; left out: as it is registered. */
				source_url: z.string().min(1).max(4096).optional(),
			}),
		)
		.min(1)
		.max(64),
	/** `all:disk` is the disk of every node that can be reached. */
	target_devices: z.array(device).min(1).max(256),
	priority,
	/** What is copied has to be there already. */
	dependencies,
	verify_checksum: z.boolean().optional(),
	/** Of each receiver. */
	bandwidth_limit: bandwidth.optional(),
	compression,
	model_type: z.string().min(1).max(64).optional(),
	include: pattern.optional(),
	exclude: pattern.optional(),
	all_files: z.boolean().optional(),
});

export const swarmRoutes = {
	transferModels: {
		method: "POST",
		path: "/api/v1/transfers",
		summary:
			"Copy or download models to several devices in one operation; the receivers give each other what they have",
		role: "user",
		on: HOST,
		audited: ["kind", "target_devices"],
		body: wanted,
		status: 202,
		response: submittedOn.extend({ plan: transferPlanSchema }),
	},
	planTransfer: {
		method: "POST",
		path: "/api/v1/transfer-plan",
		summary: "What such an operation would do; nothing is queued",
		role: "user",
		on: HOST,
		body: wanted,
		status: 200,
		response: transferPlanSchema,
	},
	getTransfer: {
		method: "GET",
		path: "/api/v1/transfers/{task_id}",
		summary: "How an operation of several models or devices goes, one by one",
		role: "viewer",
		on: HOST,
		status: 200,
		response: z.object({ task: taskSchema, items: z.array(transferItemSchema) }),
	},
	joinSwarm: {
		method: "POST",
		path: "/api/v1/swarm-tasks",
		summary: "The host has this node receive a model together with others",
		role: "host",
		on: NODE,
		audited: ["operation_id", "target_device"],
		internal: true,
		body: z.object({
			model_name: name,
			operation_id: z.string().max(200),
			target_device: device,
			priority: z.enum(PRIORITIES),
			verify_checksum: z.boolean().nullable(),
			bandwidth_limit: bandwidth.nullable(),
			compression: compressionSchema.default("none"),
			model_type: z.string().nullable(),
			source_url: z.string().nullable(),
			/** Null for a download. */
			sealed: z
				.object({
					revision: z.string(),
					content_id: key,
					size_bytes: size,
					format: z.string(),
					source_device: device,
				})
				.nullable(),
			include: z.array(z.string()),
			exclude: z.array(z.string()),
			all_files: z.boolean(),
		}),
		status: 202,
		response: submittedOn,
	},
	findSwarm: {
		method: "POST",
		path: "/api/v1/swarms",
		summary: "A receiver asks who else receives the same, or has it, and for access to their parts",
		role: "node",
		on: HOST,
		audited: ["operation_id"],
		internal: true,
		body: z.object({
			operation_id: z.string().max(200),
			model_name: name,
			key,
			/** Nodes that no longer know the grant which was given before. */
			refused: z.array(name).max(256),
			want_manifest: z.boolean(),
		}),
		status: 200,
		response: z.object({
			/** Null for a download, or where it was not asked for. */
			manifest: manifestSchema.nullable(),
			/** The receivers, in an order that all of them are given. */
			members: z.array(z.string()),
			self: z.number().int().nonnegative(),
			peers: z.array(
				z.object({
					node: z.string(),
					base_url: z.string(),
					server_name: z.string().optional(),
					grant: z.string(),
				}),
			),
		}),
	},
	grantSwarm: {
		method: "POST",
		path: "/api/v1/swarm-grants",
		summary: "The host allows a receiver to read from this node what it has, or receives, of the same bytes",
		role: "host",
		on: NODE,
		audited: ["operation_id", "receiver"],
		internal: true,
		body: z.object({ operation_id: z.string().max(200), model_name: name, key, receiver: name }),
		status: 201,
		response: z.object({ grant: z.string() }),
	},
	endSwarm: {
		method: "DELETE",
		path: "/api/v1/swarm-grants/{task_id}",
		summary: "The operation has ended: its receivers may read no more",
		role: "host",
		on: NODE,
		internal: true,
		status: 200,
		response: z.object({ ended: z.number().int() }),
	},
	havePart: {
		method: "GET",
		path: "/have/{content_id}",
		summary: "Which parts of what others receive too are here, as soon as there are more, on a grant",
		role: "grant",
		on: PEER,
		internal: true,
		query: z.object({
			epoch: z.string().max(64).default(""),
			since: queryInteger({ min: 0, max: 1_000_000_000, fallback: 0 }),
			turn: queryInteger({ min: 0, max: 1_000_000_000, fallback: 0 }),
			wait_ms: queryInteger({ min: 0, max: 20_000, fallback: 0 }),
			digests: z.enum(["true", "false"]).default("true"),
		}),
		status: 200,
	},
} as const satisfies Record<string, Route>;
