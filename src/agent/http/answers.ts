/** Small answers that host and node give alike. */
import type { Caller } from "../../core/identity/identity.ts";
import type { Queue } from "../../core/queue/queue.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";

/** 400 same_device. */
export function sameDevice(device: string): GswarmError {
	return invalid("same_device", `Source and target are the same device, ${device}.`, { device });
}

/** 409 in_use: who moves a model takes it from the service that serves it there. */
export function servedThere(model: string, device: string, serviceId: string): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${JSON.stringify(model)} is being served on ${device} by ${serviceId}.`,
		{
			reason: "in_use",
			details: { model, device, service: serviceId },
			hint: `\`gswarm service stop ${serviceId}\` first, or copy it: \`gswarm model copy ${model} …\`.`,
		},
	);
}

/** 409 in_use: the model is served. */
export function inUse(model: string, serviceId: string): GswarmError {
	return new GswarmError("CONFLICT", `${JSON.stringify(model)} is being served by ${serviceId}.`, {
		reason: "in_use",
		details: { model, service: serviceId },
		hint: `\`gswarm service stop ${serviceId}\` first, or --force, which stops it and then deletes.`,
	});
}

/** @throws 400 bad_idempotency_key */
export function idempotencyKey(text: string): string {
	if (/^[\x21-\x7e]{1,200}$/.test(text)) return text;
	throw invalid("bad_idempotency_key", "An Idempotency-Key is 1 to 200 printable characters.", {
		field: "Idempotency-Key",
	});
}

/** The queue's filter of a history query. */
export function historyFilter({
	limit,
	status,
	type,
	priority,
	since,
	cursor,
}: NonNullable<Parameters<Queue["history"]>[0]>): Parameters<Queue["history"]>[0] {
	return { limit, status, type, priority, since, cursor };
}

/** Whose token it is, as the agent that was asked sees it. */
export function whoIs(
	caller: Caller | undefined,
	agent: { role: "host" | "node"; name: string; clusterId: string },
) {
	if (caller === undefined) throw new Error("whoami is only for who has a token");
	return {
		token_id: caller.id,
		name: caller.name,
		role: caller.role,
		expires_at: caller.expiresAt,
		agent: { role: agent.role, name: agent.name, cluster_id: agent.clusterId },
	};
}

/** Liveness is for everybody, details are for those who may read. */
export function seesDetails(caller: Caller | undefined): boolean {
	return caller !== undefined && caller.role !== "inference";
}

/** 507: more than the device could have for it, whatever else is under way. */
export function insufficientSpace(device: string, required: number, available: number): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${device} has ${available} bytes available; ${required} are needed.`,
		{
			reason: "insufficient_space",
			details: { required, available, device },
			status: 507,
			hint: `\`gswarm model evict --device ${device} --bytes ${required} --dry-run\` shows what could go; or choose another device.`,
		},
	);
}
