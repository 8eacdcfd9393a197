/** The host's route about sources: a node that would download asks the source, the registry tells what is where. */
import { GswarmError, invalid } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import { downloadSource } from "../download-source.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import type { Inspections } from "./inspections.ts";
import { placeDownload } from "./placement.ts";

export function sourceRoutes(
	d: HostRouteDependencies,
	inspections: Pick<Inspections, "at">,
): Pick<Handlers<"host">, "inspectSource"> {
	return {
		async inspectSource({ body, request }) {
			const model = body.model_name === undefined ? undefined : parseModelName(body.model_name);
			const known = model !== undefined && d.registry.has(model) ? d.registry.get(model) : undefined;
			const source =
				model === undefined
					? body.source_url
					: downloadSource(model, body.source_url, known?.source_url ?? undefined);
			if (source === undefined)
				throw invalid("bad_field", "Give `source_url`, `model_name` or both.", { field: "source_url" });
			const target =
				model === undefined && body.target_device === undefined
					? { node: anyNode(d), device: undefined }
					: placeDownload(d.nodes, body.target_device);
			const client = d.nodes.client(target.node);
			const asked = {
				...body,
				source_url: source,
				...(target.device === undefined ? {} : { target_device: target.device }),
			};
			const found = await inspections.at(target.node, () =>
				client.call("inspectSource", { body: asked, signal: request.signal }),
			);
			if (found.plan === null || known === undefined) return found;
			const { plan, revision } = found;
			const others = known.location_details
				.filter((l) => l.revision === revision && l.status === "ready" && l.device !== plan.device)
				.map((l) => l.device);
			return {
				...found,
				plan: { ...plan, other_locations: [...new Set([...plan.other_locations, ...others])].sort() },
			};
		},
	};
}

/** Any node can look at a source. */
function anyNode(d: HostRouteDependencies): string {
	const [first] = d.nodes.reachable();
	if (first !== undefined) return first.name;
	throw new GswarmError("RESOURCE_UNAVAILABLE", "No node can be reached, and a node is who asks sources.", {
		reason: "no_node",
		hint: "`gswarm node list` shows the nodes.",
	});
}
