/**
 * A listener's app, built from the contract: behind the door (see `door.ts`) each request meets its route's role, its
 * parameters, query and body by their schemas, and then the handler.
 * A route of the contract without a handler, or a handler without a route, does not type-check.
 */
import { Hono } from "hono";
import { z } from "zod";
import { type Contract, type RouteId, contract } from "../../api/contract.ts";
import type { AnswerOf, BodyOf, Listener, ParamsOf, QueryOf, Route } from "../../api/route.ts";
import type { Caller } from "../../core/identity/identity.ts";
import { createBodyReader } from "../../platform/body-reader.ts";
import { MAX_QUERY_PARAMETERS } from "../../platform/limits.ts";
import { parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import {
	parseModelName,
	parseNodeName,
	parseServiceId,
	parseTaskId,
	parseTokenName,
} from "../../schema/names.ts";
import { parseSecretName } from "../../schema/secret-name.ts";
import { auditedFields } from "./audit-trace.ts";
import { readBody } from "./body.ts";
import { type Door, type DoorDependencies, type Visit, createDoor } from "./door.ts";
import { validationError } from "./errors.ts";
import { canonicalPath, rawPath } from "./path.ts";
import { inOwnTime } from "./patience.ts";
import { keepOwner, requireCaller, requireForce, requireOwnTask, requireRole, taskIdOf } from "./rights.ts";

/** What a handler gets; parameters, query and body are checked. */
export interface Call<R extends Route> {
	params: ParamsOf<R>;
	query: QueryOf<R>;
	body: BodyOf<R>;
	request: Request;
	/** Undefined only on routes that need no token. */
	caller: Caller | undefined;
	bearer: string | undefined;
	/** Of the client: the other end of the connection, or what a trusted proxy says. */
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

export type AppDependencies = DoorDependencies;

/** Answers a request; `address` is the IP address at the other end of the connection. */
export type App = Door;

interface Env {
	Bindings: Visit;
}

const NO_QUERY = z.strictObject({});

type LooseHandler = (call: Call<Route>) => unknown;

/** One validator per parameter name; a parameter without one stops the agent from starting. */
const PARAMETERS: Record<string, (text: string) => unknown> = {
	model_name: parseModelName,
	task_id: parseTaskId,
	service_id: parseServiceId,
	token_id: parseTokenName,
	secret_name: parseSecretName,
	node: parseNodeName,
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
	const { clock, identity } = dependencies;
	const hono = new Hono<Env>({ getPath: (request) => canonicalPath(rawPath(request.url)) });
	const bodies = createBodyReader({ clock });
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
			const { caller, bearer, address, requestId, trace, attempts, connection } = c.env;
			Object.assign(trace, { action: id, needs: route.role, target: { ...c.req.param() } });
			requireRole(identity, route.role, c.env);
			const letIn = route.role === "join" ? attempts.beginJoin(address) : undefined;
			const params: Record<string, string> = {};
			for (const name of names) {
				const text = c.req.param(name) ?? "";
				PARAMETERS[name]?.(text);
				params[name] = text;
			}
			const query = parseQuery(route, new URL(c.req.url).searchParams);
			requireForce(route, caller, query);
			const body = await readBody(route, c.req.raw, bodies);
			Object.assign(trace.target, auditedFields(route, query, body));
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
			if (route.ownTask === true)
				await requireOwnTask(identity, caller, params["task_id"] ?? "", () => loose["getTask"]?.(call));
			// Streams and parts; who has no token is not waited for while we look.
			const isLong = route.response === undefined && caller !== undefined;
			const answer = isLong
				? await inOwnTime(connection, () => handler(call) as Promise<Response>)
				: await handler(call);
			if (route.role === "grant") connection?.wait();
			letIn?.();
			if (answer instanceof Response) return answer;
			await keepOwner(identity, route, { caller, headers: c.req.raw.headers, answer });
			return Response.json(answer, { status: route.status, headers: locationHeader(route, answer) });
		});
	}
	for (const [pattern, methods] of methodsByPath) {
		const allow = methods.includes("GET") ? [...methods, "HEAD"].join(", ") : methods.join(", ");
		hono.all(pattern, (c) => {
			requireCaller(identity, c.env);
			throw new GswarmError("INVALID_REQUEST", `${c.req.method} is not possible here; ${allow} is.`, {
				reason: "method_not_allowed",
				status: 405,
				details: { allow },
			});
		});
	}
	hono.notFound((c) => {
		requireCaller(identity, c.env);
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

	return createDoor(dependencies, {
		listener,
		isOpenAi: (path) => path.startsWith("/v1/"),
		enter: (request, visit) => hono.fetch(request, visit),
	});
}

/** What follows the question mark is as strict as a body, but for monitors (public) and OpenAI's clients (no schema). */
function parseQuery(route: Route, search: URLSearchParams): unknown {
	const values = new Map<string, string>();
	if (search.size > MAX_QUERY_PARAMETERS) {
		throw invalid("too_many_parameters", `The query has more than ${MAX_QUERY_PARAMETERS} parameters.`, {
			limit: MAX_QUERY_PARAMETERS,
		});
	}
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

function locationHeader(route: Route, answer: unknown): Record<string, string> {
	const taskId = taskIdOf(answer);
	return route.status === 202 && taskId !== undefined ? { location: `/api/v1/queue/tasks/${taskId}` } : {};
}
