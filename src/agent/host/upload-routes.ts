/** The host's route for bringing a copy to a bucket: a node that has the model does it. */
import { modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";

export function uploadRoutes(
	d: HostRouteDependencies,
	{ forwarded, passKey }: HostRequests,
): Pick<Handlers<"host">, "uploadModel"> {
	return {
		async uploadModel({ params, body, request }) {
			const model = parseModelName(params.model_name);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const source =
				body.source_device === undefined ? anyCopy(d, model) : d.nodes.holding(body.source_device, model);
			const answer = await d.nodes.client(source.node).call("uploadModel", {
				params: { model_name: model },
				body: { ...body, source_device: source.device },
				headers: passKey(request.headers),
			});
			return forwarded(answer);
		},
	};
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
