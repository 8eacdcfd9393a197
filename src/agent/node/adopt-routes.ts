/** The node's routes for what other programs have put there: what can be adopted, and adopting one. */
import { modelReservation } from "../../core/queue/queue.ts";
import { findModel, findModels } from "../../core/source/source.ts";
import { invalid } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { AdoptRequest } from "./adopt-task.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";

/** Whoever asks waits for the answer. */
const LIMIT_MS = 25_000;

export function adoptRoutes(
	d: NodeRouteDependencies,
	{ tierHere, submit, resources }: NodeRequests,
): Pick<Handlers<"node">, "findAdoptable" | "adoptModel"> {
	const { importDirectories = [] } = d.sources;
	const durableTier = (device: string | undefined): string => {
		const tier = tierHere(device ?? "disk");
		if (d.storage.tier(tier).durable) return tier;
		throw invalid("bad_device", `What is adopted stays on a disk; ${tier} is memory.`, { device: tier });
	};
	return {
		async findAdoptable({ body, request }) {
			const tier = durableTier(body.device);
			const signal = AbortSignal.any([request.signal, AbortSignal.timeout(LIMIT_MS)]);
			const found = await findModels(body.path, { importDirectories }, signal);
			const known = new Map(d.storage.adopted().map((copy) => [copy.adopted_from, copy.model_name]));
			return {
				node: d.nodeName,
				device: `${d.nodeName}:${tier}`,
				found: found.map(({ kind, path, modelName, revision, sourceUrl, refs, files, problem }) => ({
					kind,
					path,
					model_name: modelName ?? null,
					revision: revision ?? null,
					source_url: sourceUrl,
					refs: [...refs],
					file_count: files.length,
					size_bytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
					problem: problem ?? null,
					adopted_as: known.get(path) ?? null,
				})),
			};
		},
		async adoptModel({ params, body, request, caller }) {
			const model = parseModelName(params.model_name);
			const tier = durableTier(body.device);
			const signal = AbortSignal.any([request.signal, AbortSignal.timeout(LIMIT_MS)]);
			// What can be refused without reading it is refused at once.
			const found = await findModel(body.path, { importDirectories }, signal);
			const adopt: AdoptRequest = {
				model_name: model,
				path: found.path,
				device: `${d.nodeName}:${tier}`,
				model_type: body.model_type ?? null,
				...(body.link === true ? { link: true } : {}),
			};
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: resources([model], [tier]),
				joinKey: `adopt ${model} ${tier} ${found.path} ${body.link === true}`,
				sizeBytes: found.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
			};
			return submit("adopt", model, adopt, body.priority, more, { request, caller });
		},
	};
}
