/** What another program has on a node, as models that can be registered where they lie. */
import { z } from "zod";

export const ADOPTABLE_KINDS = ["hub", "ollama", "folder", "file"] as const;

export const adoptableSchema = z.object({
	kind: z.enum(ADOPTABLE_KINDS),
	/** What to adopt to have just this one. */
	path: z.string(),
	/** Null where its own name cannot be one here. */
	model_name: z.string().nullable(),
	/** Null: its contents tell, once they are read. */
	revision: z.string().nullable(),
	source_url: z.string(),
	/** Branches and tags that lead to it. */
	refs: z.array(z.string()),
	file_count: z.number().int().nonnegative(),
	size_bytes: z.number().int().nonnegative(),
	/** Why it cannot be adopted as it is. */
	problem: z.string().nullable(),
	/** The model as which it is adopted already. */
	adopted_as: z.string().nullable(),
});
export type Adoptable = z.infer<typeof adoptableSchema>;

/** A copy as it is shown to programs that look into a cache of Hugging Face's layout. */
export const presentedSchema = z.object({
	node: z.string(),
	device: z.string(),
	revision: z.string(),
	/** What programs ask for. */
	repository: z.string(),
	ref: z.string(),
	/** Directories of the node. */
	cache_dir: z.string(),
	snapshot: z.string(),
	/** What to set for such a program. */
	environment: z.record(z.string(), z.string()),
});
