/** The node's routes for bundles that somebody sends: a task that asks for pieces, and the pieces. */
import { modelReservation } from "../../core/queue/queue.ts";
import { createBodyReader } from "../../platform/body-reader.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import { OFFER_PIECE_BYTES } from "../../schema/offer.ts";
import { isTerminal } from "../../schema/task.ts";
import type { Handlers } from "../http/app.ts";
import { bundleDownload } from "./bundle-download.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";

type OfferRoutes = Pick<Handlers<"node">, "offerBundle" | "wantedPiece" | "sendPiece">;

/** Whether the task has ended is looked at so often. */
const LOOK_EVERY_MS = 500;

export function offerRoutes(
	d: NodeRouteDependencies,
	{ tierHere, submit, fits, resources }: NodeRequests,
): OfferRoutes {
	const bodies = createBodyReader({ clock: d.clock });
	const next = async (taskId: string, waitMs: number, signal: AbortSignal) => {
		const untilMs = d.clock.monotonicMs() + waitMs;
		for (;;) {
			const { status } = d.queue.get(taskId);
			if (isTerminal(status)) return { piece: null, status };
			const leftMs = untilMs - d.clock.monotonicMs();
			const piece = await d.offers.next(taskId, Math.min(Math.max(0, leftMs), LOOK_EVERY_MS), signal);
			if (piece !== undefined || leftMs <= LOOK_EVERY_MS || signal.aborted)
				return { piece: piece ?? null, status };
		}
	};
	return {
		offerBundle: async ({ body, request, caller }) => {
			const model = parseModelName(body.model_name);
			const tier = tierHere(body.target_device ?? "disk");
			const revision = parseRevision(body.revision);
			if (d.storage.copy(model, tier, revision)?.content_id !== body.content_id)
				await fits(tier, body.size_bytes);
			const { description_bytes, size_bytes } = body;
			const asked = {
				model,
				sourceUrl: `bundle:${model}@${revision}`,
				device: `${d.nodeName}:${tier}`,
				bandwidthLimit: body.bandwidth_limit,
			};
			const download = {
				...bundleDownload({ ...body, revision }, asked),
				offer: { description_bytes, size_bytes },
			};
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: resources([model], [tier]),
				joinKey: `offer ${sha256Hex(JSON.stringify(download))}`,
				sizeBytes: size_bytes,
			};
			return submit("download", model, download, body.priority, more, { request, caller });
		},
		wantedPiece: ({ params, query, request }) => next(params.task_id, query.wait_ms, request.signal),
		async sendPiece({ params, query, request }) {
			d.queue.get(params.task_id);
			const bytes = await bodies.read(request, OFFER_PIECE_BYTES);
			d.offers.take(params.task_id, query, bytes);
			return Response.json(await next(params.task_id, 0, request.signal));
		},
	};
}
