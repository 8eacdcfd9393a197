/** Who may do what. */
import { z } from "zod";
import type { Route } from "../route.ts";
import { TOKEN_ROLES, authSnapshotSchema, tokenSchema } from "../../schema/token.ts";
import { BOTH, HOST, NODE, name } from "./fields.ts";

/** Ten years; a token without an end has none at all. */
const LONGEST_TTL_S = 3650 * 86_400;

export const identityRoutes = {
	whoami: {
		method: "GET",
		path: "/api/v1/whoami",
		summary: "Whose token this is, and what it may do here and now",
		role: "any",
		on: BOTH,
		status: 200,
		response: z.object({
			token_id: z.string(),
			/** Name of the token or node; `admin` for the one of the data directory. */
			name: z.string(),
			/** `reader` on a node that is cut off from its host: reading and inference. */
			role: z.string(),
			/** Seconds since the epoch; null: it does not expire. */
			expires_at: z.number().nullable(),
			/** Which agent answered. */
			agent: z.object({ role: z.enum(["host", "node"]), name: z.string(), cluster_id: z.string() }),
		}),
	},
	listTokens: {
		method: "GET",
		path: "/api/v1/tokens",
		summary: "Tokens of people and join strings, the newest first; never their secrets",
		role: "admin",
		on: HOST,
		status: 200,
		response: z.object({ tokens: z.array(tokenSchema), total: z.number() }),
	},
	createToken: {
		method: "POST",
		path: "/api/v1/tokens",
		summary:
			"Make a token for a person or program (`user`), or a join string for other machines (`join`); its text is told once",
		role: "admin",
		on: HOST,
		audited: ["kind", "name", "role"],
		body: z.strictObject({
			kind: z.enum(["join", "user"]),
			/** Of `user`. */
			name: name.optional(),
			/** Of `user`. */
			role: z.enum(TOKEN_ROLES).optional(),
			/** An hour for `join`, which may have 30 days; a person's token without it does not expire. */
			ttl_s: z.number().int().min(1).max(LONGEST_TTL_S).optional(),
			/** Of `join`: how many machines. */
			uses: z.number().int().min(1).max(1000).optional(),
			/** Of `join`: the nodes wait until an admin approves them. */
			approve: z.boolean().optional(),
		}),
		status: 201,
		response: z.object({
			token: z.string(),
			token_id: z.string(),
			expires_at: z.number().nullable(),
			uses: z.number().nullable(),
			/** What to type on the other machine, with the token on its standard input. */
			command: z.string(),
		}),
	},
	revokeToken: {
		method: "DELETE",
		path: "/api/v1/tokens/{token_id}",
		summary: "End a token at once, by its id or name; answers when the nodes that can be reached know it",
		role: "admin",
		on: HOST,
		status: 200,
		response: tokenSchema.extend({
			/** They may accept it for a minute, and for reading and inference for ten, unless they are heard from before. */
			nodes_not_reached: z.array(z.string()),
		}),
	},
	pushAuth: {
		method: "POST",
		path: "/api/v1/auth",
		summary: "The host tells a node which tokens of people are good",
		role: "host",
		on: NODE,
		internal: true,
		body: authSnapshotSchema,
		status: 200,
		response: z.object({ auth_version: z.number().int() }),
	},
} as const satisfies Record<string, Route>;
