/** Models and their copies. */
import { z } from "zod";
import {
	MODEL_STATUSES,
	locationSchema,
	metadataSchema,
	modelDetailSchema,
	modelSchema,
} from "../../schema/model.ts";
import { sourceInfoSchema } from "../../schema/source-info.ts";
import type { Route } from "../route.ts";
import {
	HOST,
	BOTH,
	flag,
	name,
	device,
	bandwidth,
	compression,
	revision,
	size,
	priority,
	submittedOn,
	queryInteger,
	dependencies,
} from "./fields.ts";

const pattern = z.array(z.string().min(1).max(400)).max(64);

const paging = {
	page: queryInteger({ min: 1, max: 1_000_000, fallback: 1 }),
	per_page: queryInteger({ min: 1, max: 200, fallback: 20 }),
};

export const modelsRoutes = {
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
		audited: ["model_name"],
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
	describeModel: {
		method: "PUT",
		path: "/api/v1/models/{model_name}/metadata",
		summary: "Say what a model is: its type in place of the detected one, and notes over what was detected",
		role: "operator",
		on: HOST,
		audited: ["model_type"],
		body: z.strictObject({
			/** null: what is detected. */
			model_type: z.string().min(1).max(64).nullable().optional(),
			/** All of what people said of it. */
			metadata: metadataSchema.optional(),
		}),
		status: 200,
		response: modelDetailSchema,
	},
	deleteModel: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}",
		summary:
			"Host: unregister and remove every copy, or with `device` one copy. Node: remove the copy on `device`",
		role: "operator",
		forceRole: "admin",
		on: BOTH,
		audited: ["device", "revision", "force", "delete_files"],
		query: z.strictObject({
			device: device.optional(),
			/** Of `device` only this one; needed where several are there. */
			revision: revision.optional(),
			force: flag.default(false),
			/** Of what was adopted the files too, which otherwise stay where they are. */
			delete_files: flag.optional(),
		}),
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
		audited: ["device"],
		body: z.strictObject({ device, status: z.enum(MODEL_STATUSES).default("ready") }),
		status: 201,
		response: locationSchema,
	},
	removeLocation: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}/locations/{device}",
		summary: "Remove the copy on a device, bytes included",
		role: "operator",
		forceRole: "admin",
		on: HOST,
		audited: ["force"],
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
		audited: ["target_device", "revision"],
		body: z.strictObject({
			source_url: z.string().min(1).max(4096).optional(),
			/** Of the source: a branch, tag or commit. Several revisions of a model stand side by side. */
			revision: revision.optional(),
			target_device: device.optional(),
			priority,
			dependencies,
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
	exportModel: {
		method: "GET",
		path: "/api/v1/models/{model_name}/export",
		summary: "A copy with its manifest as one tar stream, for sites without a network",
		role: "user",
		on: BOTH,
		query: z.strictObject({
			/** Left out: a device that has it. */
			device: device.optional(),
		}),
		status: 200,
	},
	importModel: {
		method: "POST",
		path: "/api/v1/imports",
		summary:
			"Import a bundle that a node can read (an import folder, a web address): name, revision and digests are its own",
		role: "user",
		on: BOTH,
		audited: ["target_device", "model_name"],
		body: z.strictObject({
			source_url: z.string().min(1).max(4096),
			/** Left out: the name in the bundle. */
			model_name: name.optional(),
			target_device: device.optional(),
			priority,
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn.extend({ model_name: z.string(), revision: z.string() }),
	},
	uploadModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/upload",
		summary: "Upload a copy to a bucket, with its manifest; what is there already is not overwritten",
		role: "operator",
		on: BOTH,
		audited: ["source_device", "overwrite"],
		body: z.strictObject({
			/** `s3://bucket/prefix`, `gs://bucket/prefix`. */
			target_url: z.string().min(1).max(2048),
			/** Left out: a device that has it. */
			source_device: device.optional(),
			/** Replace objects with the names of the model's files. */
			overwrite: z.boolean().default(false),
			priority,
			dependencies,
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},
	inspectSource: {
		method: "POST",
		path: "/api/v1/sources/inspect",
		summary:
			"What a source has, read from the headers of its files, and with `model_name` what a download would do; nothing is downloaded",
		role: "user",
		on: BOTH,
		body: z.strictObject({
			/** With `model_name`: default as for a download. */
			source_url: z.string().min(1).max(4096).optional(),
			model_name: name.optional(),
			target_device: device.optional(),
			include: pattern.optional(),
			exclude: pattern.optional(),
			all_files: z.boolean().optional(),
		}),
		status: 200,
		response: sourceInfoSchema,
	},
	moveModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/move",
		summary: "Move a model between devices; the source stays when it is the last durable copy or in use",
		role: "operator",
		on: BOTH,
		audited: ["source_device", "target_device"],
		body: z.strictObject({
			source_device: device,
			target_device: device,
			keep_source: z.boolean().default(false),
			priority,
			dependencies,
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
		audited: ["source_device", "target_device"],
		body: z.strictObject({
			source_device: device,
			target_device: device,
			priority,
			dependencies,
			compression,
			verify_checksum: z.boolean().optional(),
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},
	verifyModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/verify",
		summary: "Read a copy at rest again; a damaged one goes out of use and is replaced from another copy",
		role: "user",
		on: BOTH,
		audited: ["device"],
		body: z.strictObject({
			/** Left out: the only device that has it. */
			device: device.optional(),
			/** Reads so many percent of the parts; left out: all. */
			sample_percent: z.number().gt(0).max(100).optional(),
			/** The same seed reads the same sample. */
			seed: z.string().min(1).max(200).optional(),
			/** Compare the sha256 of whole files too. */
			sha256: z.boolean().optional(),
			repair: z.boolean().default(true),
			priority,
			dependencies,
		}),
		status: 202,
		response: submittedOn,
	},
} as const satisfies Record<string, Route>;
