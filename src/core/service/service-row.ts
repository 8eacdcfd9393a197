/** From a request to a row, and from a row to the process it means. */
import { findByArgument, isSameProcess, type ProcessIdentity } from "../../platform/process.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelName, Revision, ServiceId } from "../../schema/names.ts";
import type { Framework } from "../../schema/service.ts";
import type { ServiceConfig } from "./service-config.ts";
import type { ServiceRow } from "./service-store.ts";

/** What is to be served, and how. */
export interface ServiceRequest {
	serviceId: ServiceId;
	model: ModelName;
	revision: Revision;
	/** Answers to the model's name, not only to MODEL@REVISION; default true. */
	hasName?: boolean | undefined;
	tier: string;
	/** The directory of the copy, as storage tells it. */
	modelPath: string;
	framework: Framework;
	/** A listener of its own for this service; left out, the gateways are its front. */
	port?: number | undefined;
	config: ServiceConfig;
}

export function newRow(request: ServiceRequest, nowMs: number): ServiceRow {
	return {
		service_id: request.serviceId,
		model_name: request.model,
		revision: request.revision,
		tier: request.tier,
		model_path: request.modelPath,
		framework: request.framework,
		port: request.port ?? null,
		config: JSON.stringify(request.config),
		state: "starting",
		created_at: nowMs / 1000,
		instance_id: null,
		pid: null,
		start_time: null,
		boot_id: null,
		base_url: null,
		started_at: null,
		ready_s: null,
		restarts: 0,
		requests: 0,
		error: null,
		served_name: request.hasName === false ? null : request.model,
	};
}

/** @throws CONFLICT service_exists when the id serves something else */
export function assertSame(row: Readonly<ServiceRow>, request: ServiceRequest): void {
	const isSame =
		row.model_name === request.model &&
		row.revision === request.revision &&
		row.tier === request.tier &&
		row.framework === request.framework &&
		row.port === (request.port ?? null);
	if (isSame) return;
	throw new GswarmError(
		"CONFLICT",
		`The service ${row.service_id} serves ${row.model_name}@${row.revision} from ${row.tier}; it was asked for ${request.model}@${request.revision} from ${request.tier}.`,
		{ reason: "service_exists", details: { service_id: row.service_id }, hint: "Stop it first." },
	);
}

/** The process that the row means, when it is still there; another one that got its pid is not it. */
export function findProcess(row: ServiceRow): ProcessIdentity | undefined {
	const { pid, start_time: startTime, boot_id: bootId, instance_id: instanceId } = row;
	if (pid !== null && startTime !== null && bootId !== null) {
		const identity = { pid, startTime, bootId };
		return isSameProcess(identity) ? identity : undefined;
	}
	// The agent died between starting the process and recording it.
	return instanceId === null ? undefined : findByArgument(instanceId)[0];
}
