/** Who may have a task done again: whoever may submit what it does. */
import { type RouteId, contract } from "../api/contract.ts";
import type { Route } from "../api/route.ts";
import { type Caller, allows, roleRefused } from "../core/identity/identity.ts";
import { GswarmError } from "../schema/errors.ts";
import type { TaskDocument, TaskType } from "../schema/task.ts";

const SUBMITTED_BY: Record<TaskType, RouteId> = {
	download: "downloadModel",
	copy: "copyModel",
	move: "moveModel",
	delete: "deleteModel",
	serve: "startService",
	stop: "stopService",
	verify: "verifyModel",
	upload: "uploadModel",
	adopt: "adoptModel",
	evict: "evictModels",
};

interface PartOf {
	operation_id?: unknown;
}

/** @throws 403 role_not_allowed, 409 part_of_operation */
export function checkRetry(caller: Caller | undefined, task: TaskDocument): void {
	const route: Route = contract[SUBMITTED_BY[task.task_type]];
	const isForced = task.request["force"] === true || task.request["delete_files"] === true;
	const needed = isForced ? (route.forceRole ?? route.role) : route.role;
	if (caller !== undefined && !allows(caller.role, needed)) throw roleRefused(caller.role, needed);
	const request = task.request as { pull?: PartOf; swarm?: PartOf };
	const { operation_id: operation } = request.pull ?? request.swarm ?? {};
	if (typeof operation !== "string") return;
	throw new GswarmError(
		"CONFLICT",
		`${task.task_id} did a part of ${operation} and cannot be done again alone.`,
		{
			reason: "part_of_operation",
			details: { task_id: task.task_id, operation },
			hint: `\`gswarm queue retry ${operation}\` on the host.`,
		},
	);
}
