/** What a new task waits for: every dependency must be there and may not have failed. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, type StoredError, invalid } from "../../schema/errors.ts";
import type { TaskState, TaskStatus } from "../../schema/task.ts";
import type { Dependency } from "./insert.ts";
import { newestRetry } from "./retry-chain.ts";
import { type QueueName, type TaskRow, findTask } from "./task-row.ts";

const MAX_DEPENDENCIES = 64;

/**
 * The rows of these task ids. With `followRetries` a dependency that failed and was done again stands for the task
 * that did it again.
 * @throws 400 unknown_dependency, too_many_dependencies; 424 dependency_failed
 */
export function findDependencies(
	db: Sqlite,
	queue: QueueName,
	taskIds: readonly string[],
	{ followRetries = false }: { followRetries?: boolean } = {},
): Dependency[] {
	if (taskIds.length === 0) return [];
	const ids = [...new Set(taskIds)];
	refuseTooMany(ids.length);
	return ids.map((taskId) => {
		const found = findTask(db, queue, taskId);
		if (found === undefined) throw unknownDependency(taskId);
		const row = followRetries ? newestRetry(db, found) : found;
		if (row.state === "failed" || row.state === "cancelled")
			throw failedAlready({ taskId: row.task_id, root: rootOf(row), state: row.state });
		return row;
	});
}

/** @throws 400 too_many_dependencies */
export function refuseTooMany(count: number): void {
	if (count <= MAX_DEPENDENCIES) return;
	throw invalid(
		"too_many_dependencies",
		`A task can depend on at most ${MAX_DEPENDENCIES} others; got ${count}.`,
		{ field: "dependencies", limit: MAX_DEPENDENCIES },
	);
}

function rootOf(row: Pick<TaskRow, "task_id" | "error">): string {
	return rootCause(row.task_id, row.error === null ? null : (JSON.parse(row.error) as StoredError));
}

/** The task whose own failure or cancellation began the chain that this one, which ended with `error`, is part of. */
export function rootCause(
	taskId: string,
	error: { code: string; details: Record<string, unknown> } | null,
): string {
	const root = error?.code === "DEPENDENCY_FAILED" ? error.details["root"] : undefined;
	return typeof root === "string" ? root : taskId;
}

/** 400: also of a task that no queue of the cluster knows. */
export function unknownDependency(taskId: string, where = "this queue"): GswarmError {
	const shown = taskId.slice(0, 200);
	return invalid("unknown_dependency", `The dependency ${JSON.stringify(shown)} is not a task of ${where}.`, {
		field: "dependencies",
		dependency: shown,
	});
}

/** 424. `root` is the task whose own end began it. */
export function failedAlready({
	taskId,
	root,
	state,
}: {
	taskId: string;
	root: string;
	state: TaskState | TaskStatus;
}): GswarmError {
	return new GswarmError(
		"DEPENDENCY_FAILED",
		`The dependency ${taskId} is ${state} already; nothing was queued.`,
		{
			reason: "dependency_failed",
			details: { dependency: taskId, root },
			hint: `\`gswarm queue show ${root}\` says why.`,
		},
	);
}
