/** What the API tells of one queue; a node tells of its own so, and a host of its operations. */
import type { PageFilter, Queue, QueueConfig } from "../core/queue/queue.ts";
import type { ObstacleBody } from "../schema/queue.ts";
import type { TaskDocument } from "../schema/task.ts";

/** A page of the tasks that are not finished, with what surrounds them. */
export function queuePage(queue: Queue, filter: PageFilter) {
	return { queue_config: queue.config(), task_queue: queue.counters(), ...queue.page(filter) };
}

/** A task and what keeps it from running; of who is in its way, how long they still need. @throws 404 task_not_found */
export function taskWithObstacles(
	queue: Queue,
	taskId: string,
): TaskDocument & { obstacles: ObstacleBody[] } {
	const etaOf = (id: string): number | null => {
		try {
			return queue.get(id).progress.eta_s;
		} catch {
			// It has ended and gone since the explanation was made.
			return null;
		}
	};
	const obstacles = queue.explain(taskId).obstacles.map((obstacle): ObstacleBody => {
		if (obstacle.kind !== "reservation") return obstacle;
		const held_by = obstacle.held_by.map((holder) => ({ ...holder, eta_s: etaOf(holder.task_id) }));
		return { ...obstacle, held_by };
	});
	return { ...queue.get(taskId), obstacles };
}

/** What of a queue's configuration a request changes. */
export function configChange(
	body: {
		[K in keyof QueueConfig]?: QueueConfig[K] | undefined;
	},
): Partial<QueueConfig> {
	return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}
