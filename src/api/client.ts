/**
 * The typed caller of the contract, used by the CLI, by the host calling nodes and by nodes calling the host.
 * It needs of the contract only types and the generated table of methods and paths, so that a command starts fast.
 */
import { createFetch } from "ofetch";
import { type ErrorBody, GswarmError } from "../schema/errors.ts";
import type { Contract, RouteId } from "./contract.ts";
import type { AnswerOf, InputOf } from "./route.ts";
import { ROUTES } from "./table.gen.ts";

export interface ApiClient {
	readonly baseUrl: string;
	/** Calls a route and returns its JSON answer. @throws GswarmError as the server said it, or NETWORK_ERROR */
	call<I extends RouteId>(id: I, input: InputOf<Contract[I]>): Promise<AnswerOf<Contract[I]>>;
	/** Calls a route and returns the Response of a good status, for text, bytes and streams. */
	open<I extends RouteId>(id: I, input: InputOf<Contract[I]>): Promise<Response>;
}

export interface ApiClientOptions {
	baseUrl: string;
	/** The bearer of the next request; undefined sends none. */
	token: () => string | undefined;
	/** Whom to meet on https; left out: who the system trusts, under the name in the URL. */
	tls?: ClientTls | undefined;
	/** In the place of fetch; `init` has what a Request does not carry. Tests pass `app.fetch` and open no socket. */
	send?: (request: Request, init: { tls: Bun.TLSOptions }) => Promise<Response>;
	timeoutMs?: number;
}

export interface ClientTls {
	/** PEM; trusted instead of the system's authorities. */
	ca?: string;
	/** The name in the certificate, where it is not the host of the URL. */
	serverName?: string;
}

interface LooseInput {
	params?: Record<string, string>;
	query?: Record<string, unknown>;
	body?: unknown;
	signal?: AbortSignal;
	hasLongBody?: boolean;
	headers?: Record<string, string>;
	rawBody?: Uint8Array<ArrayBuffer>;
}

export function createApiClient({
	baseUrl,
	token,
	tls = {},
	send = fetch,
	timeoutMs = 30_000,
}: ApiClientOptions): ApiClient {
	// Explicit, because NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would let everybody in.
	const more = { tls: { ...tls, rejectUnauthorized: true } };
	const transport = createFetch({
		fetch: ((input: string | URL | Request, init?: RequestInit) =>
			send(input instanceof Request ? input : new Request(String(input), init), more)) as typeof fetch,
	});
	const request = async (id: RouteId, input: LooseInput): Promise<Response> => {
		const [method, template] = ROUTES[id];
		const path = template.replace(/\{(\w+)\}/g, (_all, key: string) =>
			encodeURIComponent(input.params?.[key] ?? ""),
		);
		const bearer = token();
		const limit = limitOf(timeoutMs, input.hasLongBody === true);
		const timeout = limit.signal;
		try {
			const options: Parameters<typeof transport.raw>[1] = {
				method,
				retry: 0,
				ignoreResponseError: true,
				responseType: "stream",
				redirect: "manual",
				signal: input.signal === undefined ? timeout : AbortSignal.any([input.signal, timeout]),
				headers: {
					...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
					...(input.rawBody === undefined ? {} : { "content-type": "application/octet-stream" }),
					...input.headers,
				},
			};
			if (input.query !== undefined) options.query = input.query;
			if (input.body !== undefined) options.body = input.body as Record<string, unknown>;
			if (input.rawBody !== undefined) options.body = input.rawBody;
			const response = await transport.raw(`${baseUrl}${path}`, options);
			limit.answered();
			return response;
		} catch (error) {
			if (input.signal?.aborted === true) throw error;
			throw networkError(baseUrl, error, timeout.aborted);
		}
	};
	const open = async (id: RouteId, input: LooseInput): Promise<Response> => {
		const response = await request(id, input);
		if (!response.ok) throw await errorOf(response, baseUrl);
		return response;
	};
	return {
		baseUrl,
		open: (id, input) => open(id, input as LooseInput),
		call: async <I extends RouteId>(id: I, input: InputOf<Contract[I]>) => {
			const response = await open(id, input as LooseInput);
			try {
				return (await response.json()) as AnswerOf<Contract[I]>;
			} catch (error) {
				throw networkError(baseUrl, error, false);
			}
		},
	};
}

/** Of the whole answer, or of the wait for its headers alone. */
function limitOf(timeoutMs: number, hasLongBody: boolean): { signal: AbortSignal; answered(): void } {
	if (!hasLongBody) return { signal: AbortSignal.timeout(timeoutMs), answered: () => {} };
	const controller = new AbortController();
	const late = AbortSignal.timeout(timeoutMs);
	const giveUp = (): void => controller.abort(late.reason);
	late.addEventListener("abort", giveUp, { once: true });
	return { signal: controller.signal, answered: () => late.removeEventListener("abort", giveUp) };
}

function networkError(baseUrl: string, cause: unknown, timedOut: boolean): GswarmError {
	const code = timedOut ? "" : codeOf(cause);
	if (NOT_PROVEN.test(code)) {
		const isDate = code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID";
		return new GswarmError("NETWORK_ERROR", `${baseUrl} does not prove who it is: ${code}.`, {
			reason: isDate ? "clock_skew" : "tls_failed",
			details: { url: baseUrl, cause: code },
			hint: isDate
				? "Its certificate is not valid now: check this machine's date, then the agent there."
				: "Its certificate is of another cluster or for another name; nothing was sent to it.",
			cause,
		});
	}
	// A port of TLS closes what is not TLS without a word.
	if (baseUrl.startsWith("http:") && code === "ECONNRESET") {
		return new GswarmError("NETWORK_ERROR", `${baseUrl} closed the connection.`, {
			reason: "connect_failed",
			details: { url: baseUrl },
			hint: `If that port speaks TLS, it is ${baseUrl.replace("http:", "https:")}.`,
			retryable: true,
			cause,
		});
	}
	const refused =
		cause instanceof Error &&
		/refused|unable to connect|ECONNREFUSED/i.test(`${cause.message} ${String(cause.cause)}`);
	return new GswarmError(
		"NETWORK_ERROR",
		timedOut ? `${baseUrl} did not answer in time.` : `Cannot reach ${baseUrl}.`,
		{
			reason: timedOut ? "timeout" : refused ? "connect_refused" : "connect_failed",
			details: { url: baseUrl },
			hint: "Is the agent running there, and is that its port? `gswarm agent` starts one on this machine.",
			retryable: true,
			cause,
		},
	);
}

/** Codes of Bun's fetch that mean that the other side is not who it should be. */
const NOT_PROVEN = /CERT|TLS|SSL|ISSUER|SIGNATURE|CRL/;

/** ofetch wraps what fetch threw. */
function codeOf(error: unknown): string {
	const thrown = error instanceof Error && error.cause instanceof Error ? error.cause : error;
	return thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
}

async function errorOf(response: Response, baseUrl: string): Promise<GswarmError> {
	const retryAfter = Number(response.headers.get("retry-after") ?? Number.NaN);
	const extra = Number.isFinite(retryAfter) ? { retryAfterS: retryAfter } : {};
	const retryable = response.status >= 500 || response.status === 429 || response.status === 408;
	const text = await response.text();
	try {
		const { error } = JSON.parse(text) as ErrorBody;
		const { reason, hint, ...details } = error.details;
		return new GswarmError(error.code, error.message, {
			details,
			status: response.status,
			retryable,
			...extra,
			...(typeof reason === "string" ? { reason } : {}),
			...(typeof hint === "string" ? { hint } : {}),
		});
	} catch {
		return new GswarmError("NETWORK_ERROR", `${baseUrl} answered ${response.status} without an error body.`, {
			reason: "unexpected_answer",
			details: { status: response.status },
			status: response.status,
			retryable,
			...extra,
		});
	}
}
