/** The host's routes for what other programs have put on a node: that node looks, and adopts. */
import { modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import { anyCopy } from "./upload-routes.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";

export function adoptRoutes(
	d: HostRouteDependencies,
	{ forwarded, passKey }: HostRequests,
): Pick<Handlers<"host">, "findAdoptable" | "adoptModel" | "presentModel" | "withdrawModel"> {
	const placeOf = (model: string, device: string | undefined): { node: string; device: string } =>
		device === undefined ? anyCopy(d, model) : d.nodes.holding(device, model);
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
		presentModel({ params, body }) {
			const { node, device } = placeOf(parseModelName(params.model_name), body.device);
			return d.nodes.client(node).call("presentModel", { params, body: { ...body, device } });
		},
		withdrawModel({ params, query }) {
			const model = parseModelName(params.model_name);
			// One that is damaged or away can be taken back too.
			const [held] = d.registry.locations(model).filter((l) => l.claimed === 0);
			const wanted = query.device ?? (held === undefined ? undefined : `${held.node}:${held.tier}`);
			if (wanted === undefined) throw modelNotFound(model);
			const { node, device } = d.nodes.target(wanted);
			return d.nodes.client(node).call("withdrawModel", { params, query: { ...query, device } });
		},
	};
}
