/** A copy goes to a bucket: what the task of it does. */
import type { TaskContext } from "../../core/queue/queue.ts";
import { openBucketWriter, type SourceContext } from "../../core/source/source.ts";
import type { Storage } from "../../core/storage/storage.ts";
import { type Bandwidth, type TransferProgress, uploadCopy } from "../../core/transfer/transfer.ts";
import type { Ids } from "../../platform/ids.ts";
import type { ModelCopy } from "../../schema/model.ts";

export interface UploadRequest {
	model_name: string;
	source_device: string;
	target_url: string;
	overwrite: boolean;
	bandwidth_limit: number | null;
}

export async function uploadTask(
	{ storage, sources, ids, up }: { storage: Storage; sources: SourceContext; ids: Ids; up: Bandwidth },
	context: TaskContext,
	{
		copy,
		signal,
		onProgress,
	}: { copy: ModelCopy; signal: AbortSignal; onProgress: (progress: TransferProgress) => void },
): Promise<Record<string, unknown>> {
	const request = context.request as unknown as UploadRequest;
	const { writer, target } = openBucketWriter(request.target_url, sources);
	context.report({ phase: "resolving" });
	const done = await uploadCopy(
		{ storage, clock: sources.clock, ids, log: context.log, up },
		{
			transferId: context.taskId,
			copy,
			writer,
			target,
			overwrite: request.overwrite,
			bandwidthLimit: request.bandwidth_limit ?? undefined,
			onProgress,
			signal,
		},
	);
	return {
		target_url: target,
		revision: copy.revision,
		content_id: copy.content_id,
		files: done.files,
		size_bytes: done.sizeBytes,
		already_there_bytes: done.bytesThere,
	};
}
