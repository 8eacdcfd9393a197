/** The host's route for bringing a copy to a bucket: a node that has the model does it. */
import { modelReservation } from "../../core/queue/queue.ts";
import { asGswarmError, modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import { forwardRequest } from "./forwarding.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import type { Order } from "./task-order.ts";

export function uploadRoutes(
	d: HostRouteDependencies,
	{ order, submitForward, forwarded, passKey }: HostRequests,
): Pick<Handlers<"host">, "uploadModel"> {
	return {
		async uploadModel({ params, body, request }) {
			const model = parseModelName(params.model_name);
			const after = await order(body.dependencies);
			const source = uploadSource(d, model, body.source_device, after);
			const { node, device } = source;
			const nodeBody = { ...body, source_device: device, dependencies: after.on(node) };
			if (!after.isOf(node)) {
				const more = {
					reservations: [modelReservation(model, device, "shared")],
					resources: { devices: [device], models: [model], exclusive: false },
				};
				const forward = forwardRequest(model, { call: "uploadModel", node, body: nodeBody });
				return submitForward(forward, after, more, request.headers);
			}
			const answer = await d.nodes.client(node).call("uploadModel", {
				params: { model_name: model },
				body: nodeBody,
				headers: passKey(request.headers),
			});
			return forwarded(answer);
		},
	};
}

/** Where the model is, or will be when what it waits for has completed. */
function uploadSource(
	d: HostRouteDependencies,
	model: string,
	device: string | undefined,
	after: Order,
): { node: string; device: string } {
	try {
		if (!d.registry.has(model)) throw modelNotFound(model);
		return device === undefined ? anyCopy(d, model) : d.nodes.holding(device, model);
	} catch (error) {
		const coming = device ?? after.devicesOf(model)[0];
		if (asGswarmError(error).code !== "MODEL_NOT_FOUND" || !after.waits || coming === undefined) throw error;
		return d.nodes.target(coming);
	}
}

/** Of the ready copies on nodes that can be reached, one on a disk first. */
export function anyCopy(d: HostRouteDependencies, model: string): { node: string; device: string } {
	const reachable = new Set(d.nodes.reachable().map(({ name }) => name));
	const [best] = d.registry
		.locations(model)
		.filter((l) => l.status === "ready" && l.claimed === 0 && reachable.has(l.node))
		.sort((a, b) => Number(b.tier.startsWith("disk")) - Number(a.tier.startsWith("disk")));
	if (best === undefined) throw modelNotFound(model, "any reachable node");
	return { node: best.node, device: `${best.node}:${best.tier}` };
}
