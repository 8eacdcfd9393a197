/** A copy goes from this node because somebody said so, or as many as make the room that was asked for. */
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Services } from "../../core/service/service.ts";
import { removeFound } from "../../core/source/source.ts";
import type { Adoption, Storage } from "../../core/storage/storage.ts";
import { parseModelName } from "../../schema/names.ts";
import type { EvictRequest } from "./capacity-routes.ts";
import type { Eviction } from "./eviction.ts";
import type { GpuEviction } from "./gpu-eviction.ts";
import { type Holdings, isGpu } from "./holdings.ts";
import type { HostedWork } from "./hosted-work.ts";
import { tierOf } from "./named-copy.ts";
import type { Removal } from "./removal.ts";
import { stopServicesOf } from "./serve-task.ts";

export interface DeleteRequest {
	model_name: string;
	device: string;
	revision: string;
	force: boolean;
	/** Of what was adopted the files too. */
	delete_files?: boolean;
}

export interface RemovalTaskDependencies {
	nodeName: string;
	storage: Storage;
	services: Services;
	removal: Pick<Removal, "remove">;
	holdings: Pick<Holdings, "copy">;
	hosted: Pick<HostedWork, "confirm">;
	eviction: Pick<Eviction, "evict">;
	gpuEviction: Pick<GpuEviction, "evict">;
	/** Tells the host now, so that what a finished task changed is visible when it is seen to be finished. */
	reportNow(): Promise<unknown>;
}

/** What is gone already is a success, but for adopted files that are still to go. @throws what the removal throws */
export async function deleteTask(
	d: RemovalTaskDependencies,
	context: TaskContext,
): Promise<Record<string, unknown>> {
	const request = context.request as unknown as DeleteRequest;
	context.report({ phase: "deleting" });
	const model = parseModelName(request.model_name);
	const tier = tierOf(request.device);
	const copyToRemove = d.holdings.copy(model, tier, request.revision);
	// What an attempt before this one forgot, the files of it are still to go.
	const begun = context.state?.["adoption"] as Adoption | undefined;
	if (copyToRemove === undefined)
		return { ...(await removeAdopted(d.storage, begun)), device: request.device };
	// What a host dispatched it may have given up since.
	const operation =
		context.dispatch === undefined ? undefined : await d.hosted.confirm(context.dispatch.operationId);
	await stopServicesOf(d, copyToRemove, request.force);
	const options = { force: request.force, deleteFiles: request.delete_files, operation };
	const adoption = isGpu(tier) ? undefined : d.storage.adoption(copyToRemove);
	const withFiles = request.delete_files === true ? adoption : undefined;
	if (withFiles !== undefined) await context.saveState({ adoption: withFiles });
	const { freedBytes } = await d.removal.remove(copyToRemove, options);
	await d.reportNow();
	const device = `${d.nodeName}:${tier}`;
	if (withFiles !== undefined) return { ...(await removeAdopted(d.storage, withFiles)), device };
	const left = adoption === undefined ? {} : { adopted_files_kept: adoption.path };
	return { freed_bytes: freedBytes, device, ...left };
}

/** @throws 507 insufficient_space when it cannot come free */
export async function evictTask(
	d: Pick<RemovalTaskDependencies, "eviction" | "gpuEviction" | "reportNow">,
	context: TaskContext,
): Promise<Record<string, unknown>> {
	const { device, bytes } = context.request as unknown as EvictRequest;
	context.report({ phase: "deleting" });
	const tier = tierOf(device);
	const evicted = isGpu(tier)
		? await d.gpuEviction.evict(tier, bytes ?? undefined)
		: await d.eviction.evict(tier, bytes ?? undefined, context.signal);
	await d.reportNow();
	const freed_bytes = evicted.reduce((sum, one) => sum + one.freed_bytes, 0);
	return { device, freed_bytes, evicted };
}

/** The files of what was adopted and is forgotten, but for those that other copies or other models there use. */
async function removeAdopted(
	storage: Storage,
	adoption: Adoption | undefined,
): Promise<Record<string, unknown>> {
	if (adoption === undefined) return { freed_bytes: 0 };
	const others = storage.adopted().flatMap((one) => storage.adoption(one)?.files ?? []);
	const inUse = new Set(others.map(({ realPath }) => realPath));
	const { freedBytes, kept } = await removeFound({ ...adoption, inUse });
	return { freed_bytes: freedBytes, files_kept: kept };
}
