/**
 * One request, one answer: no redirects followed, certificates always checked, a limit on the wait for headers, errors
 * in our words.
 */
import type { Clock } from "./clock.ts";
import { withDeadline } from "./deadline.ts";
import { fetchDirectly } from "./fetch-directly.ts";
import { networkError } from "./network-error.ts";

/** fetchDirectly, or what a test puts in its place. */
export type Transport = (url: string, init: BunFetchRequestInit) => Promise<Response>;

export interface SingleRequest {
	method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
	body?: Uint8Array;
	headers: Record<string, string>;
	signal: AbortSignal;
	/** Until the headers are there; the body has no limit. */
	timeoutMs: number;
	tls?: { ca?: string | string[]; serverName?: string };
	/** How errors name the other side; default: the URL's host. */
	host?: string;
}

/** @throws NETWORK_ERROR as networkError says; an abort by the caller throws the signal's reason. */
export async function requestOnce(
	{ clock, transport = fetchDirectly }: { clock: Clock; transport?: Transport | undefined },
	url: string,
	{ method, headers, body, signal, timeoutMs, tls = {}, host = new URL(url).host }: SingleRequest,
): Promise<Response> {
	return await withDeadline({ clock }, { limitMs: timeoutMs, host, signal }, async (limited) => {
		try {
			return await transport(url, {
				method,
				headers: { "user-agent": "gswarm", "accept-encoding": "identity", ...headers },
				...(body === undefined ? {} : { body }),
				redirect: "manual",
				signal: limited,
				tls: { ...tls, rejectUnauthorized: true },
			});
		} catch (error) {
			throw networkError(error, host);
		}
	});
}
