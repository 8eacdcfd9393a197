/** How fast bytes may go: the cluster's limit, and those of nodes and tasks, passed on. */
import { GswarmError } from "../../schema/errors.ts";
import { type TaskDocument, isTerminal } from "../../schema/task.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";

type BandwidthRoutes = Pick<Handlers<"host">, "setTaskBandwidth" | "getNodeBandwidth" | "setNodeBandwidth">;

/** The name that stands for the cluster as a whole. */
const ALL = "all";

export function bandwidthRoutes(d: HostRouteDependencies): BandwidthRoutes {
	const ofCluster = () => ({ node: ALL, ...d.bandwidth.limits(), share_down: null, share_up: null });
	return {
		setTaskBandwidth: async ({ params: { task_id: id }, body }) => {
			const { task, client } = await d.tasks.find(id);
			if (client !== undefined) return client.call("setTaskBandwidth", { params: { task_id: id }, body });
			if (isTerminal(task.status)) {
				throw new GswarmError("CONFLICT", `The task ${id} is ${task.status}.`, {
					reason: "already_terminal",
					details: { task_id: id, status: task.status },
				});
			}
			const parts = await partsOf(d, task);
			if (parts.length === 0) throw nothingReceives(id);
			for (const { node, taskId } of parts) {
				await d.nodes.client(node).call("setTaskBandwidth", { params: { task_id: taskId }, body });
			}
			return { task_id: id, bandwidth_limit: body.bandwidth_limit };
		},
		getNodeBandwidth: ({ params: { node } }) =>
			node === ALL ? ofCluster() : d.nodes.client(node).call("getNodeBandwidth", { params: { node } }),
		setNodeBandwidth: async ({ params: { node }, body }) => {
			if (node !== ALL) return d.nodes.client(node).call("setNodeBandwidth", { params: { node }, body });
			const { down, up } = body;
			await d.bandwidth.set({ ...(down === undefined ? {} : { down }), ...(up === undefined ? {} : { up }) });
			return ofCluster();
		},
	};
}

/** The tasks of nodes that do an operation's work and receive bytes. */
async function partsOf(
	d: HostRouteDependencies,
	{ task_id: operation, resources }: TaskDocument,
): Promise<{ node: string; taskId: string }[]> {
	const found: { node: string; taskId: string }[] = [];
	for (const { name } of d.nodes.reachable()) {
		for (const model of resources.models) {
			for (const task of await d.tasks.live(name, model)) {
				if (operationOf(task.request) === operation) found.push({ node: name, taskId: task.task_id });
			}
		}
	}
	return found;
}

/** Of a task that pulls from one node or from several. */
function operationOf(request: Record<string, unknown>): unknown {
	const work = request["pull"] ?? request["swarm"];
	return typeof work === "object" && work !== null && "operation_id" in work ? work.operation_id : undefined;
}

/** 409: its bytes have not begun to come, or have all come. */
function nothingReceives(taskId: string): GswarmError {
	return new GswarmError("CONFLICT", `No node receives anything for ${taskId} now.`, {
		reason: "nothing_receives",
		details: { task_id: taskId },
		retryable: true,
		hint: "Try again when it runs; `gswarm queue show` tells what it waits for.",
	});
}
