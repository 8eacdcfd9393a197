/** Who did what, and people's secrets. */
import { z } from "zod";
import { auditEntrySchema } from "../../schema/audit.ts";
import { MAX_ORIGINS, MAX_SECRET_LENGTH, secretSchema } from "../../schema/secret.ts";
import type { Route } from "../route.ts";
import { BOTH, HOST, queryInteger, querySeconds } from "./fields.ts";

const origin = z.string().min(1).max(300);

export const recordsRoutes = {
	listAudit: {
		method: "GET",
		path: "/api/v1/audit",
		summary: "Who did what on this agent, and who was refused; the newest first, `cursor` continues a page",
		role: "admin",
		on: BOTH,
		query: z.strictObject({
			limit: queryInteger({ min: 1, max: 200, fallback: 50 }),
			since: querySeconds,
			/** Id or name of a token or node. */
			actor: z.string().min(1).max(200).optional(),
			action: z.string().min(1).max(60).optional(),
			cursor: z.string().max(200).optional(),
		}),
		status: 200,
		response: z.object({
			entries: z.array(auditEntrySchema),
			next_cursor: z.string().nullable(),
			/** Entries that could not be written since the agent started. */
			lost: z.number(),
		}),
	},
	listSecrets: {
		method: "GET",
		path: "/api/v1/secrets",
		summary: "Names and origins of the secrets for downloads; never their values",
		role: "admin",
		on: HOST,
		status: 200,
		response: z.object({ secrets: z.array(secretSchema), total: z.number() }),
	},
	setSecret: {
		method: "PUT",
		path: "/api/v1/secrets/{secret_name}",
		summary:
			"Store or replace a secret for downloads and the origins it may be sent to; `hf` has the configured hub by default",
		role: "admin",
		on: HOST,
		body: z.strictObject({
			value: z
				.string()
				.min(1)
				.max(MAX_SECRET_LENGTH)
				.regex(/^[\u0021-\u007e]+$/, "wanted printable characters without a space"),
			origins: z.array(origin).min(1).max(MAX_ORIGINS).optional(),
		}),
		status: 200,
		response: secretSchema,
	},
	removeSecret: {
		method: "DELETE",
		path: "/api/v1/secrets/{secret_name}",
		summary: "Forget a secret",
		role: "admin",
		on: HOST,
		status: 200,
		response: secretSchema,
	},
	lookUpCredential: {
		method: "POST",
		path: "/api/v1/credentials",
		summary: "A node's task asks for the credential of one origin; null where none is bound to it",
		role: "node",
		on: HOST,
		audited: ["origin"],
		internal: true,
		body: z.object({ origin }),
		status: 200,
		response: z.object({ bearer: z.string().nullable() }),
	},
} as const satisfies Record<string, Route>;
