/** Tasks: durable queue entries of a node (or operations of the host), as stored and as shown on the wire. */
import { z } from "zod";

export const PRIORITIES = ["critical", "high", "normal", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** What a queue can do. An operation of the host uses the same words. */
export const TASK_TYPES = [
	"download",
	"copy",
	"move",
	"delete",
	"serve",
	"stop",
	"verify",
	"upload",
	"adopt",
	"evict",
] as const;
export type TaskType = (typeof TASK_TYPES)[number];

/** States inside the queue. Terminal rows never change. */
export const TASK_STATES = [
	"blocked",
	"pending",
	"retry_wait",
	"running",
	"cancelling",
	"completed",
	"failed",
	"cancelled",
] as const;
export type TaskState = (typeof TASK_STATES)[number];

/** Statuses on the wire: blocked and retry_wait are `pending`, cancelling is `running`. */
export const TASK_STATUSES = ["pending", "running", "completed", "failed", "cancelled"] as const;
export type TaskStatus = (typeof TASK_STATUSES)[number];

/** How a task can end. */
export const FINISHED_STATUSES = ["completed", "failed", "cancelled"] as const;
export type FinishedStatus = (typeof FINISHED_STATUSES)[number];

/** Phases that a running task goes through, for people. */
export const TASK_PHASES = [
	"queued",
	"waiting",
	"resolving",
	"downloading",
	"copying",
	"moving",
	"uploading",
	"verifying",
	"publishing",
	"starting",
	"stopping",
	"deleting",
	"ready",
	"done",
] as const;
export type TaskPhase = (typeof TASK_PHASES)[number];

export const progressSchema = z.object({
	bytes_done: z.number().int().nonnegative(),
	/** 0 until it is known. */
	bytes_total: z.number().int().nonnegative(),
	rate_bytes_per_s: z.number().nonnegative(),
	/** Seconds; null until it can be told. */
	eta_s: z.number().nonnegative().nullable(),
	/** How the bytes come, while a transfer runs: in the data process, or in the agent itself. */
	plane: z.enum(["fast", "portable"]).optional(),
	/** There when parts come compressed from another node. */
	compression: z.literal("zstd").optional(),
});
export type Progress = z.infer<typeof progressSchema>;

export const storedErrorSchema = z.object({
	code: z.string(),
	message: z.string(),
	details: z.record(z.string(), z.unknown()),
	hint: z.string().optional(),
});

/** A task as the API shows it. Times are seconds since the epoch, as in the API design. */
export const taskSchema = z.object({
	task_id: z.string(),
	/** Its place in the order of submission on its node. */
	seq: z.number().int(),
	task_type: z.enum(TASK_TYPES),
	priority: z.enum(PRIORITIES),
	dependencies: z.array(z.string()),
	resources: z.object({
		devices: z.array(z.string()),
		models: z.array(z.string()),
		exclusive: z.boolean(),
	}),
	status: z.enum(TASK_STATUSES),
	phase: z.enum(TASK_PHASES),
	progress: progressSchema,
	attempt: z.number().int(),
	max_attempts: z.number().int(),
	node: z.string(),
	created_at: z.number(),
	started_at: z.number().nullable(),
	completed_at: z.number().nullable(),
	/** What a pending or running task waits for, in words; null when it does not wait. */
	waiting_for: z.string().nullable(),
	/** The request that made it, without secrets. */
	request: z.record(z.string(), z.unknown()),
	/** What it produced (e.g. `{ service_id, url }`, `{ source_kept }`); null until then. */
	result: z.record(z.string(), z.unknown()).nullable(),
	error: storedErrorSchema.nullable(),
	/** The failed or cancelled task that it does again, and the one that does it again. */
	retry_of: z.string().nullable().default(null),
	retried_as: z.string().nullable().default(null),
});
export type TaskDocument = z.infer<typeof taskSchema>;

/** The answer to a submit. `estimated_time` is seconds, 0 when nothing is known yet. */
export const submittedSchema = z.object({
	task_id: z.string(),
	status: z.literal("queued"),
	position: z.number().int(),
	estimated_time: z.number(),
});
export type Submitted = z.infer<typeof submittedSchema>;

/** The wire's status of a state. */
export function taskStatus(state: TaskState): TaskStatus {
	switch (state) {
		case "blocked":
		case "pending":
		case "retry_wait":
			return "pending";
		case "running":
		case "cancelling":
			return "running";
		case "completed":
		case "failed":
		case "cancelled":
			return state;
	}
}

export function isTerminal(state: TaskState | TaskStatus): boolean {
	return state === "completed" || state === "failed" || state === "cancelled";
}
