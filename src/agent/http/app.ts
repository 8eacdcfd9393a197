/**
 * A listener's app, built from the contract: one middleware in front of every route, in this order: size and
 * method → Host and Origin → authentication → role → parameters and schema → handler → error mapper.
 * A route of the contract without a handler, or a handler without a route, does not type-check.
 */
import { Hono } from "hono";
import { z } from "zod";
import { type Contract, type RouteId, contract } from "../../api/contract.ts";
import type { AnswerOf, BodyOf, Listener, ParamsOf, QueryOf, Route } from "../../api/route.ts";
import { type Caller, type Identity, allows } from "../../core/identity/identity.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { MAX_JSON_BYTES, parseJson, readBounded } from "../../platform/safe-json.ts";
import { parseDevice } from "../../schema/device.ts";
import { GswarmError, asGswarmError, invalid } from "../../schema/errors.ts";
import { parseModelName, parseServiceId, parseTaskId } from "../../schema/names.ts";
import { checkBrowser } from "./browser-guard.ts";
import { errorResponse, validationError } from "./errors.ts";
import { createFailedLogins } from "./failed-logins.ts";
import { canonicalPath, rawPath } from "./path.ts";

/** What a handler gets; parameters, query and body are checked. */
export interface Call<R extends Route> {
	params: ParamsOf<R>;
	query: QueryOf<R>;
	body: BodyOf<R>;
	request: Request;
	/** Undefined only on routes that need no token. */
	caller: Caller | undefined;
	bearer: string | undefined;
	/** Of the other end of the connection. */
	address: string;
	requestId: string;
}

/** The JSON answer of a route, or a Response where the route has no schema. A second value overrides headers. */
export type Handler<R extends Route> = (call: Call<R>) => Promise<AnswerOf<R>> | AnswerOf<R>;

/** The routes that a listener answers. */
export type RoutesOf<L extends Listener> = {
	[I in RouteId]: L extends Contract[I]["on"][number] ? I : never;
}[RouteId];

export type Handlers<L extends Listener> = { [I in RoutesOf<L>]: Handler<Contract[I]> };

export interface AppDependencies {
	identity: Identity;
	clock: Clock;
	ids: Ids;
	log: Log;
	allowedHosts: () => ReadonlySet<string>;
}

/** Answers a request; `address` is the other end's IP address. */
export type App = (request: Request, address: string) => Promise<Response>;

interface Env {
	Bindings: { address: string; requestId: string; caller: Caller | undefined; bearer: string | undefined };
}

const NO_QUERY = z.strictObject({});

type LooseHandler = (call: Call<Route>) => unknown;

/** One validator per parameter name; a parameter without one stops the agent from starting. */
const PARAMETERS: Record<string, (text: string) => unknown> = {
	model_name: parseModelName,
	task_id: parseTaskId,
	service_id: parseServiceId,
	device: parseDevice,
	content_id: (text) => {
		if (!/^[0-9a-f]{64}$/.test(text))
			throw invalid("bad_content_id", "A content id is 64 hex digits.", { field: "content_id" });
	},
	file_index: (text) => {
		if (!/^\d{1,7}$/.test(text))
			throw invalid("bad_file_index", "A file index is a number.", { field: "file_index" });
	},
};

export function createApp<L extends Listener>(
	listener: L,
	handlers: Handlers<L>,
	dependencies: AppDependencies,
): App {
	const { clock, ids, log } = dependencies;
	const hono = new Hono<Env>({ getPath: (request) => canonicalPath(rawPath(request.url)) });
	const failedLogins = createFailedLogins({ clock });
	const methodsByPath = new Map<string, string[]>();
	const loose = handlers as unknown as Record<string, LooseHandler | undefined>;

	for (const [id, route] of Object.entries(contract) as [RouteId, Route][]) {
		if (!route.on.includes(listener)) continue;
		const handler = loose[id];
		if (handler === undefined) throw new Error(`the ${listener} listener has no handler for ${id}`);
		const names = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
		for (const name of names) {
			if (PARAMETERS[name] === undefined) throw new Error(`no validator for the parameter ${name} of ${id}`);
		}
		const pattern = route.path.replaceAll(/\{(\w+)\}/g, ":$1");
		methodsByPath.set(pattern, [...(methodsByPath.get(pattern) ?? []), route.method]);
		hono.on(route.method, pattern, async (c) => {
			const { caller, bearer, address, requestId } = c.env;
			requireRole(route, caller);
			const params: Record<string, string> = {};
			for (const name of names) {
				const text = c.req.param(name) ?? "";
				PARAMETERS[name]?.(text);
				params[name] = text;
			}
			const query = parseQuery(route, new URL(c.req.url).searchParams);
			const body = route.body === undefined ? undefined : await parseBody(route, c.req.raw);
			const call = {
				params,
				query,
				body,
				request: c.req.raw,
				caller,
				bearer,
				address,
				requestId,
			} as Call<Route>;
			const answer = await handler(call);
			if (answer instanceof Response) return answer;
			return Response.json(answer, { status: route.status, headers: locationHeader(route, answer) });
		});
	}
	for (const [pattern, methods] of methodsByPath) {
		const allow = methods.includes("GET") ? [...methods, "HEAD"].join(", ") : methods.join(", ");
		hono.all(pattern, (c) => {
			requireCaller(c.env.caller);
			throw new GswarmError("INVALID_REQUEST", `${c.req.method} is not possible here; ${allow} is.`, {
				reason: "method_not_allowed",
				status: 405,
				details: { allow },
			});
		});
	}
	hono.notFound((c) => {
		requireCaller(c.env.caller);
		throw new GswarmError(
			"NOT_FOUND",
			`There is no route ${c.req.method} ${rawPath(c.req.url).slice(0, 200)}.`,
			{
				reason: "no_such_route",
				hint: "GET /api/v1/openapi.json lists the routes.",
			},
		);
	});
	hono.onError((error) => {
		throw error;
	});

	return async (request, address) => {
		const requestId = requestIdOf(request, ids);
		const startedMs = clock.monotonicMs();
		const path = rawPath(request.url);
		let response: Response;
		let caller: Caller | undefined;
		let bearer: string | undefined;
		try {
			checkBrowser(request.headers, dependencies.allowedHosts());
			bearer = bearerOf(request.headers);
			caller = bearer === undefined ? undefined : dependencies.identity.authenticate(bearer);
			response = await hono.fetch(request, { address, requestId, caller, bearer });
			if (!response.headers.has("x-request-id")) response.headers.set("x-request-id", requestId);
		} catch (thrown) {
			let error = asGswarmError(thrown);
			const guessed = caller === undefined && (bearer !== undefined || error.reason === "join_refused");
			if (error.status === 401 && guessed) error = failedLogins.count(address) ?? error;
			if (error.code === "INTERNAL_ERROR")
				log.error("http.internal_error", { request_id: requestId, error: thrown });
			response = errorResponse(error, { requestId, nowMs: clock.nowMs(), openAi: path.startsWith("/v1/") });
		}
		log.debug("http.request", {
			listener,
			method: request.method,
			path,
			status: response.status,
			ms: Math.round((clock.monotonicMs() - startedMs) * 10) / 10,
			request_id: requestId,
			caller: caller?.id,
		});
		return response;
	};
}

function requireCaller(caller: Caller | undefined): Caller {
	if (caller !== undefined) return caller;
	throw new GswarmError("UNAUTHORIZED", "This needs a token: send `Authorization: Bearer …`.", {
		reason: "no_valid_token",
		hint: "The CLI reads the token of the agent's data directory; other programs read the file `admin.token` there.",
	});
}

function requireRole(route: Route, caller: Caller | undefined): void {
	if (route.role === "public" || route.role === "join" || route.role === "grant") return;
	const { role } = requireCaller(caller);
	if (allows(role, route.role)) return;
	throw new GswarmError("FORBIDDEN", `The role ${role} may not do this; it needs ${route.role}.`, {
		reason: "role_not_allowed",
		details: { role, needed: route.role },
	});
}

/** The bearer of a request; undefined when there is none or it is malformed. */
export function bearerOf(headers: Headers): string | undefined {
	const match = /^Bearer ([\x21-\x7e]{1,4096})$/i.exec(headers.get("authorization") ?? "");
	return match?.[1];
}

function requestIdOf(request: Request, ids: Ids): string {
	const given = request.headers.get("x-request-id");
	return given !== null && /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : `req-${ids.short(12)}`;
}

/** What follows the question mark is as strict as a body, but for monitors (public) and OpenAI's clients (no schema). */
function parseQuery(route: Route, search: URLSearchParams): unknown {
	const values = new Map<string, string>();
	for (const [key, value] of search) {
		if (values.has(key))
			throw invalid("bad_field", `Query parameter ${JSON.stringify(key)} is given twice.`, { field: key });
		values.set(key, value);
	}
	if (route.query === undefined && (route.role === "public" || route.response === undefined)) return {};
	// From entries, because a plain assignment of "__proto__" is lost and not refused.
	const result = (route.query ?? NO_QUERY).safeParse(Object.fromEntries(values));
	if (result.success) return result.data;
	throw validationError(result.error, "query");
}

async function parseBody(route: Route, request: Request): Promise<unknown> {
	const encoding = request.headers.get("content-encoding");
	if (encoding !== null && encoding !== "identity") {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The content encoding ${JSON.stringify(encoding)} is not accepted.`,
			{
				reason: "encoding_not_supported",
				status: 415,
			},
		);
	}
	const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
	if (type !== undefined && type !== "application/json") {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The content type is ${JSON.stringify(type)}; wanted application/json.`,
			{
				reason: "content_type_not_supported",
				status: 415,
			},
		);
	}
	const declared = Number(request.headers.get("content-length") ?? 0);
	const limit = MAX_JSON_BYTES * (route.internal === true ? 64 : 1);
	const bytes = await readBounded(request.body, limit, declared);
	const result = route.body?.safeParse(parseJson(bytes));
	if (result === undefined || result.success) return result?.data;
	throw validationError(result.error, "body");
}

function locationHeader(route: Route, answer: unknown): Record<string, string> {
	if (route.status !== 202 || typeof answer !== "object" || answer === null || !("task_id" in answer))
		return {};
	return { location: `/api/v1/queue/tasks/${String(answer.task_id)}` };
}
