/** What will be wanted in memory: said by people, expected from the record, and what is made of it. */
import { z } from "zod";
import { hintSchema, preloadPlanSchema } from "../../schema/preload.ts";
import type { Route } from "../route.ts";
import { BOTH, device } from "./fields.ts";

/** A hint is of the near future; what comes every week is found out without one. */
export const MAX_AHEAD_S = 7 * 86_400;

export const preloadRoutes = {
	hintModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/hint",
		summary: "Say that a model will be used: it is brought into memory before, where there is room",
		role: "user",
		on: BOTH,
		audited: ["device", "in_s", "at"],
		body: z.strictObject({
			/** Seconds from now; default 0. */
			in_s: z.number().nonnegative().max(MAX_AHEAD_S).optional(),
			/** Seconds since the epoch, in the place of `in_s`; as near. */
			at: z.number().nonnegative().max(1e12).optional(),
			/** How long it will be wanted from then on; default 10 minutes. */
			for_s: z.number().min(1).max(86_400).default(600),
			/** `dram` or `node1:dram`; left out: of a node that has it on a disk. */
			device: device.optional(),
		}),
		status: 200,
		response: hintSchema,
	},
	dropHint: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}/hint",
		summary: "Take back what was said of a model's use",
		role: "user",
		on: BOTH,
		status: 200,
		response: z.object({ model_name: z.string(), dropped: z.boolean() }),
	},
	getPreload: {
		method: "GET",
		path: "/api/v1/preload",
		summary: "What is or will be brought into memory ahead of its use, and why; what is not, and why",
		role: "viewer",
		on: BOTH,
		query: z.strictObject({
			/** Of one node; left out: of each that can be reached. */
			node: z.string().min(1).max(63).optional(),
		}),
		status: 200,
		response: z.object({ plans: z.array(preloadPlanSchema) }),
	},
} as const satisfies Record<string, Route>;
