/**
 * Loopback is not a boundary: any web page can make a browser call it. Only names of this agent are accepted as
 * Host (DNS rebinding), and only its own pages as Origin.
 */
import { GswarmError } from "../../schema/errors.ts";
import type { Client } from "./client.ts";

/** @throws 403 host_not_allowed, origin_not_allowed */
export function checkBrowser(headers: Headers, client: Client, known: ReadonlySet<string>): void {
	const { host, scheme, isProxied } = client;
	const own = headers.get("host")?.toLowerCase() ?? "";
	const isKnown = isProxied
		? isNamed(host, known) && isNamed(own, known)
		: // Two Host headers arrive as one with a comma, which is in no list.
			known.has(own);
	if (!isKnown) {
		throw new GswarmError("FORBIDDEN", "The Host header does not name this agent.", {
			reason: "host_not_allowed",
			hint: "Call the agent by the address that `gswarm agent` printed, or give it the name with --advertise.",
		});
	}
	const origin = headers.get("origin");
	const site = headers.get("sec-fetch-site");
	const foreignOrigin = origin !== null && origin !== `${scheme}://${host}`;
	const foreignSite = site !== null && site !== "same-origin" && site !== "none";
	if (foreignOrigin || foreignSite) {
		throw new GswarmError("FORBIDDEN", "Requests of other sites' pages are refused.", {
			reason: "origin_not_allowed",
		});
	}
}

/** Ports that clients leave out of the Host header, over HTTP and over TLS. */
const UNSAID_PORTS: readonly number[] = [80, 443];

/** Every `host[:port]` under which a listener may be called. */
export function allowedHosts(names: readonly string[], port: number): ReadonlySet<string> {
	const all = ["127.0.0.1", "localhost", "[::1]", ...names].map((name) => name.toLowerCase());
	const isUnsaid = UNSAID_PORTS.includes(port);
	return new Set(all.flatMap((name) => [...(isUnsaid ? [name] : []), `${name}:${port}`]));
}

/** Whether it is a name of ours with whatever port. */
function isNamed(host: string, known: ReadonlySet<string>): boolean {
	const name = nameOf(host);
	if (name === undefined) return false;
	for (const entry of known) if (nameOf(entry) === name) return true;
	return false;
}

function nameOf(host: string): string | undefined {
	return /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?$/.exec(host)?.[1];
}
