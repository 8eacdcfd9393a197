/** Models that are on a node already, put there by another program, and how they become known without a copy. */
import { z } from "zod";
import { adoptableSchema, presentedSchema } from "../../schema/adoption.ts";
import type { Route } from "../route.ts";
import { BOTH, device, priority, revision, submittedOn } from "./fields.ts";

/** Of a file or directory of the node, in one of its import folders. */
const path = z.string().min(1).max(4096);

export const adoptionsRoutes = {
	findAdoptable: {
		method: "POST",
		path: "/api/v1/adoptions/find",
		summary:
			"What can be adopted at a path of a node: a Hugging Face cache, an Ollama store, a folder or a file; nothing is read but names and sizes",
		role: "operator",
		on: BOTH,
		audited: ["path", "device"],
		body: z.strictObject({
			path,
			/** Says which node; left out: the only one. */
			device: device.optional(),
		}),
		status: 200,
		response: z.object({ node: z.string(), device: z.string(), found: z.array(adoptableSchema) }),
	},
	adoptModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/adopt",
		summary: "Register the one model at a path of a node where it lies, after all of it was read once",
		role: "operator",
		on: BOTH,
		audited: ["path", "device", "link"],
		body: z.strictObject({
			path,
			/** A disk of the node; left out: the only node's. */
			device: device.optional(),
			model_type: z.string().min(1).max(64).optional(),
			/** Makes it the store's own by reflinks or hard links; otherwise it stays where it lies. */
			link: z.boolean().optional(),
			priority,
		}),
		status: 202,
		response: submittedOn,
	},
	presentModel: {
		method: "POST",
		path: "/api/v1/models/{model_name}/present",
		summary: "Show a copy in the layout of Hugging Face's cache, for programs of its node that look there",
		role: "operator",
		on: BOTH,
		audited: ["device", "revision", "cache_dir"],
		body: z.strictObject({
			/** Left out: the only device that has it. */
			device: device.optional(),
			revision: revision.optional(),
			/** A directory of the agent's own in one of the node's import folders; left out: one in its data directory. */
			cache_dir: path.optional(),
			/** Left out: that of its source, or the model's name. */
			repository: z.string().min(1).max(200).optional(),
			/** The branch that leads to it. */
			ref: z
				.string()
				.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
				.default("main"),
		}),
		status: 200,
		response: presentedSchema,
	},
	withdrawModel: {
		method: "DELETE",
		path: "/api/v1/models/{model_name}/present",
		summary: "Show a copy in no such cache any more",
		role: "operator",
		on: BOTH,
		audited: ["device", "revision"],
		query: z.strictObject({ device: device.optional(), revision: revision.optional() }),
		status: 200,
		response: z.object({ node: z.string(), device: z.string(), withdrawn: z.number().int().nonnegative() }),
	},
} as const satisfies Record<string, Route>;
