/** Whether a caller may do what a route does: their role, what `force` needs, and whose task it is. */
import type { Route } from "../../api/route.ts";
import { type Caller, type Identity, allows, roleRefused } from "../../core/identity/identity.ts";
import { GswarmError } from "../../schema/errors.ts";

/** Who sent a request, as far as its bearer tells. */
export interface Sender {
	caller: Caller | undefined;
	bearer: string | undefined;
}

/** @throws 401 no_valid_token, token_expired, token_revoked */
export function requireCaller(identity: Pick<Identity, "refusal">, { caller, bearer }: Sender): Caller {
	if (caller !== undefined) return caller;
	throw identity.refusal(bearer);
}

/** @throws as requireCaller; 403 role_not_allowed; 503 host_unreachable on a node that is cut off */
export function requireRole(
	identity: Pick<Identity, "refusal">,
	needed: Route["role"],
	sender: Sender,
): void {
	if (needed === "public" || needed === "join" || needed === "grant") return;
	const { role } = requireCaller(identity, sender);
	if (!allows(role, needed)) throw roleRefused(role, needed);
}

/** What `force` does cannot be undone: it needs a role of its own. @throws 403 role_not_allowed */
export function requireForce(route: Route, caller: Caller | undefined, query: unknown): void {
	if (route.forceRole === undefined || caller === undefined) return;
	const { force, delete_files: deleteFiles } = query as { force?: unknown; delete_files?: unknown };
	if ((force === true || deleteFiles === true) && !allows(caller.role, route.forceRole))
		throw roleRefused(caller.role, route.forceRole);
}

/**
 * A user's cancel is for what they submitted themselves. `exists` throws for a task that is nowhere.
 * @throws 403 not_your_task, 409 already_cancelled
 */
export async function requireOwnTask(
	identity: Pick<Identity, "taskOwners">,
	caller: Caller | undefined,
	taskId: string,
	exists: () => unknown,
): Promise<void> {
	if (caller === undefined || !isUser(caller)) return;
	const ownership = identity.taskOwners.ownership(taskId, caller.id);
	if (ownership === "mine") return;
	await exists();
	if (ownership === "foreign") {
		throw new GswarmError("FORBIDDEN", `The task ${taskId} was not submitted with your token.`, {
			reason: "not_your_task",
			details: { task_id: taskId },
			hint: "Ask who submitted it, or somebody with the role operator.",
		});
	}
	throw new GswarmError("CONFLICT", `You have cancelled ${taskId} already; others wait for it too.`, {
		reason: "already_cancelled",
		details: { task_id: taskId },
	});
}

/**
 * Remembers whose task an answer names, and that a cancelled one is theirs no more. Of those who may cancel any task
 * only what has an Idempotency-Key counts, so that nobody makes it theirs by sending that key again.
 */
export async function keepOwner(
	identity: Pick<Identity, "taskOwners">,
	route: Route,
	{ caller, headers, answer }: { caller: Caller | undefined; headers: Headers; answer: unknown },
): Promise<void> {
	const taskId = taskIdOf(answer);
	if (caller === undefined || taskId === undefined) return;
	const key = headers.get("idempotency-key");
	if (route.endsTask === true && isUser(caller)) await identity.taskOwners.cancelled(taskId, caller.id);
	else if (route.status === 202 && (isUser(caller) || key !== null))
		await identity.taskOwners.submitted(taskId, caller.id, key);
}

/** The task that an answer is about. */
export function taskIdOf(answer: unknown): string | undefined {
	if (typeof answer !== "object" || answer === null || !("task_id" in answer)) return undefined;
	return String(answer.task_id);
}

/** Those above may cancel any task, those below none. */
function isUser({ role }: Caller): boolean {
	return role === "user";
}
