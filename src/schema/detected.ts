/** What was read from a model's own files; the same content always tells the same. */
import { z } from "zod";

/** Rises when the detector tells more than it did: what an older one found is looked at again. */
export const DETECTOR_VERSION = 1;

const text = z.string().max(200).nullable();
const natural = z.number().int().nonnegative().nullable();

export const detectedSchema = z.object({
	detector: z.number().int().nonnegative(),
	/** `unknown` where the headers are not those of the format that the names promise. */
	format: z.string().max(64),
	/** A guess. */
	model_type: z.string().max(64),
	architecture: text,
	/** Elements of all tensors. */
	parameters: natural,
	/** e.g. `BF16`, `Q4_K_M`. */
	precision: text,
	/** Tokens. */
	context_length: natural,
	license: text,
	/** Bytes of all tensors. */
	weights_bytes: natural,
	/** What a token of context takes besides, in 16 bits per element; null of models that keep no such cache. */
	kv_cache_bytes_per_token: natural,
	/** An estimate: weights and the cache of one full context; the weights alone where there is no cache. */
	memory_bytes: natural,
});
export type Detected = z.infer<typeof detectedSchema>;
