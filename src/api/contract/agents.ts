/** What agents ask each other; bodies are tolerant of unknown fields. */
import { z } from "zod";
import { compressionSchema } from "../../schema/compression.ts";
import { manifestSchema } from "../../schema/manifest.ts";
import { tagsAnswerSchema } from "../../schema/part-tags.ts";
import { copySchema } from "../../schema/model.ts";
import { heartbeatAnswerSchema, heartbeatSchema } from "../../schema/node.ts";
import { operationTokenSchema } from "../../schema/operation.ts";
import { PRIORITIES } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { HOST, NODE, PEER, name, device, bandwidth, queryInteger, size, submittedOn } from "./fields.ts";

const certificateRequest = z.string().max(8_192);
/** What a node would like its certificate to vouch for; the host decides. */
const askedAddresses = z.array(z.string().max(253)).max(32).default([]);

export const agentsRoutes = {
	authority: {
		method: "GET",
		path: "/cacerts",
		summary: "The certificate of the cluster's CA (PEM), which a pin or a person has to vouch for",
		role: "public",
		on: HOST,
		status: 200,
	},
	join: {
		method: "POST",
		path: "/api/v1/join",
		summary:
			"A new node presents the secret of a join string and a request signed with its key, and gets its credentials",
		role: "join",
		on: HOST,
		audited: ["node"],
		internal: true,
		body: z.object({
			node: name,
			secret: z.string().max(200),
			/** PKCS #10, PEM: proves that the node has the key. The same key may join again under its name. */
			certificate_request: certificateRequest,
			addresses: askedAddresses,
			protocol_version: z.number().int(),
			version: z.string().max(64),
		}),
		status: 200,
		response: z.discriminatedUnion("status", [
			z.object({
				status: z.literal("joined"),
				node: z.string(),
				node_token: z.string(),
				cluster_id: z.string(),
				/** The host signs its calls to nodes with the private half. SPKI, base64. */
				host_public_key: z.string(),
				/** PEM. */
				ca_certificate: z.string(),
				/** PEM, of the node's key: for its name and the addresses that the host approved. */
				certificate: z.string(),
			}),
			/** An admin has to approve the node; ask again until then. */
			z.object({ status: z.literal("waiting"), node: z.string() }),
		]),
	},
	renewCertificate: {
		method: "POST",
		path: "/api/v1/certificate",
		summary: "A node asks for its next certificate, for the key that it joined with",
		role: "node",
		on: HOST,
		internal: true,
		body: z.object({ certificate_request: certificateRequest, addresses: askedAddresses }),
		status: 200,
		response: z.object({ certificate: z.string(), ca_certificate: z.string() }),
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
		audited: ["operation_id", "receiver"],
		internal: true,
		body: z.object({
			operation_id: z.string().max(200),
			model_name: name,
			device,
			content_id: z.string(),
			receiver: name,
			/** A host of an earlier version says nothing, and gives what a copy needs. */
			purpose: z.enum(["copy", "repair"]).default("copy"),
		}),
		status: 201,
		response: z.object({
			grant: z.string(),
			/** Secret of the tags of these parts; one of an earlier version has none. */
			tag_key: z.string().optional(),
			expires_in_s: z.number(),
		}),
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
		audited: ["operation_id", "target_device"],
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
			/** A host of an earlier version says nothing and means `none`. */
			compression: compressionSchema.default("none"),
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
		audited: ["operation_id"],
		internal: true,
		body: z.object({ operation_id: z.string().max(200) }),
		status: 200,
		/** `node`: whose certificate the receiver has to meet at an https base_url. */
		response: z.object({
			base_url: z.string(),
			node: z.string(),
			/** By which its certificate is met: it stands for the node's key as the host knows it. */
			server_name: z.string().optional(),
			grant: z.string(),
			tag_key: z.string().optional(),
			manifest: manifestSchema,
			/** Other nodes with the same content, which may be read as well. */
			others: z
				.array(
					z.object({
						base_url: z.string(),
						node: z.string(),
						server_name: z.string().optional(),
						device: z.string(),
						grant: z.string(),
						tag_key: z.string().optional(),
					}),
				)
				.default([]),
		}),
	},
	findRepair: {
		method: "POST",
		path: "/api/v1/repairs",
		summary: "A node whose copy is damaged asks for access to another node's copy of the same content",
		role: "node",
		on: HOST,
		audited: ["task_id", "model_name", "tier"],
		internal: true,
		body: z.object({
			task_id: z.string().max(200),
			model_name: name,
			revision: z.string().max(200),
			content_id: z.string().max(64),
			tier: z.string().max(20),
		}),
		status: 200,
		/** Null: no other copy can be reached. */
		response: z.object({
			place: z
				.object({
					base_url: z.string(),
					node: z.string(),
					server_name: z.string().optional(),
					device: z.string(),
					grant: z.string(),
					manifest: manifestSchema,
				})
				.nullable(),
		}),
	},
	endRepair: {
		method: "DELETE",
		path: "/api/v1/repairs/{task_id}",
		summary: "The node has what it asked for: the copy that it read is free",
		role: "node",
		on: HOST,
		internal: true,
		query: z.object({ source: name }),
		status: 200,
		response: z.object({ released: z.boolean() }),
	},
	condemn: {
		method: "POST",
		path: "/api/v1/condemn",
		summary:
			"A node asks leave to destroy a durable copy; granted only while another one is safe, or with force",
		role: "node",
		on: HOST,
		audited: ["model_name", "tier", "force", "dry_run"],
		internal: true,
		body: z.object({
			model_name: name,
			revision: z.string(),
			tier: z.string(),
			force: z.boolean(),
			/** Only ask; change nothing. */
			dry_run: z.boolean(),
			/** The part of an operation that this is for, which has to count still. */
			operation: operationTokenSchema.optional(),
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
	partTags: {
		method: "GET",
		path: "/tags/{content_id}/{file_index}",
		summary:
			"Tags of the parts `first` up to, not including, `end` of a file, under the secret of the grant: who has changed bytes on their way cannot make them",
		role: "grant",
		on: PEER,
		internal: true,
		query: z.object({
			first: queryInteger({ min: 0, max: 1_000_000, fallback: 0 }),
			end: queryInteger({ min: 1, max: 1_000_000, fallback: 1 }),
		}),
		status: 200,
		response: tagsAnswerSchema,
	},
	readBundle: {
		method: "GET",
		path: "/bundles/{content_id}",
		summary:
			"Small files of a sealed manifest, `first` up to, not including, `end`, one after the other, on a grant",
		role: "grant",
		on: PEER,
		internal: true,
		query: z.object({
			first: queryInteger({ min: 0, max: 1_000_000, fallback: 0 }),
			end: queryInteger({ min: 1, max: 1_000_000, fallback: 1 }),
		}),
		status: 200,
	},
} as const satisfies Record<string, Route>;
