/** Models and where they are, as the API shows them. */
import { z } from "zod";
import { detectedSchema } from "./detected.ts";

export const MODEL_STATUSES = ["ready", "downloading", "moving", "unavailable", "queued"] as const;
export type ModelStatus = (typeof MODEL_STATUSES)[number];

/** What is known of a model besides its bytes; free for people, bounded: 64 keys, depth 8, 16 kB. */
export const metadataSchema = z.record(z.string().min(1).max(128), z.unknown());

/** Why a copy is there: somebody asked for it, or a forecast brought it. */
export const COPY_PURPOSES = ["asked", "preload"] as const;
export type CopyPurpose = (typeof COPY_PURPOSES)[number];

/** Whose the bytes are: the store's, or somebody's that were registered where they lay. */
export const COPY_PLACES = ["store", "adopted"] as const;
export type CopyPlace = (typeof COPY_PLACES)[number];

/** One copy of one revision of a model on one device of a node; the node's own record is the truth. */
export const copySchema = z.object({
	model_name: z.string(),
	revision: z.string(),
	/** Tier of the node that reports it, without a node prefix: `disk`, `disk1`, `dram`. */
	tier: z.string(),
	status: z.enum(MODEL_STATUSES),
	size_bytes: z.number().int().nonnegative(),
	/** sha256 of the canonical manifest. */
	content_id: z.string(),
	model_type: z.string(),
	source_url: z.string().nullable(),
	format: z.string(),
	ready_at: z.number(),
	/** When it was served, copied or read last; null: not since it is there. */
	last_used_at: z.number().nullable().optional(),
	/** Stays where it is until it is unpinned or removed by name. */
	pinned: z.boolean().optional(),
	/** `preload`: brought because it is expected to be used; the first to go. */
	purpose: z.enum(COPY_PURPOSES).optional(),
	/** Read from its files; left out while nobody has looked. */
	detected: detectedSchema.optional(),
	/** Left out: `store`. */
	place: z.enum(COPY_PLACES).optional(),
	/** Of an adopted copy: what on its node was adopted. */
	adopted_from: z.string().optional(),
	/** On a GPU that is not there: a simulated device holds it. */
	simulated: z.literal(true).optional(),
});
export type ModelCopy = z.infer<typeof copySchema>;

/** One model in the host's and a node's list; fields of the API design first, additions after. */
export const modelSchema = z.object({
	model_name: z.string(),
	model_type: z.string(),
	model_size: z.number().int().nonnegative(),
	locations: z.array(z.string()),
	/** Those of them that are simulated GPUs. */
	simulated_locations: z.array(z.string()).optional(),
	/** Those of them where it was adopted. */
	adopted_locations: z.array(z.string()).optional(),
	/** Those of them that are never evicted. */
	pinned_locations: z.array(z.string()).optional(),
	/** Those of them with no copy that can be served or copied from now. */
	unavailable_locations: z.array(z.string()).optional(),
	/** Front URL per node. */
	services: z.record(z.string(), z.string()),
	status: z.enum(MODEL_STATUSES),
	/** Of the newest copy; null while nobody has looked at one. */
	detected: detectedSchema.nullable().optional(),
});
export type ModelSummary = z.infer<typeof modelSchema>;

export const locationSchema = z.object({
	device: z.string(),
	status: z.enum(MODEL_STATUSES),
	revision: z.string().nullable(),
	size_bytes: z.number().int().nonnegative(),
	content_id: z.string().nullable(),
	node_status: z.string(),
	place: z.enum(COPY_PLACES).optional(),
	adopted_from: z.string().optional(),
	/** On a simulated GPU. */
	simulated: z.literal(true).optional(),
	/** It is never evicted. */
	pinned: z.boolean().optional(),
	/** When it was served, copied or read last, where the node itself answers. */
	last_used_at: z.number().nullable().optional(),
});
export type ModelLocation = z.infer<typeof locationSchema>;

export const modelDetailSchema = modelSchema.extend({
	source_url: z.string().nullable(),
	/** What was detected, and over it what people said. */
	metadata: metadataSchema,
	revision: z.string().nullable(),
	format: z.string().nullable(),
	created_at: z.number(),
	location_details: z.array(locationSchema),
});
export type ModelDetail = z.infer<typeof modelDetailSchema>;
