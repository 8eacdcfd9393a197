/** An operation follows the task that it dispatched to a node, through restarts of either. */
import type { ApiClient } from "../../api/client.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Clock } from "../../platform/clock.ts";
import { type ErrorCode, GswarmError, asGswarmError } from "../../schema/errors.ts";
import { type TaskDocument, isTerminal } from "../../schema/task.ts";

/** A node that stays away longer fails the operation for now; the queue tries again. */
const PATIENCE_MS = 10 * 60_000;
const POLL_MS = 200;

export interface FollowOptions {
	node: string;
	taskId: string;
	/** Found anew for each call: a node that restarted may have another port. @throws when the node is away */
	client: () => ApiClient;
}

/**
 * Resolves with the completed task. Cancelling the operation cancels the task and waits for its end.
 * @throws the task's own error, not to be retried: the node has done that
 */
export async function followTask(
	context: TaskContext,
	clock: Clock,
	{ node, taskId, client }: FollowOptions,
): Promise<TaskDocument> {
	let silentSinceMs: number | undefined;
	for (;;) {
		if (context.signal.aborted) {
			if (isCancel(context.signal))
				await client()
					.call("cancelTask", { params: { task_id: taskId } })
					.catch(ignoreFinished);
			throw context.signal.reason;
		}
		let task: TaskDocument | undefined;
		try {
			task = await client().call("getTask", { params: { task_id: taskId }, signal: context.signal });
			silentSinceMs = undefined;
			context.report({
				phase: task.phase,
				bytesDone: task.progress.bytes_done,
				bytesTotal: task.progress.bytes_total,
				waitingFor: task.waiting_for,
				plane: task.progress.plane,
			});
		} catch (error) {
			const failure = asGswarmError(error);
			const away = failure.code === "NETWORK_ERROR" || failure.reason === "node_unreachable";
			if (context.signal.aborted) continue;
			if (!away) throw error;
			const now = clock.monotonicMs();
			silentSinceMs ??= now;
			if (now - silentSinceMs > PATIENCE_MS) throw error;
			context.report({ waitingFor: `${node} to come back` });
		}
		// Outside: what ended the node's task may be a NETWORK_ERROR too, and does not mean that the node is away.
		if (task !== undefined && isTerminal(task.status)) return finishedOrThrow(task, node);
		await clock.sleep(POLL_MS, context.signal);
	}
}

/** A shutdown of the host leaves the node's task running; only a cancel ends it. */
function isCancel(signal: AbortSignal): boolean {
	const reason: unknown = signal.reason;
	const text = reason instanceof Error ? reason.message : String(reason);
	return !text.includes("shutdown");
}

function ignoreFinished(error: unknown): void {
	if (asGswarmError(error).reason !== "already_terminal") throw error;
}

function finishedOrThrow(task: TaskDocument, node: string): TaskDocument {
	if (task.status === "completed") return task;
	const { error } = task;
	throw new GswarmError(
		(error?.code ?? "TASK_FAILED") as ErrorCode,
		error?.message ?? `The task ${task.task_id} was cancelled on ${node}.`,
		{
			details: { ...error?.details, node, node_task_id: task.task_id },
			...(typeof error?.details["reason"] === "string"
				? { reason: error.details["reason"] }
				: { reason: "cancelled_on_node" }),
			...(error?.hint === undefined ? {} : { hint: error.hint }),
		},
	);
}
