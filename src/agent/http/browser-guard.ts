/**
 * Loopback is not a boundary: any web page can make a browser call it. Only names of this agent are accepted as
 * Host (DNS rebinding), and only its own pages as Origin.
 */
import { GswarmError } from "../../schema/errors.ts";

/** @throws 403 host_not_allowed, origin_not_allowed */
export function checkBrowser(headers: Headers, known: ReadonlySet<string>): void {
	const host = headers.get("host")?.toLowerCase() ?? "";
	if (!known.has(host)) {
		throw new GswarmError("FORBIDDEN", "The Host header does not name this agent.", {
			reason: "host_not_allowed",
			hint: "Call the agent by the address that `gswarm agent` printed.",
		});
	}
	const origin = headers.get("origin");
	const site = headers.get("sec-fetch-site");
	const foreignOrigin = origin !== null && origin !== `http://${host}` && origin !== `https://${host}`;
	const foreignSite = site !== null && site !== "same-origin" && site !== "none";
	if (foreignOrigin || foreignSite) {
		throw new GswarmError("FORBIDDEN", "Requests of other sites' pages are refused.", {
			reason: "origin_not_allowed",
		});
	}
}

/** Every `host[:port]` under which a listener may be called. */
export function allowedHosts(names: readonly string[], port: number): ReadonlySet<string> {
	const all = ["127.0.0.1", "localhost", "[::1]", ...names].map((name) => name.toLowerCase());
	return new Set(all.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`])));
}
