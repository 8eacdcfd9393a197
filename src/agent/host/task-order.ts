/**
 * What a new task comes after, wherever in the cluster that is. Tasks of one node that only wait for tasks of that node
 * are its own business; everything else is the host's, whose queue waits for tasks of nodes until it hears of their end.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import {
	type Elsewhere,
	type Queue,
	failedAlready,
	refuseTooMany,
	rootCause,
	unknownDependency,
} from "../../core/queue/queue.ts";
import { asGswarmError } from "../../schema/errors.ts";
import type { ObstacleBody } from "../../schema/queue.ts";
import { type FinishedStatus, type TaskDocument, isTerminal } from "../../schema/task.ts";
import { bringsTo } from "../coming-models.ts";
import type { Nodes } from "./nodes.ts";
import type { TaskFinder } from "./task-finder.ts";

/** The dependencies of a request. */
export interface Order {
	/** There are some. */
	readonly waits: boolean;
	/** As a submit to the host's queue names them. */
	readonly own: { dependencies: string[]; elsewhere: Elsewhere[] };
	/** Whether one node can see to the order alone. */
	isOf(node: string): boolean;
	/** As a submit to that node names them. */
	on(node: string): string[] | undefined;
	/** Devices to which they bring the model. */
	devicesOf(model: string): string[];
}

export interface TaskOrder {
	/** @throws 400 unknown_dependency, too_many_dependencies; 424 dependency_failed */
	of(taskIds: readonly string[] | undefined): Promise<Order>;
	/** Of the tasks of nodes that this one came after: those that were done again, by whom. */
	again(task: Pick<TaskDocument, "dependencies">): Promise<Record<string, Elsewhere>>;
	/** What is in the way of a task of the host's queue, with how the tasks of nodes stand now that it waits for. */
	told(obstacles: readonly ObstacleBody[]): Promise<ObstacleBody[]>;
}

interface Before {
	task: TaskDocument;
	/** Undefined: in the host's own queue. */
	node: string | undefined;
}

export function createTaskOrder({
	queue,
	tasks,
}: {
	queue: Queue;
	tasks: Pick<TaskFinder, "find">;
}): TaskOrder {
	const find = async (taskId: string): Promise<Before> => {
		try {
			const { task, node, client } = await tasks.find(taskId);
			return { task, node: client === undefined ? undefined : node };
		} catch (error) {
			if (asGswarmError(error).code === "NOT_FOUND") throw unknownDependency(taskId, "this cluster");
			throw error;
		}
	};
	const own = (taskId: string): TaskDocument | undefined => {
		try {
			return queue.get(taskId);
		} catch (error) {
			if (asGswarmError(error).code === "NOT_FOUND") return undefined;
			throw error;
		}
	};
	const standing = async (taskId: string): Promise<Before | undefined> => {
		try {
			return await find(taskId);
		} catch (error) {
			// Its node is away, or has forgotten it.
			const { code, reason } = asGswarmError(error);
			if (reason === "unknown_dependency" || code === "NETWORK_ERROR" || reason === "node_unreachable")
				return undefined;
			throw error;
		}
	};
	return {
		async again({ dependencies }) {
			const found: Record<string, Elsewhere> = {};
			for (const taskId of dependencies.filter((id) => own(id) === undefined)) {
				let now = await standing(taskId);
				for (let n = 0; n < MOST_RETRIES && now?.task.retried_as != null; n++)
					now = await standing(now.task.retried_as);
				if (now?.node !== undefined && now.task.task_id !== taskId)
					found[taskId] = { taskId: now.task.task_id, place: now.node };
			}
			return found;
		},
		told: (obstacles) =>
			Promise.all(
				obstacles.map(async (one) => {
					if (one.kind !== "dependency" || own(one.task_id) !== undefined) return one;
					const now = await standing(one.task_id);
					return now === undefined ? one : { ...one, status: now.task.status };
				}),
			),
		async of(taskIds = []) {
			refuseTooMany(new Set(taskIds).size);
			const before: Before[] = [];
			for (const taskId of new Set(taskIds)) before.push(await find(taskId));
			for (const { task, node } of before) {
				// Those of the host's own queue are looked at in the transaction that submits.
				if (node === undefined || (task.status !== "failed" && task.status !== "cancelled")) continue;
				const { task_id: taskId, status: state } = task;
				throw failedAlready({ taskId, root: rootCause(taskId, task.error), state });
			}
			const open = before.filter(({ task }) => !isTerminal(task.status));
			const known = new Map(before.map(({ task }) => [task.task_id, task]));
			return {
				waits: before.length > 0,
				own: {
					dependencies: before.filter(({ node }) => node === undefined).map(({ task }) => task.task_id),
					elsewhere: open.flatMap(({ task, node }) =>
						node === undefined ? [] : [{ taskId: task.task_id, place: node }],
					),
				},
				isOf: (node) =>
					before.every((one) => one.node === node || (one.node !== undefined && isTerminal(one.task.status))),
				on(node) {
					const there = before.filter((one) => one.node === node).map(({ task }) => task.task_id);
					return there.length === 0 ? undefined : there;
				},
				devicesOf: (model) => bringsTo(model, [...known.keys()], (id) => known.get(id) ?? own(id)),
			};
		},
	};
}

/** That follow one another. */
const MOST_RETRIES = 100;
const LOOK_EVERY_MS = 500;
const AT_ONCE = 16;

/** Tells the host's queue how tasks of nodes ended that its own wait for; until the signal aborts. */
export async function keepHearing(
	{ queue, nodes, clock, log }: { queue: Queue; nodes: Pick<Nodes, "client">; clock: Clock; log: Log },
	signal: AbortSignal,
): Promise<void> {
	while (!signal.aborted) {
		const open = queue.awaited();
		for (let at = 0; at < open.length && !signal.aborted; at += AT_ONCE) {
			await Promise.all(
				open.slice(at, at + AT_ONCE).map(async (one) => {
					try {
						const end = await endOf(nodes, one);
						if (end !== undefined) await queue.heard(one.taskId, end);
					} catch (error) {
						log.debug("queue.dependency_unheard", { task_id: one.taskId, node: one.place, error });
					}
				}),
			);
		}
		await clock.sleep(LOOK_EVERY_MS, signal);
	}
}

/** Undefined while it goes on. A task that its node does not know any more, or whose node has gone, did not complete. */
async function endOf(
	nodes: Pick<Nodes, "client">,
	{ taskId, place }: Elsewhere,
): Promise<{ status: FinishedStatus; root: string } | undefined> {
	try {
		const { status, error } = await nodes.client(place).call("getTask", { params: { task_id: taskId } });
		return isTerminal(status)
			? { status: status as FinishedStatus, root: rootCause(taskId, error) }
			: undefined;
	} catch (error) {
		if (asGswarmError(error).code === "NOT_FOUND") return { status: "failed", root: taskId };
		throw error;
	}
}
