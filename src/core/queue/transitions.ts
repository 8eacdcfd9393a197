/** The table of states: what may follow what. The database refuses anything else by a trigger of its own. */
import type { TaskState } from "../../schema/task.ts";

const FOLLOWS: Record<TaskState, readonly TaskState[]> = {
	blocked: ["pending", "failed", "cancelled"],
	pending: ["running", "cancelled"],
	retry_wait: ["pending", "cancelled"],
	// Back to pending: the agent died or stopped in mid-task.
	running: ["completed", "retry_wait", "failed", "cancelling", "pending"],
	// Completed: what it publishes was committed before the cancel reached it.
	cancelling: ["cancelled", "completed", "failed"],
	completed: [],
	failed: [],
	cancelled: [],
};

/** Whether a task may go from one state to the other. Staying is not a change. */
export function isLegalChange(from: TaskState, to: TaskState): boolean {
	return FOLLOWS[from].includes(to);
}
