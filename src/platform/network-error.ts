/** What a failed request means: whether it may succeed later, and why it failed, in our words. */
import { GswarmError } from "../schema/errors.ts";

interface Meaning {
	reason: string;
	retryable: boolean;
}

const CONNECT: Meaning = { reason: "connect_failed", retryable: true };
const RESET: Meaning = { reason: "reset", retryable: true };
const TIMEOUT: Meaning = { reason: "timeout", retryable: true };
const CLOCK: Meaning = { reason: "clock_skew", retryable: false };
const TLS: Meaning = { reason: "tls_failed", retryable: false };
const ANSWER: Meaning = { reason: "bad_answer", retryable: false };
const UNKNOWN: Meaning = { reason: "network_failed", retryable: true };

/** Codes of Bun 1.4's fetch and of the system. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
	ECONNREFUSED: CONNECT,
	EHOSTUNREACH: CONNECT,
	ENETUNREACH: CONNECT,
	EADDRNOTAVAIL: CONNECT,
	EAFNOSUPPORT: CONNECT,
	ConnectionRefused: CONNECT,
	FailedToOpenSocket: CONNECT,
	ECONNRESET: RESET,
	EPIPE: RESET,
	ConnectionClosed: RESET,
	ETIMEDOUT: TIMEOUT,
	Timeout: TIMEOUT,
	CERT_HAS_EXPIRED: CLOCK,
	CERT_NOT_YET_VALID: CLOCK,
	InvalidContentLength: ANSWER,
	ResponseHeadersTooLarge: ANSWER,
	InvalidHTTPResponse: ANSWER,
};
const TLS_CODE = /CERT|TLS|SSL|ISSUER|SIGNATURE|CRL/i;

/**
 * The error of a request to `host` as NETWORK_ERROR: connect_failed, reset, timeout, network_failed (retryable),
 * tls_failed, clock_skew, bad_answer. Aborts are the caller's to tell apart.
 */
export function networkError(error: unknown, host: string): GswarmError {
	const code = errorCode(error);
	const { reason, retryable } = MEANINGS[code] ?? (TLS_CODE.test(code) ? TLS : UNKNOWN);
	return new GswarmError("NETWORK_ERROR", `The request to ${host} failed: ${code}.`, {
		reason,
		details: { host, cause: code },
		retryable,
		...(reason === "clock_skew"
			? {
					hint: "Its certificate is not valid now: check this machine's date, then the server's certificate.",
				}
			: {}),
		cause: error,
	});
}

/** No answer in time. */
export function timeoutError(host: string, timeoutMs: number, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `${host} did not answer within ${timeoutMs / 1000} s.`, {
		reason: "timeout",
		details: { host },
		retryable: true,
		cause,
	});
}

function errorCode(error: unknown): string {
	const code = error instanceof Error && "code" in error ? error.code : undefined;
	return typeof code === "string" ? code : "unknown cause";
}
