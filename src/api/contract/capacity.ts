/** What devices have and what takes it: figures, who would go from a full one, and who may not. */
import { z } from "zod";
import { evictionPlanSchema } from "../../schema/eviction.ts";
import { resourcesSchema } from "../../schema/resources.ts";
import type { Route } from "../route.ts";
import { BOTH, HOST, device, name, priority, queryNumber, size, submittedOn } from "./fields.ts";

export const capacityRoutes = {
	getResources: {
		method: "GET",
		path: "/api/v1/resources",
		summary:
			"What is there and in use of storage, processors and network: of a node, or of the whole cluster",
		role: "viewer",
		on: BOTH,
		/** On a host: of one node alone. */
		query: z.strictObject({ node: name.optional() }),
		status: 200,
		response: resourcesSchema,
	},
	planEviction: {
		method: "GET",
		path: "/api/v1/evictions",
		summary:
			"Who would go from a device so that `bytes` are available (left out: down to its low watermark), and why the others stay",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({ device, bytes: queryNumber(size).optional() }),
		status: 200,
		response: evictionPlanSchema,
	},
	evictModels: {
		method: "POST",
		path: "/api/v1/evictions",
		summary:
			"Remove copies from a device, just enough: never pinned, used or last ones. Refused with 507 where that is not enough",
		role: "operator",
		on: BOTH,
		audited: ["device", "bytes"],
		body: z.strictObject({ device, bytes: size.optional(), priority }),
		status: 202,
		response: submittedOn,
	},
	pinModel: {
		method: "PUT",
		path: "/api/v1/models/{model_name}/pin",
		summary: "Keep copies of a model from being evicted, or no longer: on `device`, or wherever they are",
		role: "operator",
		on: BOTH,
		audited: ["device", "pinned"],
		body: z.strictObject({ device: device.optional(), pinned: z.boolean().default(true) }),
		status: 200,
		response: z.object({
			model_name: name,
			pinned: z.boolean(),
			/** Those whose copies were pinned or unpinned. */
			devices: z.array(z.string()),
			/** Nodes that hold copies and could not be asked. */
			unreachable: z.array(z.string()),
		}),
	},
	findCopies: {
		method: "POST",
		path: "/api/v1/whereabouts",
		summary: "A node asks how many other copies of these revisions there are on nodes that are alive",
		role: "node",
		on: HOST,
		internal: true,
		body: z.object({
			revisions: z.array(z.object({ model_name: name, revision: z.string().max(200) })).max(1000),
		}),
		status: 200,
		response: z.object({
			copies: z.array(
				z.object({
					model_name: z.string(),
					revision: z.string(),
					/** On tiers that keep their bytes. */
					durable: z.number().int().nonnegative(),
					all: z.number().int().nonnegative(),
				}),
			),
		}),
	},
} as const satisfies Record<string, Route>;
