/** The states of an engine instance and what moves it from one to the next. Pure. */
import type { InstanceState } from "../../schema/service.ts";

/**
 * `answered`: its health check says ready. `silent`: too many checks in a row failed. `exited`: the process is gone and
 * is started again. `gave_up`: the process is gone and stays gone. `stop`: somebody asked. `ended`: the stop is done.
 * `start`: somebody asked for it, or a restarted agent took it over and looks for itself what is true.
 */
export type InstanceEvent = "answered" | "silent" | "exited" | "gave_up" | "stop" | "ended" | "start";

const TABLE: Record<InstanceState, Partial<Record<InstanceEvent, InstanceState>>> = {
	starting: {
		answered: "ready",
		silent: "unhealthy",
		exited: "starting",
		gave_up: "failed",
		stop: "stopping",
		start: "starting",
	},
	ready: {
		silent: "unhealthy",
		exited: "starting",
		gave_up: "failed",
		stop: "stopping",
		start: "starting",
	},
	// An engine that was given up on is killed; a late answer does not bring it back.
	unhealthy: { exited: "starting", gave_up: "failed", stop: "stopping", start: "starting" },
	stopping: { ended: "stopped" },
	stopped: { start: "starting" },
	failed: { stop: "stopping" },
};

/** The next state; undefined when the event has no meaning in this one. */
export function nextState(state: InstanceState, event: InstanceEvent): InstanceState | undefined {
	return TABLE[state][event];
}
