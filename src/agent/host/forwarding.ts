/** Work of one node that the host's queue keeps until what it waits for elsewhere has completed. */
import type { ApiClient } from "../../api/client.ts";
import type { Contract } from "../../api/contract.ts";
import type { BodyOf } from "../../api/route.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Dispatcher } from "./dispatch.ts";
import type { Nodes } from "./nodes.ts";

type Calls = Pick<Contract, "downloadModel" | "copyModel" | "moveModel" | "verifyModel" | "uploadModel">;
type Call = keyof Calls;
type Forward = { [K in Call]: { call: K; node: string; body: BodyOf<Calls[K]> } }[Call];

export interface ForwardRequest extends Record<string, unknown> {
	model_name: string;
	forward: Forward;
}

/** `forward` is what the node is sent; what people look for in a task stands beside it. */
export function forwardRequest(model: string, forward: Forward): ForwardRequest {
	// When it is sent, everything has completed.
	const body = { ...forward.body, dependencies: undefined };
	const { priority: _priority, ...shown } = body;
	return { ...shown, model_name: model, forward: { ...forward, body } as Forward };
}

export function isForward(request: object): request is ForwardRequest {
	return "forward" in request && typeof request.forward === "object";
}

/** Has the node do it, once however often this is tried. */
export async function runForward(
	d: { nodes: Nodes; dispatcher: Dispatcher },
	context: TaskContext,
): Promise<Record<string, unknown>> {
	const { model_name, forward } = context.request as unknown as ForwardRequest;
	const { node } = forward;
	const send = (headers: Record<string, string>): Promise<{ task_id: string }> =>
		sent(d.nodes.client(node), forward, { params: { model_name }, headers, signal: context.signal });
	const done = await d.dispatcher.run(context).part({ key: "task", node, send });
	return { ...done.result };
}

function sent(
	client: ApiClient,
	forward: Forward,
	more: { params: { model_name: string }; headers: Record<string, string>; signal: AbortSignal },
): Promise<{ task_id: string }> {
	switch (forward.call) {
		case "downloadModel":
			return client.call("downloadModel", { ...more, body: forward.body });
		case "copyModel":
			return client.call("copyModel", { ...more, body: forward.body });
		case "moveModel":
			return client.call("moveModel", { ...more, body: forward.body });
		case "verifyModel":
			return client.call("verifyModel", { ...more, body: forward.body });
		case "uploadModel":
			return client.call("uploadModel", { ...more, body: forward.body });
	}
}
