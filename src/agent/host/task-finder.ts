/** Tasks of the whole cluster, wherever they run: the host's own operations and the tasks of reachable nodes. */
import type { ApiClient } from "../../api/client.ts";
import type { Queue } from "../../core/queue/queue.ts";
import { GswarmError, asGswarmError, notFound } from "../../schema/errors.ts";
import type { ObstacleBody } from "../../schema/queue.ts";
import type { TaskDocument } from "../../schema/task.ts";
import { taskWithObstacles } from "../queue-view.ts";
import type { Nodes } from "./nodes.ts";

export interface FoundTask {
	/** Where it is: the host's own name, or a node's. */
	node: string;
	task: TaskDocument & { obstacles?: ObstacleBody[] | undefined };
	/** Undefined: it is the host's own. */
	client: ApiClient | undefined;
}

export interface TaskFinder {
	/** Where a task was forwarded to, so that it is found with one call. */
	remember(taskId: string, node: string): void;
	/** @throws 404 task_not_found; 503 node_unreachable while a node that may have it has not answered */
	find(taskId: string): Promise<FoundTask>;
	/** Of the node that has it, without asking it where that is known; undefined: it is the host's own. @throws as find */
	line(taskId: string): Promise<ApiClient | undefined>;
	cancel(taskId: string): Promise<TaskDocument>;
	/** Unfinished tasks of a node that work on a model. */
	live(node: string, model: string): Promise<TaskDocument[]>;
}

const MAX_REMEMBERED = 10_000;
const MOST_OF_ONE_MODEL = 200;

export function createTaskFinder({
	queue,
	nodes,
	hostName,
}: {
	queue: Queue;
	nodes: Pick<Nodes, "reachable" | "awaited" | "client">;
	hostName: string;
}): TaskFinder {
	const places = new Map<string, string>();
	const remember = (taskId: string, node: string): void => {
		places.delete(taskId);
		places.set(taskId, node);
		const [oldest] = places.keys();
		if (places.size > MAX_REMEMBERED && oldest !== undefined) places.delete(oldest);
	};
	const own = (taskId: string): FoundTask["task"] | undefined => {
		try {
			return taskWithObstacles(queue, taskId);
		} catch (error) {
			if (asGswarmError(error).code === "NOT_FOUND") return undefined;
			throw error;
		}
	};
	const onNode = async (taskId: string): Promise<FoundTask> => {
		const known = places.get(taskId);
		const candidates = known === undefined ? nodes.reachable().map((v) => v.name) : [known];
		const silent = known === undefined ? nodes.awaited().map((v) => v.name) : [];
		const answers = await Promise.all(
			candidates.map(async (node): Promise<FoundTask | undefined> => {
				try {
					const client = nodes.client(node);
					return { node, client, task: await client.call("getTask", { params: { task_id: taskId } }) };
				} catch (error) {
					if (asGswarmError(error).code === "NOT_FOUND") return undefined;
					if (known !== undefined) throw error;
					silent.push(node);
					return undefined;
				}
			}),
		);
		const found = answers.find((a) => a !== undefined);
		if (found === undefined && silent.length > 0) throw mayBeThere(taskId, silent);
		if (found === undefined)
			throw notFound("task", taskId, "`gswarm queue history` shows the finished ones.");
		remember(taskId, found.node);
		return found;
	};
	const find: TaskFinder["find"] = async (taskId) => {
		const task = own(taskId);
		return task === undefined ? onNode(taskId) : { node: hostName, task, client: undefined };
	};

	return {
		remember,
		find,
		async line(taskId) {
			const known = places.get(taskId);
			return known === undefined ? (await find(taskId)).client : nodes.client(known);
		},
		async cancel(taskId) {
			const { client } = await find(taskId);
			return client === undefined
				? queue.cancel(taskId)
				: client.call("cancelTask", { params: { task_id: taskId } });
		},
		async live(node, model) {
			const query = { model, limit: MOST_OF_ONE_MODEL };
			return (await nodes.client(node).call("queueStatus", { query })).tasks;
		},
	};
}

/** 503: to say that there is none would end the waiting of whoever follows a task over a restart. */
function mayBeThere(taskId: string, silent: string[]): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The task ${JSON.stringify(taskId)} is on no node that answers; ${silent.join(", ")} may have it.`,
		{
			reason: "node_unreachable",
			details: { task: taskId, nodes: silent },
			retryable: true,
			hint: "Ask again in some seconds; `gswarm node list` shows who answers.",
		},
	);
}
