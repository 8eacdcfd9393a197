/** What a source has, told before it is downloaded, and what downloading it would do. */
import { z } from "zod";

/** Files that an answer lists; `file_count` is of all. */
export const MAX_LISTED_FILES = 1000;

const bytes = z.number().int().nonnegative();

/** What a download would do; it makes no task. */
export const downloadPlanSchema = z.object({
	model_name: z.string(),
	/** Where it would go. */
	device: z.string(),
	/** This revision is there already: nothing would be fetched. */
	already_there: z.boolean(),
	/** Other devices that have this revision. */
	other_locations: z.array(z.string()),
	bytes_to_fetch: bytes,
	/** Room that it needs while it comes; an archive lies beside its contents. */
	required: bytes,
	available: bytes,
	fits: z.boolean(),
	/** A task that is bringing the model to the device now. */
	task_id: z.string().nullable(),
});
export type DownloadPlan = z.infer<typeof downloadPlanSchema>;

export const sourceInfoSchema = z.object({
	/** Pinned, without secrets. */
	source_url: z.string(),
	/** The name that a download would give it. */
	suggested_name: z.string(),
	revision: z.string(),
	model_type: z.string(),
	format: z.string(),
	architecture: z.string().nullable(),
	/** Elements of all tensors. */
	parameters: z.number().int().nonnegative().nullable(),
	precision: z.string().nullable(),
	license: z.string().nullable(),
	/** Tokens. */
	context_length: z.number().int().positive().nullable(),
	/** Bytes of all tensors; left out by nodes that do not count them. */
	weights_bytes: bytes.nullable().optional(),
	/** What a token of context takes besides, in 16 bits per element. */
	kv_cache_bytes_per_token: bytes.nullable().optional(),
	/** An estimate: weights and the cache of one full context. */
	memory_bytes: bytes.nullable().optional(),
	archive: z.enum(["tar", "tar.gz"]).nullable(),
	/** Sum of the sizes that are known. */
	total_size: bytes,
	file_count: bytes,
	/** The first of them, by path. */
	files: z.array(
		z.object({
			path: z.string(),
			size_bytes: bytes.nullable(),
			/** What the source claims, e.g. `sha256:…`. */
			digest: z.string().nullable(),
		}),
	),
	/** Bytes by quantisation, where a download has to name one. */
	quantisations: z.record(z.string(), bytes).nullable(),
	/** What could not be told, and why. */
	notes: z.array(z.string()),
	plan: downloadPlanSchema.nullable(),
});
export type SourceInfo = z.infer<typeof sourceInfoSchema>;
