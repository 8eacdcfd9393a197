/** What the API tells of a queue besides its tasks: its configuration, its events, and why a task waits. */
import { z } from "zod";
import { PRIORITIES, TASK_STATES, TASK_STATUSES, TASK_TYPES, storedErrorSchema } from "./task.ts";
import { taskCountersSchema } from "./node.ts";

export const MAX_CONCURRENT_TASKS = 1024;

export const queueConfigSchema = z.object({
	/** Tasks that run at once; one more may when it is critical. */
	max_concurrent_tasks: z.number().int().min(1).max(MAX_CONCURRENT_TASKS),
	/** Priorities that a submit may have, the most urgent first. */
	priority_levels: z.array(z.enum(PRIORITIES)).min(1).max(PRIORITIES.length),
	/** Whether tasks wait for devices that others hold. */
	resource_tracking: z.boolean(),
});
export type QueueConfigBody = z.infer<typeof queueConfigSchema>;

/** A queue in short, as one of several. */
export const queueSummarySchema = z.object({
	queue_config: queueConfigSchema,
	task_queue: taskCountersSchema,
});
export type QueueSummary = z.infer<typeof queueSummarySchema>;

/** A change of a task's state, as it was written with it. */
export const taskEventSchema = z.object({
	/** Rises with each change on a node. */
	id: z.number().int(),
	task_id: z.string(),
	task_type: z.enum(TASK_TYPES),
	model_name: z.string(),
	node: z.string(),
	/** Null for the submit. */
	from: z.enum(TASK_STATUSES).nullable(),
	status: z.enum(TASK_STATUSES),
	/** The state inside: `blocked` and `retry_wait` are both `pending` outside. */
	state: z.enum(TASK_STATES),
	attempt: z.number().int(),
	/** Why, in one word; null where the change says it all. */
	reason: z.string().nullable(),
	/** Seconds since the epoch. */
	at: z.number(),
});
export type TaskEventBody = z.infer<typeof taskEventSchema>;

const mode = z.enum(["shared", "exclusive"]);

/** One thing that keeps a task from running. Times are seconds since the epoch. */
export const obstacleSchema = z.discriminatedUnion("kind", [
	z.object({ kind: z.literal("dependency"), task_id: z.string(), status: z.enum(TASK_STATUSES) }),
	z.object({
		kind: z.literal("reservation"),
		/** `model:NAME@TIER` or `device:TIER`. */
		key: z.string(),
		mode,
		held_by: z.array(
			z.object({
				task_id: z.string(),
				mode,
				since: z.number().nullable(),
				/** Seconds that it still needs, where that can be told. */
				eta_s: z.number().nullable().optional(),
			}),
		),
		/** Who has waited so long that it is theirs next. */
		promised_to: z.array(z.object({ task_id: z.string(), mode })),
	}),
	z.object({
		kind: z.literal("space"),
		key: z.string(),
		needed: z.number(),
		capacity: z.number(),
		reserved: z.number(),
		held_by: z.array(z.string()),
	}),
	z.object({
		kind: z.literal("retry"),
		until: z.number(),
		/** What it waits for until then: that an error passes, room on a tier, the host's word. */
		why: z.enum(["error", "space", "host"]),
		error: storedErrorSchema.nullable(),
	}),
	z.object({ kind: z.literal("slots"), running: z.number().int(), limit: z.number().int() }),
	z.object({ kind: z.literal("line"), ahead: z.number().int() }),
]);
export type ObstacleBody = z.infer<typeof obstacleSchema>;
