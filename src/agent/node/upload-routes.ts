/** The node's route for bringing a copy to a bucket. */
import { modelReservation } from "../../core/queue/queue.ts";
import { openBucketWriter } from "../../core/source/source.ts";
import { modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";
import { copyNowOr, requireCopy } from "./named-copy.ts";
import type { UploadRequest } from "./upload-task.ts";

export function uploadRoutes(
	d: NodeRouteDependencies,
	{ tierHere, submit, tiersComing, resources }: NodeRequests,
): Pick<Handlers<"node">, "uploadModel"> {
	return {
		async uploadModel({ params, body, request, caller }) {
			const model = parseModelName(params.model_name);
			const ready = d.storage.copies().filter((c) => c.model_name === model && c.status === "ready");
			// A disk before memory: bytes come at the line's speed anyway.
			const [nearest = tiersComing(model, body.dependencies)[0]] = ready.map((c) => c.tier).sort();
			const tier =
				body.source_device === undefined
					? (ready.find((c) => c.tier === "disk")?.tier ?? nearest)
					: tierHere(body.source_device);
			if (tier === undefined) throw modelNotFound(model, d.nodeName);
			const copy = copyNowOr(body.dependencies, () => requireCopy(d.storage, model, tier, d.nodeName));
			// Asks nothing over the network, and refuses at once what can be refused without it.
			const { target } = openBucketWriter(body.target_url, d.sources);
			const upload: UploadRequest = {
				model_name: model,
				source_device: `${d.nodeName}:${tier}`,
				target_url: target,
				overwrite: body.overwrite,
				bandwidth_limit: body.bandwidth_limit ?? null,
			};
			const more = {
				reservations: [modelReservation(model, tier, "shared")],
				resources: resources([model], [tier]),
				...(copy === undefined
					? {}
					: { joinKey: `upload ${model} ${copy.content_id} ${target} ${body.overwrite}` }),
				sizeBytes: copy?.size_bytes,
				dependencies: body.dependencies,
			};
			return submit("upload", model, upload, body.priority, more, { request, caller });
		},
	};
}
