/** What would go from a device that is full, and why what stays does. */
import { z } from "zod";
import { COPY_PURPOSES } from "./model.ts";
import { tierUsageSchema } from "./node.ts";

/** Why a copy may not go. */
export const KEEP_REASONS = ["pinned", "in_use", "adopted", "last_durable_copy", "only_copy"] as const;
export type KeepReason = (typeof KEEP_REASONS)[number];

/** How full a tier may be, as shares of it. */
const watermarksSchema = z.object({
	/** Copies go by themselves where room is needed. */
	automatic: z.boolean(),
	high: z.number(),
	low: z.number(),
});

const judgedCopySchema = z.object({
	model_name: z.string(),
	revision: z.string(),
	size_bytes: z.number().int().nonnegative(),
	ready_at: z.number(),
	last_used_at: z.number().nullable(),
	idle_s: z.number(),
	purpose: z.enum(COPY_PURPOSES),
	/** Who uses it now, in words. */
	holders: z.array(z.string()),
	other_durable_copies: z.number().int().nonnegative(),
	/** By the rates that were measured; null: it could not be had again. */
	cost_to_bring_back_s: z.number().nullable(),
	/** Seconds to have it again, for each GiB and each second that it was not used; the least goes first. */
	worth: z.number(),
	/** `goes`: it is chosen; `may_go`: not needed; `stays`: it may not. */
	verdict: z.enum(["goes", "may_go", "stays"]),
	reason: z.enum(KEEP_REASONS).nullable(),
});
export type JudgedCopy = z.infer<typeof judgedCopySchema>;

export const evictionPlanSchema = z.object({
	device: z.string(),
	watermarks: watermarksSchema,
	usage: tierUsageSchema,
	/** What is to be available when it is done. */
	wanted_available: z.number().int().nonnegative(),
	/** What has to come free for that; 0: nothing. */
	need_bytes: z.number().int().nonnegative(),
	/** What the chosen ones free. */
	freed_bytes: z.number().int().nonnegative(),
	/** What all that may go would free. */
	evictable_bytes: z.number().int().nonnegative(),
	/** Whether enough can come free. */
	suffices: z.boolean(),
	/** In the order in which they would go; the first of them where there are many. */
	copies: z.array(judgedCopySchema),
	copies_total: z.number().int().nonnegative(),
});
export type EvictionPlan = z.infer<typeof evictionPlanSchema>;
