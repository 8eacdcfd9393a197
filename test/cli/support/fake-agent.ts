/**
 * An agent that answers from a script, behind the real contract: what the command line sends must fit the contract's
 * schemas, and so must what is answered, so that neither side of a test can drift from the API.
 */
import { Hono } from "hono";
import { type RouteId, contract } from "../../../src/api/contract.ts";
import type { Route } from "../../../src/api/route.ts";
import { type GswarmError, notFound } from "../../../src/schema/errors.ts";

export interface SeenRequest {
	route: RouteId;
	params: Record<string, string>;
	query: Record<string, string>;
	body: unknown;
}

type Answer = unknown;
/** A body, a function of the request that gives one, or an error that it throws. */
export type Script = Partial<Record<RouteId, object | ((request: SeenRequest) => Answer)>>;

export interface FakeAgent {
	send(request: Request): Promise<Response>;
	/** Every call, in order. */
	seen: SeenRequest[];
	/** The only call of a route. */
	only(route: RouteId): SeenRequest;
}

/** Routes without a script answer 404. */
export function fakeAgent(script: Script): FakeAgent {
	const seen: SeenRequest[] = [];
	const app = new Hono();
	for (const [id, route] of Object.entries(contract) as [RouteId, Route][]) {
		const path = route.path.replaceAll(/\{(\w+)\}/g, ":$1");
		app.on(route.method, path, async (c) => {
			const text = await c.req.text();
			const request: SeenRequest = {
				route: id,
				params: c.req.param(),
				query: c.req.query(),
				body: text === "" ? undefined : JSON.parse(text),
			};
			seen.push(request);
			route.query?.parse(request.query);
			route.body?.parse(request.body);
			const scripted = script[id];
			try {
				const answer = typeof scripted === "function" ? await scripted(request) : scripted;
				if (answer === undefined) throw notFound("answer", id);
				if (answer instanceof Response) return answer;
				route.response?.parse(answer);
				return Response.json(answer, { status: route.status });
			} catch (error) {
				return errorResponse(error as GswarmError);
			}
		});
	}
	app.onError((error) => {
		throw error;
	});
	return {
		seen,
		send: async (request) => await app.fetch(request),
		only(route) {
			const calls = seen.filter((call) => call.route === route);
			if (calls.length !== 1 || calls[0] === undefined) throw new Error(`${calls.length} calls of ${route}`);
			return calls[0];
		},
	};
}

/** An error as the API writes it. */
export function errorResponse(error: GswarmError): Response {
	if (error.code === undefined) throw error;
	const details = { ...error.details, ...(error.hint === undefined ? {} : { hint: error.hint }) };
	return Response.json(
		{ error: { code: error.code, message: error.message, details, timestamp: 1, request_id: "r" } },
		{ status: error.status },
	);
}
