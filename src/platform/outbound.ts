/**
 * The one HTTP client for URLs that come from outside. It refuses to be led into this machine or its network:
 * only http and https; a name is resolved once, every address it has is checked, and the connection is made to the
 * checked address (Host header and TLS server name keep the name), so that a second answer of the DNS changes
 * nothing; redirects are followed by hand, each under the same rules, never from https to http.
 * A credential goes to its own origin and not along with a redirect. Bodies come as they were sent (no inflating).
 * It does not retry and does not look at the status of the last answer.
 * The environment's proxy is not used: it would resolve names behind our back.
 */
import { lookup } from "node:dns/promises";
import { rootCertificates } from "node:tls";
import { GswarmError } from "../schema/errors.ts";
import { isAddress } from "./address.ts";
import type { Clock } from "./clock.ts";
import { withDeadline } from "./deadline.ts";
import type { Log } from "./log.ts";
import { addressesOf, checkHost, type Guard, parseOutboundUrl } from "./outbound-guard.ts";
import { requestOnce, type Transport } from "./request-once.ts";

export interface OutboundRequest {
	method?: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
	/** Names in lower case. Only harmless ones (range, accept …) go along to another origin. */
	headers?: Record<string, string>;
	/** `header` is the value of Authorization, sent only while the request has not left `origin`. */
	credential?: { origin: string; header: string } | undefined;
	/** Goes to the first origin alone: a request with a body follows no redirect. */
	body?: Uint8Array | undefined;
	signal: AbortSignal;
	/** For the DNS, and then for each address until its headers are there; default 30 s. */
	connectTimeoutMs?: number;
	/** Default 5. */
	maxRedirects?: number;
}

export interface OutboundAnswer {
	response: Response;
	/** Where the answer came from, after redirects; may hold a signature, so it is not for logs or rows. */
	url: string;
}

export interface Outbound {
	/**
	 * @throws INVALID_REQUEST scheme_not_allowed, bad_url, credentials_in_url; FORBIDDEN address_blocked;
	 * NETWORK_ERROR redirect_blocked, tls_failed, clock_skew, bad_answer; and retryable dns_failed, connect_failed,
	 * reset, timeout. An abort by the caller throws the signal's reason.
	 */
	request(url: string, request: OutboundRequest): Promise<OutboundAnswer>;
	/** What can be refused without the network, for an answer before work is queued. @throws as `request` */
	check(url: string): void;
	/** Whether the agent's own configuration names the URL's origin. */
	isListed(url: string): boolean;
}

export interface OutboundOptions {
	/** Origins of the agent's own configuration, e.g. `http://127.0.0.1:4777`: exempt by exact scheme, host and port. */
	allow: readonly string[];
	/** Addresses of an organisation's own networks are allowed too; loopback and link-local never are. */
	allowPrivate?: boolean;
	/** Addresses of a name. */
	resolve?: (host: string) => Promise<readonly string[]>;
	/** In the place of fetch, with the checked address in the URL. */
	transport?: Transport;
	/** PEM certificates trusted besides the system's. */
	ca?: string;
}

const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** What may be asked again elsewhere. */
const SAFE_METHODS: readonly string[] = ["GET", "HEAD"];
/** What may follow a redirect to another origin. */
const HARMLESS_HEADERS: readonly string[] = ["accept", "if-none-match", "if-range", "range"];

export function createOutbound(
	{ clock, log }: { clock: Clock; log: Log },
	options: OutboundOptions,
): Outbound {
	const allowed = new Set(options.allow.map((origin) => new URL(origin).origin));
	const guard: Guard = {
		isListed: (url) => allowed.has(url.origin),
		allowPrivate: options.allowPrivate ?? false,
		resolve:
			options.resolve ??
			(async (host) => (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address)),
	};
	const line: Line = { clock, log, guard, transport: options.transport, ca: options.ca };
	return {
		check(text) {
			const url = parseOutboundUrl(text);
			if (!guard.isListed(url)) checkHost(url, guard);
		},
		isListed(text) {
			const url = URL.parse(text);
			return url !== null && guard.isListed(url);
		},
		request: async (text, request) => await follow(line, [parseOutboundUrl(text)], request),
	};
}

interface Line {
	clock: Clock;
	log: Log;
	guard: Guard;
	transport: Transport | undefined;
	ca: string | undefined;
}

/** The URLs of one request, newest first. */
type Hops = readonly [URL, ...URL[]];

async function follow(line: Line, hops: Hops, request: OutboundRequest): Promise<OutboundAnswer> {
	const [url] = hops;
	const response = await hop(line, hops, request);
	const location = REDIRECTS.includes(response.status) ? response.headers.get("location") : null;
	if (location === null) return { response, url: url.href };
	await response.body?.cancel();
	const isSafe = request.body === undefined && SAFE_METHODS.includes(request.method ?? "GET");
	const limit = isSafe ? (request.maxRedirects ?? DEFAULT_MAX_REDIRECTS) : 0;
	const next = redirectTarget(hops, location, limit);
	line.log.debug("outbound.redirected", { from: url.origin, to: next.origin });
	return await follow(line, [next, ...hops], request);
}

/** The request at the newest URL: its checked addresses, in the resolver's order, until one takes it. */
async function hop(line: Line, hops: Hops, request: OutboundRequest): Promise<Response> {
	const [url, ...before] = hops;
	const headers = headersFor(url, request, {
		atHome: before.every(({ origin }) => origin === url.origin),
	});
	const timeoutMs = request.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
	let addresses: readonly string[];
	try {
		addresses = await withDeadline(
			line,
			{ limitMs: timeoutMs, host: url.host, signal: request.signal },
			async (limited) => await abortable(addressesOf(url, line.guard), limited),
		);
	} catch (error) {
		// A refusal behind a redirect is the server's fault, not the caller's.
		const refused = error instanceof GswarmError && error.reason === "address_blocked";
		throw refused && before.length > 0 ? blockedRedirect(error.message, url, error) : error;
	}
	let failure: unknown;
	for (const address of addresses) {
		try {
			return await requestOnce(line, atAddress(url, address), {
				method: request.method ?? "GET",
				headers,
				...(request.body === undefined ? {} : { body: request.body }),
				signal: request.signal,
				timeoutMs,
				tls: {
					...(isAddress(url.hostname) ? {} : { serverName: url.hostname }),
					...(line.ca === undefined ? {} : { ca: [...rootCertificates, line.ca] }),
				},
				host: url.host,
			});
		} catch (error) {
			if (!(error instanceof GswarmError) || error.reason !== "connect_failed") throw error;
			failure = error;
		}
	}
	throw failure;
}

/** The DNS of the system cannot be cut off; its answer is left behind when the caller goes. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
	signal.throwIfAborted();
	const { promise: aborted, reject } = Promise.withResolvers<never>();
	const onAbort = (): void => reject(signal.reason);
	signal.addEventListener("abort", onAbort, { once: true });
	try {
		return await Promise.race([work, aborted]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}

function atAddress(url: URL, address: string): string {
	const target = new URL(url);
	if (address !== url.hostname) target.hostname = address.includes(":") ? `[${address}]` : address;
	return target.href;
}

/** `atHome`: the request has not left the origin it began at. */
function headersFor(
	url: URL,
	request: OutboundRequest,
	{ atHome }: { atHome: boolean },
): Record<string, string> {
	const own = Object.entries(request.headers ?? {}).filter(
		([name]) => atHome || HARMLESS_HEADERS.includes(name),
	);
	const { credential } = request;
	const authorized = atHome && credential !== undefined && new URL(credential.origin).origin === url.origin;
	return {
		...Object.fromEntries(own),
		host: url.host,
		...(authorized ? { authorization: credential.header } : {}),
	};
}

function redirectTarget(hops: Hops, location: string, limit: number): URL {
	const [from] = hops;
	let to: URL;
	try {
		to = parseOutboundUrl(new URL(location, from).href);
	} catch (error) {
		throw blockedRedirect("Its address is not one we fetch.", from, error);
	}
	const refuse = (problem: string): GswarmError => blockedRedirect(problem, to);
	if (hops.length > limit) throw refuse(`There are more than ${limit} redirects.`);
	if (hops.some(({ href }) => href === to.href)) throw refuse("The redirects go in a circle.");
	if (from.protocol === "https:" && to.protocol === "http:") throw refuse("It leads from https to http.");
	return to;
}

function blockedRedirect(problem: string, to: URL, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `A redirect to ${to.host} was not followed. ${problem}`, {
		reason: "redirect_blocked",
		details: { host: to.host },
		cause,
	});
}
