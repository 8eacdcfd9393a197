/**
 * One request, one answer: no redirects followed, certificates always checked, a limit on the wait for headers, errors
 * in our words.
 */
import type { Clock } from "./clock.ts";
import { fetchDirectly } from "./fetch-directly.ts";
import { networkError, timeoutError } from "./network-error.ts";

/** fetchDirectly, or what a test puts in its place. */
export type Transport = (url: string, init: BunFetchRequestInit) => Promise<Response>;

export interface SingleRequest {
	method: "GET" | "HEAD";
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
	{ method, headers, signal, timeoutMs, tls = {}, host = new URL(url).host }: SingleRequest,
): Promise<Response> {
	signal.throwIfAborted();
	const answered = new AbortController();
	const tooLong = new AbortController();
	const giveUp = async (): Promise<void> => {
		await clock.sleep(timeoutMs, answered.signal);
		if (!answered.signal.aborted) tooLong.abort();
	};
	void giveUp();
	try {
		return await transport(url, {
			method,
			headers: { "user-agent": "gswarm", "accept-encoding": "identity", ...headers },
			redirect: "manual",
			signal: AbortSignal.any([signal, tooLong.signal]),
			tls: { ...tls, rejectUnauthorized: true },
		});
	} catch (error) {
		signal.throwIfAborted();
		throw tooLong.signal.aborted ? timeoutError(host, timeoutMs, error) : networkError(error, host);
	} finally {
		answered.abort();
	}
}
