/** What does a task's work, and what it is given for it. */
import type { Log } from "../../platform/log.ts";
import type { TaskType } from "../../schema/task.ts";
import type { Reservation } from "./conflicts.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Fence } from "./fence.ts";
import type { ProgressReport } from "./progress.ts";

export interface TaskContext {
	taskId: string;
	type: TaskType;
	model: string;
	request: Record<string, unknown>;
	/** 1 for the first. */
	attempt: number;
	/** Set when the host dispatched the task; as it was when this attempt began. */
	dispatch: Dispatch | undefined;
	/** Aborted with reason "cancelled" or "shutdown"; a handler then cleans up and throws within 5 s. */
	signal: AbortSignal;
	/** What the last `saveState` of this task kept; undefined before the first. */
	state: Record<string, unknown> | undefined;
	/**
	 * Keeps a checkpoint in the task's row; durable when it resolves. One that differs from the last counts as progress.
	 * @throws CONFLICT stale_token when the task is no longer this handler's
	 */
	saveState(state: Record<string, unknown>): Promise<void>;
	/**
	 * The token of one dispatch of this task's work to another agent: higher than every one before, and durable when it
	 * resolves, so before anything is sent. @throws CONFLICT stale_token
	 */
	nextFence(): Promise<Fence>;
	/**
	 * Takes room that nobody knew of when the task was claimed, or goes on with what the claim took. Kept in the row, so
	 * that the next claim takes it at once. Never waits: where others leave too little now it throws, and a handler that
	 * lets that through goes back to the line, where it waits for all that it needs and holds nothing.
	 * @throws RESOURCE_UNAVAILABLE no_room_now; CONFLICT stale_token
	 */
	reserve(need: Reservation): Promise<void>;
	/** Live progress; cheap, call it as often as you like. */
	report(progress: ProgressReport): void;
	log: Log;
}

/**
 * Does the task; what it returns becomes the document's `result`. A GswarmError that is `retryable` is tried again
 * later, one with reason `disk_full` waits for space, one with `no_room_now` goes back to the line, any other failure is
 * final.
 */
export type TaskHandler = (context: TaskContext) => Promise<Record<string, unknown> | undefined>;

export type TaskHandlers = Partial<Record<TaskType, TaskHandler>>;
