/** Which role may do what: a pure table. Roles of people contain each other; roles of agents stand alone. */
import { GswarmError } from "../../schema/errors.ts";
import type { TokenRole } from "../../schema/token.ts";

/**
 * Who asks. `reader` is on no token: it is what remains of a person's rights on a node that is cut off from its host,
 * reading and inference.
 */
export type CallerRole = TokenRole | "reader" | "node" | "host";
export type NeededRole = "public" | "join" | "grant" | "any" | TokenRole | "node" | "host";

const RANK: Partial<Record<CallerRole, number>> = { viewer: 1, reader: 1, user: 2, operator: 3, admin: 4 };

/**
 * Whether a caller of role `have` may call a route that needs `need`.
 * A host acts on a node with the rights of an operator or admin: it checked its own caller first.
 */
export function allows(have: CallerRole, need: NeededRole): boolean {
	switch (need) {
		case "public":
		case "any":
			return true;
		case "join":
		case "grant":
			return false;
		case "node":
			return have === "node";
		case "host":
			return have === "host";
		case "inference":
			return have !== "viewer" && have !== "node";
		case "viewer":
		case "user":
		case "operator":
		case "admin": {
			if (have === "host") return true;
			const rank = RANK[have];
			return rank !== undefined && rank >= (RANK[need] ?? Number.POSITIVE_INFINITY);
		}
	}
}

/** Whether somebody of role `have` may give away `wanted`: never more than they have themselves. */
export function mayGrant(have: CallerRole, wanted: TokenRole): boolean {
	return allows(have, "admin") && allows(have, wanted);
}

/** The answer to a caller whose role does not suffice. */
export function roleRefused(have: CallerRole, need: NeededRole): GswarmError {
	if (have === "reader") {
		return new GswarmError(
			"RESOURCE_UNAVAILABLE",
			"This node has not heard from its host for a while; until it does, tokens of people read and use models, no more.",
			{ reason: "host_unreachable", details: { needed: need }, retryable: true },
		);
	}
	return new GswarmError("FORBIDDEN", `The role ${have} may not do this; it needs ${need}.`, {
		reason: "role_not_allowed",
		details: { role: have, needed: need },
	});
}
