/** Tokens of people, and what is told of any token. */
import { z } from "zod";

/**
 * viewer reads; inference uses models (`/v1`) and nothing else; user also submits, cancels their own, serves;
 * operator also deletes and moves; admin also makes tokens, looks after nodes, forces, configures.
 */
export const TOKEN_ROLES = ["viewer", "inference", "user", "operator", "admin"] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

export const TOKEN_STATUSES = ["active", "expired", "revoked", "used_up"] as const;
export type TokenStatus = (typeof TOKEN_STATUSES)[number];

/** What is told of a token; its secret never is. Times are seconds since the epoch. */
export const tokenSchema = z.object({
	token_id: z.string(),
	/** user: of a person; join: lets machines join; admin: the one in the host's data directory. */
	kind: z.enum(["user", "join", "admin"]),
	/** Null for a join string. */
	name: z.string().nullable(),
	/** A person's role, or `join`. */
	role: z.string(),
	status: z.enum(TOKEN_STATUSES),
	created_at: z.number(),
	/** Name of the token that made it; null where nobody did. */
	created_by: z.string().nullable(),
	/** Null: never. */
	expires_at: z.number().nullable(),
	/** To the minute, on the host; null: not yet. */
	last_used_at: z.number().nullable(),
	/** How many machines may still join with it; null for other kinds. */
	uses_left: z.number().nullable(),
});
export type TokenDocument = z.output<typeof tokenSchema>;

/** What nodes are told of people's tokens, so that they know them without asking. */
export const authSnapshotSchema = z.object({
	/** Rises with every change. */
	auth_version: z.number().int(),
	tokens: z
		.array(
			z.object({
				token_id: z.string().max(64),
				name: z.string().max(400),
				role: z.string().max(64),
				secret_sha256: z.string().length(64),
				expires_at: z.number().nullable(),
			}),
		)
		.max(20_000),
});
export type AuthSnapshot = z.output<typeof authSnapshotSchema>;
