/** What a node's queue does for each type of task: a table of the tasks, each of which is a file of its own. */
import type { TaskHandler } from "../../core/queue/queue.ts";
import type { Bandwidth } from "../../core/transfer/transfer.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { parseModelName } from "../../schema/names.ts";
import type { TaskType } from "../../schema/task.ts";
import { adoptTask } from "./adopt-task.ts";
import { type CopyTaskDependencies, copyTask, moveTask } from "./copy-task.ts";
import { type DownloadTaskDependencies, downloadTask } from "./download-task.ts";
import { isGpu } from "./holdings.ts";
import { requireCopy, tierOf } from "./named-copy.ts";
import { createReceiving, progressOf, type ReceivingDependencies, transferSignal } from "./receiving.ts";
import { deleteTask, evictTask, type RemovalTaskDependencies } from "./removal-task.ts";
import { serveTask, type ServeTaskDependencies, stopTask } from "./serve-task.ts";
import { type UploadRequest, uploadTask } from "./upload-task.ts";
import { createVerification, type VerificationDependencies } from "./verification.ts";

export type NodeTaskDependencies = ReceivingDependencies &
	DownloadTaskDependencies &
	CopyTaskDependencies &
	RemovalTaskDependencies &
	ServeTaskDependencies &
	Omit<VerificationDependencies, "run"> & {
		io: IoPool;
		/** Of what this node sends. */
		up: Bandwidth;
	};

export function createNodeTasks(dependencies: NodeTaskDependencies): Record<TaskType, TaskHandler> {
	const receiving = createReceiving(dependencies);
	const d = { ...dependencies, receiving };
	const verify = createVerification({ ...d, run: receiving.run });
	return {
		download: (context) => downloadTask(d, context),
		copy: (context) => copyTask(d, context),
		move: (context) => moveTask(d, context),
		upload: (context) => {
			const { model_name: name, source_device: device } = context.request as unknown as UploadRequest;
			return uploadTask(d, context, {
				copy: requireCopy(d.storage, parseModelName(name), tierOf(device), d.nodeName),
				signal: transferSignal(context.signal),
				onProgress: (p) => context.report(progressOf(p)),
			});
		},
		async adopt(context) {
			const copy = await adoptTask(d, context, tierOf(String(context.request["device"])));
			return receiving.finished(copy, context);
		},
		verify(context) {
			const tier = tierOf(String(context.request["device"]));
			const repair = context.request["repair"] === true;
			return isGpu(tier) ? d.devices.verify(context, tier, { repair }) : verify(context, tier);
		},
		delete: (context) => deleteTask(d, context),
		evict: (context) => evictTask(d, context),
		serve: (context) => serveTask(d, context),
		stop: (context) => stopTask(d, context),
	};
}
