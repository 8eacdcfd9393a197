/** Who may do what. */
import { z } from "zod";
import type { Route } from "../route.ts";
import { HOST } from "./fields.ts";

export const identityRoutes = {
	createToken: {
		method: "POST",
		path: "/api/v1/tokens",
		summary: "Make a join string for other machines",
		role: "admin",
		on: HOST,
		body: z.strictObject({
			kind: z.literal("join"),
			ttl_s: z
				.number()
				.int()
				.min(1)
				.max(30 * 86_400)
				.default(3600),
			uses: z.number().int().min(1).max(1000).default(1),
		}),
		status: 201,
		response: z.object({ token: z.string(), expires_at: z.number(), uses: z.number(), command: z.string() }),
	},
} as const satisfies Record<string, Route>;
