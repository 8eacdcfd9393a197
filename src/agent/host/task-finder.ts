/** Tasks of the whole cluster, wherever they run: the host's own operations and the tasks of reachable nodes. */
import type { Queue } from "../../core/queue/queue.ts";
import { asGswarmError, notFound } from "../../schema/errors.ts";
import type { TaskCounters } from "../../schema/node.ts";
import type { TaskDocument } from "../../schema/task.ts";
import type { Nodes } from "./nodes.ts";

export interface TaskFinder {
	/** Where a task was forwarded to, so that it is found with one call. */
	remember(taskId: string, node: string): void;
	/** @throws 404 task_not_found */
	get(taskId: string): Promise<TaskDocument>;
	cancel(taskId: string): Promise<TaskDocument>;
	/** Pending and running tasks of the cluster or of one node. */
	live(node: string | undefined): Promise<{ counters: TaskCounters; tasks: TaskDocument[] }>;
	/** Finished tasks, the newest first; the cursor goes on only for one node or for the host's own (`node` = its name). */
	history(
		filter: Parameters<Queue["history"]>[0],
		query: { node?: string | undefined; cursor?: string | undefined },
	): Promise<{ tasks: TaskDocument[]; next_cursor: string | null }>;
}

const MAX_REMEMBERED = 10_000;

export function createTaskFinder({
	queue,
	nodes,
	hostName,
}: {
	queue: Queue;
	nodes: Nodes;
	hostName: string;
}): TaskFinder {
	const places = new Map<string, string>();
	const remember = (taskId: string, node: string): void => {
		places.delete(taskId);
		places.set(taskId, node);
		const [oldest] = places.keys();
		if (places.size > MAX_REMEMBERED && oldest !== undefined) places.delete(oldest);
	};
	const own = (taskId: string): TaskDocument | undefined => {
		try {
			return queue.get(taskId);
		} catch (error) {
			if (asGswarmError(error).code === "NOT_FOUND") return undefined;
			throw error;
		}
	};
	const onNode = async (taskId: string): Promise<{ node: string; task: TaskDocument }> => {
		const known = places.get(taskId);
		const candidates = known === undefined ? nodes.reachable().map((v) => v.name) : [known];
		const answers = await Promise.all(
			candidates.map(async (node) => {
				try {
					return { node, task: await nodes.client(node).call("getTask", { params: { task_id: taskId } }) };
				} catch (error) {
					if (known === undefined || asGswarmError(error).code === "NOT_FOUND") return undefined;
					throw error;
				}
			}),
		);
		const found = answers.find((a) => a !== undefined);
		if (found === undefined)
			throw notFound("task", taskId, "`gswarm queue history` shows the finished ones.");
		remember(taskId, found.node);
		return found;
	};
	const gather = async <T>(node: string | undefined, ask: (name: string) => Promise<T>): Promise<T[]> => {
		const names = node === undefined ? nodes.reachable().map((v) => v.name) : [node];
		const answers = await Promise.all(
			names.map((name) =>
				ask(name).catch((error: unknown) => {
					// A node that just went away is left out of the cluster's view; asked for by name it is an error.
					const { code, reason } = asGswarmError(error);
					const away = code === "NETWORK_ERROR" || reason === "node_unreachable";
					if (node === undefined && away) return undefined;
					throw error;
				}),
			),
		);
		return answers.filter((a) => a !== undefined);
	};

	return {
		remember,
		get: async (taskId) => own(taskId) ?? (await onNode(taskId)).task,
		async cancel(taskId) {
			if (own(taskId) !== undefined) return queue.cancel(taskId);
			const { node } = await onNode(taskId);
			return nodes.client(node).call("cancelTask", { params: { task_id: taskId } });
		},
		async live(node) {
			const parts =
				node === hostName ? [] : await gather(node, (name) => nodes.client(name).call("queueStatus", {}));
			const mine =
				node === undefined || node === hostName
					? { task_queue: queue.counters(), tasks: queue.list() }
					: undefined;
			const all = mine === undefined ? parts : [mine, ...parts];
			const sum = (key: keyof TaskCounters): number => all.reduce((n, part) => n + part.task_queue[key], 0);
			return {
				counters: { pending: sum("pending"), running: sum("running"), completed: sum("completed") },
				tasks: all.flatMap((part) => part.tasks),
			};
		},
		async history(filter, { node, cursor }) {
			if (node === hostName) return queue.history({ ...filter, ...(cursor === undefined ? {} : { cursor }) });
			if (node !== undefined) {
				const { cursor: _c, ...rest } = filter ?? {};
				return nodes
					.client(node)
					.call("queueHistory", { query: { ...rest, ...(cursor === undefined ? {} : { cursor }) } });
			}
			const { cursor: _cursor, ...first } = filter ?? {};
			const parts = await gather(undefined, (name) =>
				nodes.client(name).call("queueHistory", { query: first }),
			);
			const tasks = [queue.history(first), ...parts]
				.flatMap((part) => part.tasks)
				.sort((a, b) => (b.completed_at ?? 0) - (a.completed_at ?? 0));
			return { tasks: tasks.slice(0, filter?.limit ?? 50), next_cursor: null };
		},
	};
}
