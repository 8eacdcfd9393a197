/** What becomes of one model on one device, when an operation has several. */
import { z } from "zod";
import { progressSchema, storedErrorSchema, TASK_PHASES, TASK_STATUSES } from "./task.ts";

export const transferItemSchema = z.object({
	model_name: z.string(),
	target_device: z.string(),
	node: z.string(),
	status: z.enum(TASK_STATUSES),
	phase: z.enum(TASK_PHASES),
	progress: progressSchema,
	waiting_for: z.string().nullable(),
	result: z.record(z.string(), z.unknown()).nullable(),
	error: storedErrorSchema.nullable(),
});
export type TransferItem = z.infer<typeof transferItemSchema>;

export const transferPlanSchema = z.object({
	items: z.array(
		z.object({
			model_name: z.string(),
			target_device: z.string(),
			/** Devices that have all of it; none for a download. */
			source_devices: z.array(z.string()),
			/** Null until the source was asked. */
			size_bytes: z.number().int().nonnegative().nullable(),
			/** It is there already. */
			is_there: z.boolean(),
		}),
	),
	/** What is to be moved, without what is there; null until the sources were asked. */
	total_bytes: z.number().int().nonnegative().nullable(),
});
export type TransferPlan = z.infer<typeof transferPlanSchema>;
