/** Tasks. */
import { z } from "zod";
import { taskCountersSchema } from "../../schema/node.ts";
import { FINISHED_STATUSES, PRIORITIES, TASK_TYPES, taskSchema } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { BOTH, name, queryInteger, querySeconds } from "./fields.ts";

export const queueRoutes = {
	queueStatus: {
		method: "GET",
		path: "/api/v1/queue",
		summary: "Queue counters, its configuration, and the tasks that are pending or running",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({ node: name.optional() }),
		status: 200,
		response: z.object({
			queue_config: z.object({
				max_concurrent_tasks: z.number(),
				priority_levels: z.array(z.enum(PRIORITIES)),
				resource_tracking: z.boolean(),
			}),
			task_queue: taskCountersSchema,
			tasks: z.array(taskSchema),
		}),
	},
	getTask: {
		method: "GET",
		path: "/api/v1/queue/tasks/{task_id}",
		summary: "One task",
		role: "viewer",
		on: BOTH,
		status: 200,
		response: taskSchema,
	},
	cancelTask: {
		method: "POST",
		path: "/api/v1/queue/tasks/{task_id}/cancel",
		summary: "Cancel a pending or running task: a user one that they submitted, an operator any",
		role: "user",
		ownTask: true,
		on: BOTH,
		status: 200,
		response: taskSchema,
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
			since: querySeconds,
			cursor: z.string().max(200).optional(),
			node: name.optional(),
		}),
		status: 200,
		response: z.object({ tasks: z.array(taskSchema), next_cursor: z.string().nullable() }),
	},
} as const satisfies Record<string, Route>;
