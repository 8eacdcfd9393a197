/** Tasks. */
import { z } from "zod";
import { taskCountersSchema } from "../../schema/node.ts";
import {
	MAX_CONCURRENT_TASKS,
	queueConfigSchema,
	queueSummarySchema,
	obstacleSchema,
} from "../../schema/queue.ts";
import { FINISHED_STATUSES, PRIORITIES, TASK_TYPES, taskSchema } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { BOTH, name, queryInteger, querySeconds, submittedOn } from "./fields.ts";

const cursor = z.string().min(1).max(8000);

/** Nodes that are away are missing from an answer about the whole cluster. */
const missingNodes = z.array(z.string()).optional();

export const queueRoutes = {
	queueStatus: {
		method: "GET",
		path: "/api/v1/queue",
		summary:
			"Queue counters, its configuration, and the tasks that are pending or running; `cursor` continues a page",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			node: name.optional(),
			status: z.enum(["pending", "running"]).optional(),
			type: z.enum(TASK_TYPES).optional(),
			model: name.optional(),
			priority: z.enum(PRIORITIES).optional(),
			limit: queryInteger({ min: 1, max: 200, fallback: 100 }),
			cursor: cursor.optional(),
		}),
		status: 200,
		response: z.object({
			queue_config: queueConfigSchema,
			task_queue: taskCountersSchema,
			tasks: z.array(taskSchema),
			/** How many there are that fit, on this page and others. */
			total: z.number().int(),
			next_cursor: z.string().nullable(),
			/** On a host: each queue of which this is the sum. */
			nodes: z.record(z.string(), queueSummarySchema).optional(),
			missing_nodes: missingNodes,
		}),
	},
	getTask: {
		method: "GET",
		path: "/api/v1/queue/tasks/{task_id}",
		summary: "One task, and what keeps it from running",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: taskSchema.extend({ obstacles: z.array(obstacleSchema).optional() }),
	},
	cancelTask: {
		method: "POST",
		path: "/api/v1/queue/tasks/{task_id}/cancel",
		summary: "Cancel a pending or running task: a user one that they submitted, an operator any",
		role: "user",
		ownTask: true,
		endsTask: true,
		on: BOTH,
		status: 200,
		response: taskSchema,
	},
	retryTask: {
		method: "POST",
		path: "/api/v1/queue/tasks/{task_id}/retry",
		summary: "Do a failed or cancelled task again, as a new one; needs the role that the first submit needed",
		role: "user",
		on: BOTH,
		status: 202,
		response: submittedOn,
	},
	taskEvents: {
		method: "GET",
		path: "/api/v1/queue/tasks/{task_id}/events",
		summary:
			"The task as it goes on, as server-sent events that end with it: `task` with the whole task, `end` with its end",
		role: "viewer",
		on: BOTH,
		status: 200,
	},
	queueEvents: {
		method: "GET",
		path: "/api/v1/queue/events",
		summary:
			"Changes of tasks as server-sent events: `task` for a change of state (Last-Event-ID continues after it), `progress` at most once a second for each task",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			node: name.optional(),
			/** As Last-Event-ID, for who cannot send headers. */
			after: z.string().max(8000).optional(),
		}),
		status: 200,
	},
	queueHistory: {
		method: "GET",
		path: "/api/v1/queue/history",
		summary: "Finished tasks, the newest first; `cursor` continues a page",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			limit: queryInteger({ min: 1, max: 200, fallback: 50 }),
			status: z.enum(FINISHED_STATUSES).optional(),
			type: z.enum(TASK_TYPES).optional(),
			priority: z.enum(PRIORITIES).optional(),
			since: querySeconds,
			cursor: cursor.optional(),
			node: name.optional(),
		}),
		status: 200,
		response: z.object({
			tasks: z.array(taskSchema),
			next_cursor: z.string().nullable(),
			missing_nodes: missingNodes,
		}),
	},
	queueConfig: {
		method: "GET",
		path: "/api/v1/queue/config",
		summary: "The configuration of the queue; on a host its own and that of each node",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({ node: name.optional() }),
		status: 200,
		response: queueConfigSchema.extend({
			nodes: z.record(z.string(), queueConfigSchema).optional(),
			missing_nodes: missingNodes,
		}),
	},
	configureQueue: {
		method: "PUT",
		path: "/api/v1/queue/config",
		summary:
			"Change what is given of the queue's configuration, from now on and over restarts; on a host without `node` for the whole cluster",
		role: "admin",
		on: BOTH,
		audited: ["node", "max_concurrent_tasks", "resource_tracking"],
		query: z.strictObject({ node: name.optional() }),
		body: z.strictObject({
			max_concurrent_tasks: z.number().int().min(1).max(MAX_CONCURRENT_TASKS).optional(),
			priority_levels: z.array(z.enum(PRIORITIES)).min(1).max(PRIORITIES.length).optional(),
			resource_tracking: z.boolean().optional(),
		}),
		status: 200,
		response: queueConfigSchema.extend({
			nodes: z.record(z.string(), queueConfigSchema).optional(),
			missing_nodes: missingNodes,
		}),
	},
} as const satisfies Record<string, Route>;
