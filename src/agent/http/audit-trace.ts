/** What a request leaves for the audit log on its way through the app. */
import type { Role, Route } from "../../api/route.ts";

export interface AuditTrace {
	/** Id of the route, once it is found. */
	action: string | undefined;
	needs: Role | undefined;
	/** Parameters of the path, and what the route lets be told of query and body. */
	target: Record<string, string>;
}

export function emptyTrace(): AuditTrace {
	return { action: undefined, needs: undefined, target: {} };
}

/** The fields that the route names; only plain values. */
export function auditedFields(route: Route, ...parts: readonly unknown[]): Record<string, string> {
	const found: Record<string, string> = {};
	for (const field of route.audited ?? []) {
		for (const part of parts) {
			const value = (part as Record<string, unknown> | undefined)?.[field];
			const isPlain = typeof value === "string" || typeof value === "number" || typeof value === "boolean";
			if (isPlain) found[field] = String(value);
		}
	}
	return found;
}
