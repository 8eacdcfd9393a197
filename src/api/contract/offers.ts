/** A bundle that the machine of who asks has: announced, and then sent piece by piece as a node wants them. */
import { z } from "zod";
import { bundleSchema } from "../../schema/bundle.ts";
import { OFFER_DESCRIPTION } from "../../schema/offer.ts";
import { TASK_STATUSES } from "../../schema/task.ts";
import type { Route } from "../route.ts";
import { BOTH, bandwidth, device, name, priority, queryInteger, size, submittedOn } from "./fields.ts";

const next = z.object({
	/** Null: none now. */
	piece: z
		.object({
			/** As the files lie in the bundle, from 0; -1: the description with which it begins. */
			file: z.number().int().min(OFFER_DESCRIPTION),
			/** Within the file, half open. */
			start: size,
			end: size,
		})
		.nullable(),
	status: z.enum(TASK_STATUSES),
});
export type OfferAnswer = z.infer<typeof next>;

const { gswarm_bundle: _form, manifest: _manifest, ...announced } = bundleSchema.shape;

export const offersRoutes = {
	offerBundle: {
		method: "POST",
		path: "/api/v1/bundle-offers",
		summary:
			"Import a bundle that the caller sends: what of it is wanted the task asks for, piece by piece (wantedPiece)",
		role: "user",
		on: BOTH,
		audited: ["target_device", "model_name"],
		body: z.strictObject({
			...announced,
			model_name: name,
			/** Of the bundle's first entry, and of all files of the model together. */
			description_bytes: size,
			size_bytes: size,
			target_device: device.optional(),
			priority,
			bandwidth_limit: bandwidth.optional(),
		}),
		status: 202,
		response: submittedOn,
	},
	wantedPiece: {
		method: "GET",
		path: "/api/v1/bundle-offers/{task_id}",
		summary: "The next piece of a bundle that is wanted; nobody else is given it for a while",
		role: "user",
		ownTask: true,
		on: BOTH,
		query: z.strictObject({ wait_ms: queryInteger({ min: 0, max: 10_000, fallback: 0 }) }),
		status: 200,
		response: next,
	},
	sendPiece: {
		method: "POST",
		path: "/api/v1/bundle-offers/{task_id}",
		summary: "A piece of a bundle, as it lies in it (application/octet-stream); answers the next one",
		role: "user",
		ownTask: true,
		on: BOTH,
		query: z.strictObject({
			file: queryInteger({ min: OFFER_DESCRIPTION, max: 1_000_000, fallback: 0 }),
			start: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 0 }),
		}),
		status: 200,
	},
} as const satisfies Record<string, Route>;
