/** Where a model will be when tasks have completed that are still in line. */
import type { TaskDocument, TaskType } from "../schema/task.ts";

export const BRINGING: readonly TaskType[] = ["download", "copy", "move"];

/**
 * Devices to which these tasks bring the model, or those they wait for in turn; as the requests name them. `find` knows
 * the tasks that it can.
 */
export function bringsTo(
	model: string,
	taskIds: readonly string[],
	find: (taskId: string) => Pick<TaskDocument, "task_type" | "request" | "dependencies"> | undefined,
): string[] {
	const devices = new Set<string>();
	const seen = new Set<string>();
	const open = [...taskIds];
	for (let id = open.pop(); id !== undefined; id = open.pop()) {
		const task = seen.has(id) ? undefined : find(id);
		seen.add(id);
		if (task === undefined) continue;
		const { model_name, target_device } = task.request;
		if (BRINGING.includes(task.task_type) && model_name === model && typeof target_device === "string")
			devices.add(target_device);
		open.push(...task.dependencies);
	}
	return [...devices];
}
