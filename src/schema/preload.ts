/** What will be wanted in memory, as the API tells it. Times are seconds since the epoch. */
import { z } from "zod";

/** `hints`: only what people said; `auto`: what the record says, too; `off`: neither. */
export const PRELOAD_MODES = ["auto", "hints", "off"] as const;
export type PreloadMode = (typeof PRELOAD_MODES)[number];

export const PRELOAD_DECISIONS = ["start", "later", "there", "coming", "no"] as const;

/** Models that an answer lists, of each node; those that are expected most. */
export const MAX_PLANNED = 200;

const bytes = z.number().int().nonnegative();
const moment = z.number().nullable();

export const hintSchema = z.object({
	model_name: z.string(),
	device: z.string(),
	from: z.number(),
	until: z.number(),
	/** What becomes of it, as of now. */
	decision: z.enum(PRELOAD_DECISIONS),
	why: z.string(),
	/** When its copy to memory begins; null: it need not. */
	starts_at: moment,
});
export type HintAnswer = z.infer<typeof hintSchema>;

export const preloadPlanSchema = z.object({
	node: z.string(),
	/** The memory that it is about; null: this node has none. */
	device: z.string().nullable(),
	mode: z.enum(PRELOAD_MODES),
	/** What copies may take that nobody has used yet, and what they take. */
	budget_bytes: bytes,
	used_bytes: bytes,
	/** From disk to memory, as measured. */
	rate_bytes_per_second: z.number().nonnegative(),
	models: z.array(
		z.object({
			model_name: z.string(),
			revision: z.string(),
			size_bytes: bytes,
			decision: z.enum(PRELOAD_DECISIONS),
			why: z.string(),
			/** Uses expected within the hour. */
			expected_uses: z.number().nonnegative(),
			hinted: z.boolean(),
			expected_at: moment,
			starts_at: moment,
			last_used_at: moment,
		}),
	),
});
export type PreloadPlan = z.infer<typeof preloadPlanSchema>;
