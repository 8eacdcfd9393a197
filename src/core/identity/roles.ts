/** Which role may do what: a pure table. Roles of people contain each other; roles of agents stand alone. */

export type CallerRole = "viewer" | "inference" | "user" | "operator" | "admin" | "node" | "host";
export type NeededRole = "public" | "join" | "grant" | CallerRole;

const RANK: Partial<Record<CallerRole, number>> = { viewer: 1, user: 2, operator: 3, admin: 4 };

/**
 * Whether a caller of role `have` may call a route that needs `need`.
 * A host acts on a node with the rights of an operator or admin: it checked its own caller first.
 */
export function allows(have: CallerRole, need: NeededRole): boolean {
	switch (need) {
		case "public":
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
