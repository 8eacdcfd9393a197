/** Which headers go along with a proxied request and its answer. Pure. Source: RFC 9110, section 7.6.1. */

/** They belong to one connection, or are made anew for the next. */
const HOP_BY_HOP = [
	"connection",
	"keep-alive",
	"proxy-authenticate",
	"proxy-authorization",
	"proxy-connection",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
	"host",
	"content-length",
	"expect",
];

/** Who the caller is and how it came here is for the agent to know, not for an engine. */
const CALLER = ["authorization", "cookie", "api-key", "x-api-key", "forwarded", "origin", "referer"];
const CALLER_PREFIXES = ["x-forwarded-", "x-gswarm-", "sec-", "cf-"];

/** What only the agent may tell the caller, or what would name the engine's own address. */
const UPSTREAM = [
	"set-cookie",
	"server",
	"x-powered-by",
	"alt-svc",
	"strict-transport-security",
	"location",
	"date",
];
const UPSTREAM_PREFIXES = ["access-control-", "x-gswarm-"];

/** Headers for the upstream: the caller's without its credentials, and `added`, which wins. */
export function upstreamHeaders(caller: Headers, added: Readonly<Record<string, string>>): Headers {
	const headers = without(caller, [...HOP_BY_HOP, ...CALLER], CALLER_PREFIXES);
	// Otherwise fetch would offer encodings of its own, and the caller would get what it did not ask for.
	if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
	for (const [name, value] of Object.entries(added)) headers.set(name, value);
	return headers;
}

/** Headers for the caller. */
export function answerHeaders(upstream: Headers): Headers {
	return without(upstream, [...HOP_BY_HOP, ...UPSTREAM], UPSTREAM_PREFIXES);
}

function without(from: Headers, names: readonly string[], prefixes: readonly string[]): Headers {
	const headers = new Headers(from);
	// What Connection names is hop-by-hop too.
	const named = (from.get("connection") ?? "").split(",").map((name) => name.trim().toLowerCase());
	const isDropped = (name: string): boolean =>
		names.includes(name) || named.includes(name) || prefixes.some((prefix) => name.startsWith(prefix));
	for (const name of [...headers.keys()].filter(isDropped)) headers.delete(name);
	return headers;
}
