/** The node's routes about its tasks. */
import { invalid } from "../../schema/errors.ts";
import { historyFilter, idempotencyKey } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { eventStream } from "../http/event-stream.ts";
import { eventIdOf, parseEventId, queueChanges, taskChanges } from "../queue-stream.ts";
import { configChange, queuePage, taskWithObstacles } from "../queue-view.ts";
import { checkRetry } from "../retry-rights.ts";
import type { NodeRouteDependencies } from "./node-requests.ts";

type QueueRoutes = Pick<
	Handlers<"node">,
	| "queueStatus"
	| "getTask"
	| "cancelTask"
	| "retryTask"
	| "taskEvents"
	| "queueEvents"
	| "queueHistory"
	| "queueConfig"
	| "configureQueue"
>;

export function queueRoutes({ queue, clock, nodeName }: NodeRouteDependencies): QueueRoutes {
	const checkNode = (node: string | undefined): void => {
		if (node !== undefined && node !== nodeName)
			throw invalid("wrong_node", `This node is ${nodeName}.`, { node });
	};
	return {
		queueStatus: ({ query: { node, ...filter } }) => {
			checkNode(node);
			return queuePage(queue, filter);
		},
		getTask: ({ params }) => taskWithObstacles(queue, params.task_id),
		cancelTask: ({ params }) => queue.cancel(params.task_id),
		retryTask: async ({ params, caller, request }) => {
			checkRetry(caller, queue.get(params.task_id));
			const key = request.headers.get("idempotency-key");
			const { task, position, estimatedTimeS } = await queue.retry(
				params.task_id,
				key === null ? {} : { idempotencyKey: idempotencyKey(key) },
			);
			return {
				task_id: task.task_id,
				status: "queued",
				position,
				estimated_time: estimatedTimeS,
				node: nodeName,
			};
		},
		taskEvents: ({ params, request }) => {
			const { task_id: taskId } = queue.get(params.task_id);
			return eventStream(clock, request, (signal) => taskChanges({ queue, clock }, { taskId, signal }));
		},
		queueEvents: ({ query, request }) => {
			checkNode(query.node);
			const after = parseEventId(eventIdOf(request, query.after));
			return eventStream(clock, request, (signal) =>
				queueChanges({ queue, clock, node: nodeName }, { after, signal }),
			);
		},
		queueHistory: ({ query }) => {
			checkNode(query.node);
			return queue.history(historyFilter(query));
		},
		queueConfig: ({ query }) => {
			checkNode(query.node);
			return queue.config();
		},
		configureQueue: ({ query, body }) => {
			checkNode(query.node);
			return queue.configure(configChange(body));
		},
	};
}
