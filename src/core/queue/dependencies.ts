/** What a new task waits for: every dependency must be there and may not have failed. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, type StoredError, invalid } from "../../schema/errors.ts";
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
		if (row.state === "failed" || row.state === "cancelled") throw failedAlready(row);
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

/** The task whose own failure or cancellation began the chain that this one is part of. */
export function rootOf(row: Pick<TaskRow, "task_id" | "error">): string {
	const error = row.error === null ? undefined : (JSON.parse(row.error) as StoredError);
	const root = error?.code === "DEPENDENCY_FAILED" ? error.details["root"] : undefined;
	return typeof root === "string" ? root : row.task_id;
}

function unknownDependency(taskId: string): GswarmError {
	const shown = taskId.slice(0, 200);
	return invalid(
		"unknown_dependency",
		`The dependency ${JSON.stringify(shown)} is not a task of this queue.`,
		{ field: "dependencies", dependency: shown },
	);
}

function failedAlready(row: TaskRow): GswarmError {
	return new GswarmError(
		"DEPENDENCY_FAILED",
		`The dependency ${row.task_id} is ${row.state} already; nothing was queued.`,
		{
			reason: "dependency_failed",
			details: { dependency: row.task_id, root: rootOf(row) },
			hint: `\`gswarm queue show ${row.task_id}\` says why.`,
		},
	);
}
