/** What a machine, or the cluster, has and how much of it is in use; fields of the API design first, additions after. */
import { z } from "zod";
import { tierUsageSchema } from "./node.ts";

const bytes = z.number().int().nonnegative();
const percent = z.number().min(0).max(100).nullable();

/** `used` is what models take there. */
const deviceStorageSchema = tierUsageSchema.extend({
	/** The budget for models; null: what the filesystem has. */
	limit: bytes.nullable().optional(),
	/** The filesystem below, whoever uses it; of a GPU: left out. */
	filesystem: z.object({ total: bytes, available: bytes, floor: bytes }).optional(),
	/** What went to make room since the agent started. */
	evicted: z.object({ copies: bytes, bytes }).optional(),
});

const cpuSchema = z.object({
	cores: z.number().int().positive(),
	/** Percent of all cores over the last moments; null where the system does not tell. */
	usage: percent,
});
const gpuLoadSchema = z.object({
	usage: percent,
	/** Degrees Celsius. */
	temperature: z.number().nullable(),
	product: z.string().optional(),
	uuid: z.string().nullable().optional(),
	/** Why no model can be loaded to it; null: one can. */
	problem: z.string().nullable().optional(),
	power_w: z.number().nullable().optional(),
	power_limit_w: z.number().nullable().optional(),
	clock_mhz: z.number().nullable().optional(),
	memory_clock_mhz: z.number().nullable().optional(),
	/** Programs that compute on it. */
	processes: z.array(z.object({ pid: z.number().int(), used_bytes: z.number().nullable() })).optional(),
	/** When its driver was asked, seconds since the epoch; null: there is none to ask. */
	read_at: z.number().nullable().optional(),
	/** There is no such GPU: its memory is the machine's, by configuration. */
	simulated: z.literal(true).optional(),
});

const networkSchema = z.object({
	bandwidth: z.object({
		/** Bytes per second of all interfaces but loopback over the last moments. */
		in: z.number().nonnegative().nullable(),
		out: z.number().nonnegative().nullable(),
		/** The most that models may take of it, bytes per second; null: no limit. */
		limit_in: z.number().nullable().optional(),
		limit_out: z.number().nullable().optional(),
	}),
});

export const nodeResourcesSchema = z.object({
	/** By device: `disk`, `dram`, `gpu0`. */
	storage: z.record(z.string(), deviceStorageSchema),
	compute: z.object({ cpu: cpuSchema }).catchall(z.union([gpuLoadSchema, cpuSchema])),
	network: networkSchema,
	/** What the agent may use: the machine's, or its control group's. */
	memory: z.object({ total: bytes, available: bytes, limit: bytes.nullable() }).nullable().optional(),
	node: z.string().optional(),
});
export type NodeResources = z.infer<typeof nodeResourcesSchema>;

/** A host's: sums over its nodes, and each of them. */
export const resourcesSchema = nodeResourcesSchema.extend({
	nodes: z.record(z.string(), nodeResourcesSchema).optional(),
	/** Those that did not answer; they are in no sum. */
	missing_nodes: z.array(z.string()).optional(),
});
export type Resources = z.infer<typeof resourcesSchema>;
