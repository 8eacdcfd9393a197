/**
 * One request to one upstream: bytes through, no stream buffered, cancelled there when the caller leaves or time is up.
 */
import type { Clock } from "../../platform/clock.ts";
import { endingBody } from "../../platform/ending-body.ts";
import { fetchDirectly } from "../../platform/fetch-directly.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Load } from "./load.ts";
import { answerHeaders, upstreamHeaders } from "./proxy-headers.ts";
import type { Upstream } from "./upstream.ts";

export interface Call {
	request: Request;
	/** Path and query, checked by the gateway. */
	target: string;
	body: Uint8Array<ArrayBuffer>;
}

/** Nothing was sent: no connection came about, so the request may go to another upstream. */
export class NotConnected extends Error {
	override readonly name = "NotConnected";
}

/**
 * The upstream's answer with its body still on the way. `load` counts the request until its last byte.
 * @throws NotConnected; NETWORK_ERROR upstream_failed, upstream_timeout; the caller's own abort
 */
export async function forward(
	{ clock }: { clock: Clock },
	call: Call,
	upstream: Upstream,
	load: Load,
): Promise<Response> {
	const { request, target, body } = call;
	const cancel = new AbortController();
	const done = new AbortController();
	const countOut = load.begin();
	const finish = (): void => {
		countOut();
		done.abort();
		request.signal.removeEventListener("abort", onGone);
	};
	const onGone = (): void => {
		cancel.abort(request.signal.reason);
		finish();
	};
	request.signal.addEventListener("abort", onGone, { once: true });
	const watchTime = async (): Promise<void> => {
		await clock.sleep(upstream.timeoutMs, done.signal);
		if (done.signal.aborted) return;
		cancel.abort(timedOut(upstream));
		// Also when nobody reads the answer any more.
		finish();
	};
	void watchTime();
	try {
		request.signal.throwIfAborted();
		const response = await fetchDirectly(`${upstream.baseUrl}${target}`, {
			method: request.method,
			headers: upstreamHeaders(request.headers, { [HOP_HEADER]: "1", ...upstream.authorize?.() }),
			body,
			signal: cancel.signal,
			redirect: "manual",
			// Explicit, because NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would let everybody in.
			...(upstream.tls === undefined ? {} : { tls: { ...upstream.tls, rejectUnauthorized: true } }),
		});
		if (response.status >= 300 && response.status < 400) {
			await response.body?.cancel();
			throw failed(upstream, `it answered with a redirect (${response.status})`);
		}
		const lengthBytes = Number(response.headers.get("content-length") ?? Number.POSITIVE_INFINITY);
		if (response.body === null || lengthBytes > SMALL_BYTES) return pass(response, cancel, finish);
		const whole = await response.arrayBuffer();
		finish();
		return new Response(whole, answerInit(response));
	} catch (error) {
		finish();
		if (cancel.signal.aborted) throw cancel.signal.reason;
		if (error instanceof GswarmError) throw error;
		const { code } = error as NodeJS.ErrnoException;
		if (code !== undefined && (CONNECT_FAILURES.has(code) || NOT_PROVEN.test(code)))
			throw new NotConnected(code, { cause: error });
		throw failed(upstream, code ?? "the connection failed", error);
	}
}

/** Says that another agent's gateway sent this, which then looks no further than its own engines. */
export const HOP_HEADER = "x-gswarm-hop";

/** Codes of fetch that mean that no byte of the request has left. */
const CONNECT_FAILURES: ReadonlySet<string> = new Set([
	"ConnectionRefused",
	"ECONNREFUSED",
	"EHOSTUNREACH",
	"ENETUNREACH",
	"FailedToOpenSocket",
]);

/** Who answered is not who it should be (TLS); then nothing was sent either. */
const NOT_PROVEN = /CERT|TLS|SSL|ISSUER|SIGNATURE/;

/** An answer of a known length up to this is taken whole, which costs less than a stream; an event stream has none. */
const SMALL_BYTES = 64 << 10;

function answerInit(response: Response): ResponseInit {
	return { status: response.status, headers: answerHeaders(response.headers) };
}

function pass(response: Response, cancel: AbortController, finish: () => void): Response {
	const init = answerInit(response);
	if (response.body === null) {
		finish();
		return new Response(null, init);
	}
	const body = endingBody(response.body, {
		end: finish,
		cancel(reason) {
			cancel.abort(reason);
			finish();
		},
	});
	return new Response(body, init);
}

function failed(upstream: Upstream, why: string, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `The request to ${upstream.key} failed: ${why}.`, {
		reason: "upstream_failed",
		retryable: true,
		cause,
	});
}

function timedOut(upstream: Upstream): GswarmError {
	return new GswarmError(
		"NETWORK_ERROR",
		`${upstream.key} did not finish within ${upstream.timeoutMs / 1000} s, the service's timeout.`,
		{ reason: "upstream_timeout", status: 504 },
	);
}
