/** Nodes: what they report, and what the host believes of them. */
import { z } from "zod";
import { gpuSchema } from "./accelerator.ts";
import { copySchema } from "./model.ts";
import { serviceSchema } from "./service.ts";

export const LIVENESS = ["alive", "suspect", "unreachable", "dead"] as const;
export type Liveness = (typeof LIVENESS)[number];

/** What a node may tell: more than any has, and not so much that a host would have to fear it. */
const MAX_TIERS = 64;
const MAX_ACTIVITIES = 2_000;
const MAX_SERVICES = 1_000;
const MAX_COPIES = 100_000;

const count = z.number().int().nonnegative();
const tierName = z.string().max(20);

export const tierUsageSchema = z.object({
	total: z.number().int().nonnegative(),
	used: z.number().int().nonnegative(),
	reserved: z.number().int().nonnegative(),
	available: z.number().int().nonnegative(),
	/** Of a simulated GPU: there is no such memory. */
	simulated: z.literal(true).optional(),
	/** What more could be made available by evicting, where the tier does that by itself. */
	evictable: z.number().int().nonnegative().optional(),
});
export type TierUsage = z.infer<typeof tierUsageSchema>;

export const taskCountersSchema = z.object({
	pending: z.number().int().nonnegative(),
	running: z.number().int().nonnegative(),
	/** Since the agent started. */
	completed: z.number().int().nonnegative(),
});
export type TaskCounters = z.infer<typeof taskCountersSchema>;

/** Version of the protocol between agents; a host accepts its own and the one before. */
export const PROTOCOL_VERSION = 1;

/** A transient model status that a task in the queue explains: the model is queued, downloading or moving to a tier. */
export const activitySchema = z.object({
	model_name: z.string().max(400),
	tier: tierName,
	status: z.enum(["queued", "downloading", "moving"]),
});

/** A service as its node reports it: the host keeps what it is told, so that it is bounded here. */
const reportedServiceSchema = serviceSchema.extend({
	service_id: z.string().max(200),
	model_name: z.string().max(400),
	device: z.string().max(160),
	node: z.string().max(63),
	framework: z.string().max(64),
	url: z.string().max(2048),
	port: count.max(65535).nullable(),
	pid: count.nullable(),
	started_at: z.number().nonnegative().nullable(),
	ready_s: z.number().nonnegative().nullable(),
	restarts: count,
	requests: count,
	error: z.string().max(65_536).nullable(),
	revision: z.string().max(128).optional(),
	served_name: z.string().max(400).nullable().optional(),
});

const reportedCopySchema = copySchema.extend({
	model_name: z.string().max(400),
	revision: z.string().max(128),
	tier: tierName,
	content_id: z.string().max(64),
	model_type: z.string().max(64),
	source_url: z.string().max(4096).nullable(),
	format: z.string().max(64),
	ready_at: z.number().nonnegative(),
	adopted_from: z.string().max(4096).optional(),
});

/** What a node posts to the host every 5 s, and at once when something changed. Unknown fields are ignored. */
export const heartbeatSchema = z.object({
	protocol_version: count,
	version: z.string().max(100),
	/** Rises at every start of the agent. */
	incarnation: count,
	/** Rises with every beat of an incarnation; a lower one is ignored. */
	seq: count,
	api_port: z.number().int().min(0).max(65535),
	peer_port: z.number().int().min(0).max(65535),
	/** Whether the node's API is spoken over TLS; left out: it is not. */
	tls: z.boolean().optional(),
	/** The same of its peer listener. */
	peer_tls: z.boolean().optional(),
	tiers: z
		.record(tierName, tierUsageSchema)
		.refine((tiers) => Object.keys(tiers).length <= MAX_TIERS, `more than ${MAX_TIERS} tiers`),
	cpus: count,
	/** GPUs, those too that cannot be used; left out: it knows none. */
	gpus: z.array(gpuSchema).max(MAX_TIERS).optional(),
	tasks: taskCountersSchema,
	activities: z.array(activitySchema).max(MAX_ACTIVITIES),
	services: z.array(reportedServiceSchema).max(MAX_SERVICES),
	/** The node's last beat: it was told to stop. */
	leaving: z.boolean().optional(),
	/** Of the people's tokens that it holds; a host with another version pushes its own. */
	auth_version: count.optional(),
	/** How many copies it holds. */
	models: count,
	/** Rises whenever the set of copies changed. */
	inventory_version: count,
	/** All copies; sent when the host asked, or when the version changed. */
	inventory: z.array(reportedCopySchema).max(MAX_COPIES).optional(),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

export const heartbeatAnswerSchema = z.object({
	/** Host wall clock, so that signed calls are judged by its time. */
	host_time_ms: z.number(),
	/** The host does not know this inventory version: send it with the next beat, now. */
	want_inventory: z.boolean(),
	interval_ms: z.number().int(),
	/** Of the host's tokens of people: the same as the node's means that the node's are still good. */
	auth_version: z.number().int().optional(),
	/** Parts go over plain HTTP between the nodes of this cluster; left out: over TLS. */
	trusted_network: z.boolean().optional(),
	/** The node's share of the cluster's limits, bytes per second; null: no limit. */
	bandwidth: z.object({ down: z.number().nullable(), up: z.number().nullable() }).optional(),
});
export type HeartbeatAnswer = z.infer<typeof heartbeatAnswerSchema>;

/** A node as the host shows it. */
export const nodeSchema = z.object({
	name: z.string(),
	/** `waiting`: it asked to join, and an admin has to approve it. */
	status: z.enum([...LIVENESS, "waiting"]),
	address: z.string(),
	api_port: z.number().int(),
	peer_port: z.number().int(),
	version: z.string(),
	protocol_version: z.number().int(),
	cpus: z.number().int(),
	gpus: z.array(gpuSchema).optional(),
	tiers: z.record(z.string(), tierUsageSchema),
	tasks: taskCountersSchema,
	models: z.number().int(),
	services: z.number().int(),
	/** When it asked, of one that waits. */
	joined_at: z.number(),
	/** Of its public key; the agent of a machine that waits says its own. Left out after a reset. */
	key_fingerprint: z.string().optional(),
	/** Names and addresses that its certificate holds beside the one it calls from. */
	approved_addresses: z.array(z.string()).optional(),
	/** Those that it asks for and no admin has approved. */
	asked_addresses: z.array(z.string()).optional(),
	/** Seconds since the last beat by the host's monotonic clock; null before the first. */
	last_seen_s: z.number().nullable(),
});
export type NodeDocument = z.infer<typeof nodeSchema>;
