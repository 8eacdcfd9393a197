/** A service of a copy begins on this node, and ends. */
import type { TaskContext } from "../../core/queue/queue.ts";
import type { ServiceConfig, Services } from "../../core/service/service.ts";
import type { Storage } from "../../core/storage/storage.ts";
import { asGswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseServiceId, type Revision } from "../../schema/names.ts";
import { isServing, type ServiceDocument } from "../../schema/service.ts";
import type { DeviceWork } from "./device-work.ts";
import { isGpu } from "./holdings.ts";
import { requireCopy, tierOf } from "./named-copy.ts";

export interface ServeRequest {
	model_name: string;
	device: string;
	service_id: string;
	port: number | null;
	config: ServiceConfig;
	/** Left out by earlier versions: the newest. */
	revision?: string;
	/** Answers to MODEL@REVISION alone. Left out: to the model's name too. */
	has_name?: boolean;
	/** Gets the name of this one (null: nobody has it) as soon as it answers, and takes its place. */
	replaces?: string | null;
}

export interface ServeTaskDependencies {
	nodeName: string;
	storage: Storage;
	services: Services;
	devices: DeviceWork;
	/** Tells the host now, so that what a finished task changed is visible when it is seen to be finished. */
	reportNow(): Promise<unknown>;
}

/** How long requests under way may take when a service is stopped. */
const DRAIN_MS = 30_000;

/** Its result says what answers where, and whether it did already. @throws 404 model_not_found; what the start throws */
export async function serveTask(
	d: ServeTaskDependencies,
	context: TaskContext,
): Promise<Record<string, unknown>> {
	const request = context.request as unknown as ServeRequest;
	context.report({ phase: "starting" });
	const model = parseModelName(request.model_name);
	const tier = tierOf(request.device);
	const served = isGpu(tier)
		? d.devices.servable(model, tier, request.revision)
		: requireCopy(d.storage, model, tier, d.nodeName, request.revision);
	using place = isGpu(tier) ? await d.devices.giveWay(served, tier) : undefined;
	void place;
	const start = {
		serviceId: parseServiceId(request.service_id),
		model,
		revision: served.revision as Revision,
		tier,
		modelPath: d.storage.pathOf(served),
		port: request.port ?? undefined,
		framework: "llama" as const,
		config: request.config,
		hasName: request.has_name,
		signal: context.signal,
		onPhase: (phase: "starting" | "ready") => context.report({ phase }),
	};
	const isOwn = (s: { service_id: string }): boolean => s.service_id === request.service_id;
	const options = { timeoutMs: DRAIN_MS };
	// What an earlier attempt of this task has started is its own.
	const wasThere = context.state === undefined && d.services.list().some((s) => isOwn(s) && isServing(s));
	if (!wasThere) await context.saveState({ starting: true });
	const service =
		request.replaces === undefined
			? await d.services.start(start)
			: await d.services.replace(start, request.replaces ?? undefined, options);
	await d.reportNow();
	return {
		service_id: service.service_id,
		...(wasThere ? { was_running: true } : {}),
		url: service.url,
		ready_s: service.ready_s,
		...(service.simulated === undefined ? {} : { simulated: service.simulated }),
	};
}

/** What has stopped already is a success. */
export async function stopTask(
	d: Pick<ServeTaskDependencies, "services" | "reportNow">,
	context: TaskContext,
): Promise<Record<string, unknown>> {
	context.report({ phase: "stopping" });
	await d.services
		.stop(String(context.request["service_id"]), { timeoutMs: DRAIN_MS })
		.catch((error: unknown) => {
			// A stop that a crash interrupted was finished when the agent started.
			if (asGswarmError(error).reason !== "service_not_found") throw error;
		});
	await d.reportNow();
	return { service_id: context.request["service_id"] };
}

/** Whether a service reads this copy. */
export function serves(service: ServiceDocument, copy: ModelCopy, nodeName: string): boolean {
	return (
		service.model_name === copy.model_name &&
		service.device === `${nodeName}:${copy.tier}` &&
		(service.revision ?? copy.revision) === copy.revision
	);
}

/** A service that failed does not keep its model; one that runs ends only with force. */
export async function stopServicesOf(
	d: Pick<ServeTaskDependencies, "services" | "nodeName">,
	copy: ModelCopy,
	force: boolean,
): Promise<void> {
	for (const service of d.services.list()) {
		const same = serves(service, copy, d.nodeName);
		if (same && (force || !isServing(service)))
			await d.services.stop(service.service_id, { timeoutMs: DRAIN_MS });
	}
}
