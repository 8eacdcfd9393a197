/** The port of one service: a gateway as if this service were all there is, and its health. */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { describePortHolder } from "../../platform/port-holder.ts";
import { GswarmError } from "../../schema/errors.ts";
import { createGateway } from "./gateway.ts";
import type { Front, Instance, ServiceFront } from "./instance.ts";
import type { ServedModel, UpstreamSource } from "./upstream.ts";

/** Opens a listener that checks callers as the agent's others do. @throws with code EADDRINUSE when it is taken */
export type OpenFront = (
	port: number,
	handler: (request: Request) => Promise<Response>,
) => Promise<Front> | Front;

/** @throws CONFLICT port_in_use, naming the holder where it can be told */
export async function openServiceFront(
	{ clock, log, openFront }: { clock: Clock; log: Log; openFront: OpenFront },
	first: Instance,
): Promise<ServiceFront> {
	const { port } = first.row;
	if (port === null) throw new Error(`${first.row.service_id} has no port of its own`);
	let instance = first;
	const isReady = (): boolean => instance.state === "ready";
	const isLeaving = (): boolean => instance.state === "stopping" || instance.state === "stopped";
	const only: UpstreamSource = {
		upstreams: (model) => (instance.answersTo(model) && !isLeaving() ? [instance.upstream()] : []),
		models: () => (isReady() ? [servedModel(instance)] : []),
	};
	const gateway = createGateway({ clock, log, local: only });
	try {
		const front = await openFront(port, async (request) => {
			const path = new URL(request.url).pathname;
			if (path !== "/health" || request.method !== "GET") return gateway.handle(request, path);
			return Response.json({ status: isReady() ? "ok" : instance.state }, { status: isReady() ? 200 : 503 });
		});
		return {
			close: () => front.close(),
			serve(next) {
				instance = next;
			},
		};
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code !== "EADDRINUSE") throw cause;
		throw portInUse(port, cause);
	}
}

/** As lists of models show it: by the name that it answers to. */
export function servedModel({ row }: Instance): ServedModel {
	const { served_name, model_name, revision, created_at } = row;
	return { id: served_name ?? `${model_name}@${revision}`, created: Math.floor(created_at) };
}

function portInUse(port: number, cause: unknown): GswarmError {
	const holder = describePortHolder(port);
	return new GswarmError(
		"CONFLICT",
		`Port ${port} is taken${holder === undefined ? "" : ` by ${holder}`}; the service was not started.`,
		{
			reason: "port_in_use",
			details: { port, ...(holder === undefined ? {} : { holder }) },
			hint: "Ask for another port, or for none: the gateway serves every model on the agent's own port.",
			cause,
		},
	);
}
