/**
 * What stands in front of everything that listens, in this order: limits → who is at the other end → Host and Origin →
 * authentication → what is behind the door (role, parameters, schema, handler) → error mapper → headers of every
 * answer → audit and log. A listener without this door is a defect.
 */
import type { Audit, Caller, Identity } from "../../core/identity/identity.ts";
import { type AddressRange, parseAddressRange } from "../../platform/address-range.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import { MAX_BEARER_CHARACTERS, MAX_REQUEST_ID_CHARACTERS, MAX_URL_BYTES } from "../../platform/limits.ts";
import { type Log, silentLog } from "../../platform/log.ts";
import { redactSecrets } from "../../platform/redact.ts";
import { GswarmError, asGswarmError } from "../../schema/errors.ts";
import { type Attempts, createAttempts } from "./attempts.ts";
import { type AuditTrace, emptyTrace } from "./audit-trace.ts";
import { checkBrowser } from "./browser-guard.ts";
import { clientOf } from "./client.ts";
import { errorResponse } from "./errors.ts";
import { rawPath } from "./path.ts";
import type { Connection } from "./patience.ts";
import type { Sender } from "./rights.ts";
import { setSecurityHeaders } from "./security-headers.ts";

export interface DoorDependencies {
	identity: Identity;
	clock: Clock;
	ids: Ids;
	log?: Log | undefined;
	/** Every Host that this listener answers to. */
	allowedHosts: () => ReadonlySet<string>;
	/** Addresses and ranges of proxies whose X-Forwarded headers count. */
	trustedProxies?: readonly string[] | undefined;
	/** One for all listeners of an agent, so that a guesser has no more tries than on one. */
	attempts?: Attempts | undefined;
	/** Where it is noted who did what. */
	audit?: Pick<Audit, "record"> | undefined;
}

/** A request that was let in. */
export interface Visit extends Sender {
	/** Of the client: the other end of the connection, or what a trusted proxy says. */
	address: string;
	requestId: string;
	attempts: Attempts;
	trace: AuditTrace;
	/** Undefined where there is none, as in tests. */
	connection: Connection | undefined;
}

/** Answers a request; `address` is the IP address at the other end of the connection. */
export type Door = (request: Request, address: string, connection?: Connection) => Promise<Response>;

export interface DoorOptions {
	/** As it stands in log and audit: host, node, peer, service. */
	listener: string;
	/** Errors in the form that OpenAI's clients read. */
	isOpenAi: (path: string) => boolean;
	enter: (request: Request, visit: Visit) => Promise<Response> | Response;
}

export function createDoor(dependencies: DoorDependencies, { listener, isOpenAi, enter }: DoorOptions): Door {
	const { identity, clock, ids, log = silentLog, audit } = dependencies;
	const attempts = dependencies.attempts ?? createAttempts({ clock });
	const proxies = (dependencies.trustedProxies ?? []).map(rangeOf);

	return async (request, peer, connection) => {
		const startedMs = clock.monotonicMs();
		const { method, headers } = request;
		const path = rawPath(request.url);
		const requestId = requestIdOf(headers, ids);
		const trace = emptyTrace();
		let address = peer;
		let response: Response;
		let reason: string | undefined;
		let caller: Caller | undefined;
		let bearer: string | undefined;
		try {
			checkUrl(request.url);
			const client = clientOf(request, peer, proxies);
			({ address } = client);
			checkBrowser(headers, client, dependencies.allowedHosts());
			bearer = bearerOf(headers);
			caller = bearer === undefined ? undefined : identity.authenticate(bearer);
			response = await enter(request, { address, requestId, caller, bearer, attempts, trace, connection });
		} catch (thrown) {
			let error = asGswarmError(thrown);
			const isGuess = caller === undefined && (bearer !== undefined || error.reason === "join_refused");
			if (error.status === 401 && isGuess) error = attempts.failedLogin(address) ?? error;
			({ reason } = error);
			if (error.code === "INTERNAL_ERROR")
				log.error("http.internal_error", { request_id: requestId, error: thrown });
			response = errorResponse(error, { requestId, nowMs: clock.nowMs(), openAi: isOpenAi(path) });
		}
		setSecurityHeaders(response);
		response.headers.set("x-request-id", requestId);
		const { status } = response;
		const tried = bearer !== undefined;
		audit?.record({ listener, ...trace, method, caller, tried, status, reason, address, requestId });
		log.debug("http.request", {
			listener,
			method,
			path,
			status,
			ms: Math.round((clock.monotonicMs() - startedMs) * 10) / 10,
			request_id: requestId,
			caller: caller?.id,
		});
		return response;
	};
}

const BEARER = new RegExp(`^Bearer ([\\x21-\\x7e]{1,${MAX_BEARER_CHARACTERS}})$`, "i");
const REQUEST_ID = new RegExp(`^[A-Za-z0-9._-]{1,${MAX_REQUEST_ID_CHARACTERS}}$`);

/** The bearer of a request; undefined when there is none or it is malformed. */
function bearerOf(headers: Headers): string | undefined {
	return BEARER.exec(headers.get("authorization") ?? "")?.[1];
}

function requestIdOf(headers: Headers, ids: Ids): string {
	const given = headers.get("x-request-id");
	// It is logged and kept: a token that somebody sends as one is not taken.
	const isId = given !== null && REQUEST_ID.test(given) && redactSecrets(given) === given;
	return isId ? given : `req-${ids.short(12)}`;
}

/** @throws 414 url_too_long */
function checkUrl(url: string): void {
	if (url.length <= MAX_URL_BYTES) return;
	throw new GswarmError("INVALID_REQUEST", `The address is longer than ${MAX_URL_BYTES} characters.`, {
		reason: "url_too_long",
		status: 414,
		details: { limit: MAX_URL_BYTES },
	});
}

/** The configuration has been checked; anything else is a mistake of ours. */
function rangeOf(text: string): AddressRange {
	const range = parseAddressRange(text);
	if (range === undefined) throw new Error(`${text} is neither an address nor a range`);
	return range;
}
