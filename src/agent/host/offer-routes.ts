/** The host's routes for bundles that somebody sends: handed on to the node that receives. */
import type { ApiClient } from "../../api/client.ts";
import { createBodyReader } from "../../platform/body-reader.ts";
import { notFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import { OFFER_PIECE_BYTES } from "../../schema/offer.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import { placeDownload } from "./placement.ts";

type OfferRoutes = Pick<Handlers<"host">, "offerBundle" | "wantedPiece" | "sendPiece">;

export function offerRoutes(d: HostRouteDependencies, { forwarded, passKey }: HostRequests): OfferRoutes {
	const bodies = createBodyReader({ clock: d.clock });
	const nodeOf = async (taskId: string): Promise<ApiClient> => {
		const client = await d.tasks.line(taskId);
		if (client === undefined) throw notFound("bundle offer", taskId);
		return client;
	};
	return {
		async offerBundle({ body, request }) {
			const model = parseModelName(body.model_name);
			const target = placeDownload(d.nodes, body.target_device);
			const answer = await d.nodes.client(target.node).call("offerBundle", {
				body: { ...body, target_device: target.device },
				headers: passKey(request.headers),
			});
			await d.registry.want(model, target.node, target.tier);
			await d.registry.ensure({
				modelName: model,
				modelType: body.model_type,
				modelSize: 0,
				sourceUrl: null,
				metadata: {},
			});
			return forwarded(answer);
		},
		wantedPiece: async ({ params, query, request }) =>
			(await nodeOf(params.task_id)).call("wantedPiece", {
				params,
				query: { wait_ms: String(query.wait_ms) },
				signal: request.signal,
			}),
		async sendPiece({ params, query, request }) {
			const client = await nodeOf(params.task_id);
			const rawBody = await bodies.read(request, OFFER_PIECE_BYTES);
			const answer = await client.open("sendPiece", {
				params,
				query: { file: String(query.file), start: String(query.start) },
				rawBody,
				signal: request.signal,
			});
			return Response.json(await answer.json());
		},
	};
}
