/** The node's routes about how fast bytes may go. */
import type { Bandwidth, Rate } from "../../core/transfer/transfer.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { isTerminal } from "../../schema/task.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRouteDependencies } from "./node-requests.ts";

type BandwidthRoutes = Pick<Handlers<"node">, "setTaskBandwidth" | "getNodeBandwidth" | "setNodeBandwidth">;

export function bandwidthRoutes(d: NodeRouteDependencies): BandwidthRoutes {
	const { down, up, kept } = d.bandwidth;
	const requireThis = (node: string): void => {
		if (node !== d.nodeName) throw invalid("wrong_node", `This node is ${d.nodeName}.`, { node });
	};
	const shown = () => ({
		node: d.nodeName,
		down: down.limits().own ?? null,
		up: up.limits().own ?? null,
		share_down: down.limits().share ?? null,
		share_up: up.limits().share ?? null,
	});
	return {
		setTaskBandwidth: ({ params, body }) => {
			const task = d.queue.get(params.task_id);
			if (isTerminal(task.status)) throw alreadyTerminal(task.task_id, task.status);
			// What goes to a bucket is sent, all else is received.
			const direction: Bandwidth = task.task_type === "upload" ? up : down;
			direction.setTransfer(task.task_id, rateOf(body.bandwidth_limit));
			return { task_id: task.task_id, bandwidth_limit: body.bandwidth_limit };
		},
		getNodeBandwidth: ({ params }) => {
			requireThis(params.node);
			return shown();
		},
		setNodeBandwidth: async ({ params, body }) => {
			requireThis(params.node);
			if (body.down !== undefined) down.setNode({ own: rateOf(body.down) });
			if (body.up !== undefined) up.setNode({ own: rateOf(body.up) });
			await kept.keep({ down: down.limits().own ?? null, up: up.limits().own ?? null });
			return shown();
		},
	};
}

/** 409: nothing of it will be received any more. */
export function alreadyTerminal(taskId: string, status: string): GswarmError {
	return new GswarmError("CONFLICT", `The task ${taskId} is ${status}.`, {
		reason: "already_terminal",
		details: { task_id: taskId, status },
	});
}

function rateOf(rate: number | null): Rate {
	return rate ?? undefined;
}
