/** A model comes to this node from outside: from its source, or as a bundle that somebody sends. */
import type { TaskContext } from "../../core/queue/queue.ts";
import { type Offers, openSource, type Source } from "../../core/source/source.ts";
import type { TransferInput } from "../../core/transfer/transfer.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import { tierOf } from "./named-copy.ts";
import type { Receiving } from "./receiving.ts";
import { isSwarmRequest, receiveInSwarm, type SwarmTaskDependencies } from "./swarm-task.ts";

export interface DownloadRequest {
	model_name: string;
	source_url: string;
	target_device: string;
	/** null: guess. */
	model_type: string | null;
	verify_checksum: boolean | null;
	include: string[];
	exclude: string[];
	all_files: boolean;
	bandwidth_limit: number | null;
	/** The bundle is on the machine of who asked, and is sent from there. */
	offer?: { description_bytes: number; size_bytes: number };
	/** What a bundle said of itself when it was asked for. */
	bundle?: {
		revision: string;
		format: string;
		source_url: string | null;
		content_id: string;
	};
}

export interface DownloadTaskDependencies extends SwarmTaskDependencies {
	/** Bundles that somebody sends. */
	offers: Offers;
}

/** @throws CONFLICT copy_exists; what the source and the transfer throw */
export async function downloadTask(
	d: DownloadTaskDependencies & { receiving: Receiving },
	context: TaskContext,
): Promise<Record<string, unknown>> {
	const { receive, finished } = d.receiving;
	const request = context.request as unknown as DownloadRequest;
	if (isSwarmRequest(request)) {
		const tier = tierOf(request.target_device);
		return finished(await receiveInSwarm(d, context, tier, (input) => receive(context, input)), context);
	}
	context.report({ phase: "resolving" });
	using offered = offeredSource(d, context.taskId, request);
	const source =
		offered ??
		openSource(request.source_url, {
			...d.sources,
			include: request.include,
			exclude: request.exclude,
			allFiles: request.all_files,
		});
	const got = await receive(context, {
		transferId: context.taskId,
		source,
		tier: tierOf(request.target_device),
		model: parseModelName(request.model_name),
		modelType: request.model_type ?? undefined,
		verifyChecksum: request.verify_checksum ?? undefined,
		bandwidthLimit: request.bandwidth_limit ?? undefined,
		...bundled(request),
	});
	if (request.bundle !== undefined && got.content_id !== request.bundle.content_id) throw otherCopy(got);
	return finished(got, context);
}

/** The bundle that is sent for this task, if it is one. */
function offeredSource(
	{ offers }: Pick<DownloadTaskDependencies, "offers">,
	taskId: string,
	{ offer, bundle, model_name }: DownloadRequest,
): (Source & Disposable) | undefined {
	if (offer === undefined || bundle === undefined) return undefined;
	return offers.open(taskId, {
		descriptionBytes: offer.description_bytes,
		sizeBytes: offer.size_bytes,
		contentId: bundle.content_id,
		model: parseModelName(model_name),
		revision: parseRevision(bundle.revision),
	});
}

/** What a bundle is, it says itself. */
function bundled({ bundle }: DownloadRequest): Partial<TransferInput> {
	if (bundle === undefined) return {};
	return {
		revision: parseRevision(bundle.revision),
		format: bundle.format,
		sourceUrl: bundle.source_url,
		contentId: bundle.content_id,
	};
}

function otherCopy({ model_name, revision, tier, content_id }: ModelCopy): GswarmError {
	return new GswarmError("CONFLICT", `${model_name}@${revision} is on ${tier} already with other content.`, {
		reason: "copy_exists",
		details: { content_id },
		hint: "Import it under another name, or delete the copy that is there.",
	});
}
