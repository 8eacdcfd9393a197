/** Services (deployed models), engines (kinds of model server) and instances (one engine process). */
import { z } from "zod";

export const INSTANCE_STATES = ["starting", "ready", "unhealthy", "stopping", "stopped", "failed"] as const;
export type InstanceState = (typeof INSTANCE_STATES)[number];

/** Engine kinds; `llama` is inside the binary. Others come with a later version. */
export const FRAMEWORKS = ["llama"] as const;
export type Framework = (typeof FRAMEWORKS)[number];

/** `least_outstanding` is the default. */
export const BALANCE_POLICIES = ["least_outstanding", "round_robin"] as const;
export type BalancePolicy = (typeof BALANCE_POLICIES)[number];

/** A service as the API shows it; on a node every service has one instance. */
export const serviceSchema = z.object({
	service_id: z.string(),
	model_name: z.string(),
	/** With the node prefix. */
	device: z.string(),
	node: z.string(),
	framework: z.string(),
	state: z.enum(INSTANCE_STATES),
	/** Where a client asks: an OpenAI base without `/v1`. */
	url: z.string(),
	/** The port that was asked for; null when the node's own gateway is the front. */
	port: z.number().int().nullable(),
	pid: z.number().int().nullable(),
	started_at: z.number().nullable(),
	/** Measured seconds from start to ready; null until ready. */
	ready_s: z.number().nullable(),
	restarts: z.number().int(),
	requests: z.number().int(),
	/** How a gateway chooses among a model's instances. */
	load_balancing: z.enum(BALANCE_POLICIES),
	error: z.string().nullable(),
	/** Its GPU is a simulated one: the engine computes elsewhere. */
	simulated: z.literal(true).optional(),
	/** Of the model that it serves. */
	revision: z.string().optional(),
	/** What requests ask for, besides MODEL@REVISION; null: nothing else. Left out: the model's name. */
	served_name: z.string().nullable().optional(),
});
export type ServiceDocument = z.infer<typeof serviceSchema>;

/** Whether requests for this name are for it. */
export function answersTo(
	service: Pick<ServiceDocument, "model_name" | "revision" | "served_name">,
	name: string,
): boolean {
	const { model_name: model, revision, served_name: served = model } = service;
	return name === served || (revision !== undefined && name === `${model}@${revision}`);
}

/** Whether the service uses its model: one that has failed is kept only to be read about. */
export function isServing({ state }: { state: InstanceState }): boolean {
	return state !== "failed" && state !== "stopped";
}
