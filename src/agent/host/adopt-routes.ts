/** The host's routes for what other programs have put on a node: that node looks, and adopts. */
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";

export function adoptRoutes(
	d: HostRouteDependencies,
	{ forwarded, passKey }: HostRequests,
): Pick<Handlers<"host">, "findAdoptable" | "adoptModel"> {
	return {
		findAdoptable({ body, request }) {
			const { node, device } = d.nodes.target(body.device ?? "disk");
			const asked = { body: { ...body, device }, signal: request.signal };
			return d.nodes.client(node).call("findAdoptable", asked);
		},
		async adoptModel({ params, body, request }) {
			const model = parseModelName(params.model_name);
			const { node, tier, device } = d.nodes.target(body.device ?? "disk");
			const answer = await d.nodes.client(node).call("adoptModel", {
				params: { model_name: model },
				body: { ...body, device },
				headers: passKey(request.headers),
			});
			await d.registry.want(model, node, tier);
			return forwarded(answer);
		},
	};
}
