/**
 * Headers of every answer, errors and streams too. Never any of CORS: no other site's page may read an answer.
 * Never Strict-Transport-Security: browsers apply it to all ports of a host name for its whole time, so it would break
 * whatever else this machine serves over plain HTTP; a person's own proxy in front may add it.
 */

const ALWAYS: readonly (readonly [name: string, value: string])[] = [
	["x-content-type-options", "nosniff"],
	["referrer-policy", "no-referrer"],
	["cross-origin-resource-policy", "same-origin"],
	["x-frame-options", "DENY"],
];

/** A page of ours brings its own policy; anything else is no page, and nothing may come of it being shown as one. */
const UNLESS_SET: readonly (readonly [name: string, value: string])[] = [
	["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
	["cache-control", "no-store"],
];

const NEVER = [
	"access-control-allow-origin",
	"access-control-allow-credentials",
	"access-control-allow-methods",
	"access-control-allow-headers",
	"access-control-allow-private-network",
	"access-control-expose-headers",
	"access-control-max-age",
	"timing-allow-origin",
	"server",
	"x-powered-by",
	"strict-transport-security",
] as const;

export function setSecurityHeaders({ headers }: Response): void {
	for (const name of NEVER) headers.delete(name);
	for (const [name, value] of ALWAYS) headers.set(name, value);
	for (const [name, value] of UNLESS_SET) if (!headers.has(name)) headers.set(name, value);
}
