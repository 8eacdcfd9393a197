/** The host's routes for what other programs have put on a node: that node looks, and adopts. */
import { invalid, modelNotFound } from "../../schema/errors.ts";
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
			const { node, device } = d.nodes.target(body.device ?? theOnlyDisk(d));
			const asked = { body: { ...body, device }, signal: request.signal };
			return d.nodes.client(node).call("findAdoptable", asked);
		},
		async adoptModel({ params, body, request }) {
			const model = parseModelName(params.model_name);
			const { node, tier, device } = d.nodes.target(body.device ?? theOnlyDisk(d));
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

/** @throws 400 ambiguous_node: a path is one of a certain machine */
function theOnlyDisk({ cluster }: Pick<HostRouteDependencies, "cluster">): string {
	const nodes = cluster.views().map((view) => view.name);
	if (nodes.length <= 1) return "disk";
	throw invalid(
		"ambiguous_node",
		`On which node that path is was not said: ${nodes.join(", ")} could be meant.`,
		{ field: "device", nodes },
		`Name it: \`--node ${nodes[0] ?? "node1"}\` (in the API \`device\`, e.g. ${nodes[0] ?? "node1"}:disk).`,
	);
}
