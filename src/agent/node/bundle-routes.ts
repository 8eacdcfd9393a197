/** The node's routes for bundles: a copy goes out as one stream, one comes in as a download that knows what it gets. */
import { modelReservation } from "../../core/queue/queue.ts";
import { openSource, readBundleHeader } from "../../core/source/source.ts";
import { exportCopy } from "../../core/transfer/transfer.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import { bundleDownload } from "./bundle-download.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";
import { paced } from "./paced.ts";
import { requireCopy } from "./named-copy.ts";

/** Whoever imports waits until its beginning has been read. */
const LIMIT_MS = 25_000;

export function bundleRoutes(
	d: NodeRouteDependencies,
	{ tierHere, submit, fits, resources }: NodeRequests,
): Pick<Handlers<"node">, "exportModel" | "importModel"> {
	return {
		async exportModel({ params, query }) {
			const model = parseModelName(params.model_name);
			const ready = d.storage.copies().filter((c) => c.model_name === model && c.status === "ready");
			const tier = query.device === undefined ? ready.map((c) => c.tier).sort()[0] : tierHere(query.device);
			if (tier === undefined) throw modelNotFound(model, d.nodeName);
			const copy = requireCopy(d.storage, model, tier, d.nodeName);
			const headers = { "content-type": "application/x-tar", "x-gswarm-content-id": copy.content_id };
			const bytes = paced(await exportCopy(d.storage, copy), d.bandwidth.up, `export ${model}`);
			return new Response(bytes, { headers });
		},
		async importModel({ body, request, caller }) {
			const tier = tierHere(body.target_device ?? "disk");
			const source = openSource(body.source_url, d.sources);
			const signal = AbortSignal.any([request.signal, AbortSignal.timeout(LIMIT_MS)]);
			const description = await source.describe(signal);
			const bundle = await readBundleHeader(source, description, signal);
			const model = parseModelName(body.model_name ?? bundle.model_name);
			const there = d.storage
				.copies({ model })
				.some((c) => c.tier === tier && c.content_id === bundle.content_id);
			// It is unpacked beside itself.
			if (!there) await fits(tier, description.totalBytes * 2);
			const download = bundleDownload(bundle, {
				model,
				sourceUrl: body.source_url,
				device: `${d.nodeName}:${tier}`,
				bandwidthLimit: body.bandwidth_limit,
			});
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: resources([model], [tier]),
				joinKey: `import ${sha256Hex(JSON.stringify(download))}`,
			};
			const submitted = await submit("download", model, download, body.priority, more, { request, caller });
			return { ...submitted, model_name: model, revision: bundle.revision };
		},
	};
}
