/**
 * A bundle: one tar file with a model and its manifest, for sites without a network. The first entry says what it is,
 * the model's files follow below one folder, in the manifest's order.
 */
import { z } from "zod";
import { manifestSchema } from "./manifest.ts";

export const bundleSchema = z.object({
	/** Version of the form. */
	gswarm_bundle: z.literal(1),
	model_name: z.string(),
	revision: z.string(),
	model_type: z.string().max(64),
	format: z.string().max(64),
	source_url: z.string().max(4096).nullable(),
	/** sha256 of the canonical manifest. */
	content_id: z.string().regex(/^[0-9a-f]{64}$/),
	manifest: manifestSchema,
});
export type Bundle = z.infer<typeof bundleSchema>;
