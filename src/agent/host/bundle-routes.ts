/** The host's routes for bundles: a node that has the model exports it, the node that is named or fits imports it. */
import { parseModelName } from "../../schema/names.ts";
import { modelNotFound } from "../../schema/errors.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import { placeDownload } from "./placement.ts";
import { anyCopy } from "./upload-routes.ts";

export function bundleRoutes(
	d: HostRouteDependencies,
	{ forwarded, passKey }: HostRequests,
): Pick<Handlers<"host">, "exportModel" | "importModel"> {
	return {
		async exportModel({ params, query, request }) {
			const model = parseModelName(params.model_name);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const from = query.device === undefined ? anyCopy(d, model) : d.nodes.holding(query.device, model);
			const { body, headers } = await d.nodes.client(from.node).open("exportModel", {
				params: { model_name: model },
				query: { device: from.device },
				signal: request.signal,
				hasLongBody: true,
			});
			const passed = ["content-type", "x-gswarm-content-id"].map((name) => [name, headers.get(name) ?? ""]);
			return new Response(body, { headers: Object.fromEntries(passed) });
		},
		async importModel({ body, request }) {
			const target = placeDownload(d.nodes, body.target_device);
			const answer = await d.nodes.client(target.node).call("importModel", {
				body: { ...body, target_device: target.device },
				headers: passKey(request.headers),
				signal: request.signal,
			});
			const model = parseModelName(answer.model_name);
			await d.registry.want(model, target.node, target.tier);
			await d.registry.ensure({
				modelName: model,
				modelType: "unknown",
				modelSize: 0,
				sourceUrl: null,
				metadata: {},
			});
			return forwarded(answer);
		},
	};
}
