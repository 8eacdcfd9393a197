/** The host's routes about tasks: the cluster's queues as one, and one of them where the request names it. */
import type { QueueConfigBody, QueueSummary } from "../../schema/queue.ts";
import { historyCursor, pageCursor } from "../../core/queue/queue.ts";
import { asGswarmError } from "../../schema/errors.ts";
import { historyFilter, idempotencyKey } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { eventStream } from "../http/event-stream.ts";
import { eventIdOf, parseEventId, queueChanges, taskChanges } from "../queue-stream.ts";
import { configChange, queuePage } from "../queue-view.ts";
import { checkRetry } from "../retry-rights.ts";
import { inLine, mergedPage, newestFirst } from "./cluster-pages.ts";
import { clusterChanges, opened, parsePlaces } from "./cluster-stream.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";

type QueueRoutes = Pick<
	Handlers<"host">,
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

export function queueRoutes(d: HostRouteDependencies, { passKey, tasksBefore }: HostRequests): QueueRoutes {
	const { queue, nodes, hostName, clock, log } = d;
	const reachable = (): string[] => nodes.reachable().map((view) => view.name);
	/** Every queue that can be asked now; those of nodes that are away are told as missing. */
	const queues = (): { present: string[]; missing: string[] } => {
		const present = reachable();
		const missing = d.cluster
			.views()
			.map((view) => view.name)
			.filter((name) => !present.includes(name));
		return { present: [hostName, ...present], missing };
	};
	/** Undefined for a node that went away just now, which is missing then. */
	const unlessAway = async <T>(name: string, missing: string[], ask: Promise<T>): Promise<T | undefined> => {
		try {
			return await ask;
		} catch (error) {
			const { code, reason } = asGswarmError(error);
			if (code !== "NETWORK_ERROR" && reason !== "node_unreachable") throw error;
			missing.push(name);
			return undefined;
		}
	};
	/** One queue's configuration, or the host's with that of each node beside it. */
	const ofQueues = async (node: string | undefined, ask: (name: string) => Promise<QueueConfigBody>) => {
		if (node !== undefined) return ask(node);
		const { present, missing } = queues();
		const own = await ask(hostName);
		const answers = await Promise.all(
			present
				.filter((name) => name !== hostName)
				.map(async (name) => [name, await unlessAway(name, missing, ask(name))] as const),
		);
		const known = answers.flatMap(([name, config]) =>
			config === undefined ? [] : [[name, config] as const],
		);
		return { ...own, nodes: { [hostName]: own, ...Object.fromEntries(known) }, ...told(missing) };
	};
	const told = (missing: string[]): { missing_nodes?: string[] } =>
		missing.length === 0 ? {} : { missing_nodes: missing.sort() };

	return {
		queueStatus: async ({ query: { node, cursor, ...filter } }) => {
			const one = async (name: string, at: string | undefined) =>
				name === hostName
					? queuePage(queue, { ...filter, cursor: at })
					: nodes.client(name).call("queueStatus", { query: { ...filter, cursor: at } });
			if (node !== undefined) return one(node, cursor);
			const { present, missing } = queues();
			const merge = { compare: inLine, cursorOf: pageCursor, limit: filter.limit };
			const ask = (name: string, at: string | undefined) => unlessAway(name, missing, one(name, at));
			const page = await mergedPage(present, cursor, ask, merge);
			const summaries: Record<string, QueueSummary> = {};
			let total = 0;
			for (const name of present) {
				// A queue that has come to its end is in the sums of every page.
				const part =
					page.answers.get(name) ?? (missing.includes(name) ? undefined : await ask(name, undefined));
				if (part === undefined) continue;
				summaries[name] = { queue_config: part.queue_config, task_queue: part.task_queue };
				total += part.total;
			}
			const sum = (key: "pending" | "running" | "completed"): number =>
				Object.values(summaries).reduce((all, part) => all + part.task_queue[key], 0);
			return {
				queue_config: queue.config(),
				task_queue: { pending: sum("pending"), running: sum("running"), completed: sum("completed") },
				tasks: page.tasks,
				total,
				next_cursor: page.next_cursor,
				nodes: summaries,
				...told(missing),
			};
		},
		getTask: async ({ params }) => {
			const { task, client } = await d.tasks.find(params.task_id);
			if (client !== undefined || task.obstacles === undefined) return task;
			return { ...task, obstacles: await tasksBefore.told(task.obstacles) };
		},
		cancelTask: ({ params }) => d.tasks.cancel(params.task_id),
		retryTask: async ({ params, caller, request }) => {
			const found = await d.tasks.find(params.task_id);
			checkRetry(caller, found.task);
			if (found.client !== undefined) {
				const headers = passKey(request.headers);
				const answer = await found.client.call("retryTask", { params, headers });
				d.tasks.remember(answer.task_id, answer.node);
				return answer;
			}
			const key = request.headers.get("idempotency-key");
			const { task, position, estimatedTimeS } = await queue.retry(params.task_id, {
				again: await tasksBefore.again(found.task),
				...(key === null ? {} : { idempotencyKey: idempotencyKey(key) }),
			});
			const { task_id } = task;
			return { task_id, status: "queued", position, estimated_time: estimatedTimeS, node: hostName };
		},
		taskEvents: async ({ params, request }) => {
			const { client, task } = await d.tasks.find(params.task_id);
			const taskId = task.task_id;
			return eventStream(clock, request, (signal) =>
				client === undefined
					? taskChanges({ queue, clock }, { taskId, signal })
					: opened(client.open("taskEvents", { params, signal })),
			);
		},
		queueEvents: ({ query, request }) => {
			const after = parsePlaces(eventIdOf(request, query.after));
			const open = (name: string, at: string | undefined, signal: AbortSignal) =>
				name === hostName
					? queueChanges({ queue, clock, node: hostName }, { after: parseEventId(at), signal })
					: opened(
							nodes.client(name).open("queueEvents", {
								signal,
								...(at === undefined ? {} : { headers: { "last-event-id": at } }),
							}),
						);
			const present = (): string[] => {
				const all = [hostName, ...reachable()];
				return query.node === undefined ? all : all.filter((name) => name === query.node);
			};
			if (query.node !== undefined && query.node !== hostName) d.cluster.view(query.node);
			const sources = { clock, log, reachable: present, open };
			return eventStream(clock, request, (signal) => clusterChanges(sources, { after, signal }));
		},
		queueHistory: async ({ query: { node, cursor, ...filter } }) => {
			const one = async (name: string, at: string | undefined) =>
				name === hostName
					? queue.history(historyFilter({ ...filter, cursor: at }))
					: nodes.client(name).call("queueHistory", { query: { ...filter, cursor: at } });
			if (node !== undefined) return one(node, cursor);
			const { present, missing } = queues();
			const merge = { compare: newestFirst, cursorOf: historyCursor, limit: filter.limit };
			const ask = (name: string, at: string | undefined) => unlessAway(name, missing, one(name, at));
			const { tasks, next_cursor } = await mergedPage(present, cursor, ask, merge);
			return { tasks, next_cursor, ...told(missing) };
		},
		queueConfig: ({ query }) =>
			ofQueues(query.node, async (name) =>
				name === hostName ? queue.config() : nodes.client(name).call("queueConfig", {}),
			),
		configureQueue: ({ query, body }) =>
			ofQueues(query.node, async (name) =>
				name === hostName
					? queue.configure(configChange(body))
					: nodes.client(name).call("configureQueue", { body: configChange(body) }),
			),
	};
}
