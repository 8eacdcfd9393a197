/**
 * The OpenAI-compatible front of all services: a pure function of Request to Response, routed by the `model` in the
 * body. It parses nothing else, changes no byte of a body, keeps no credentials, and knows no listener: the HTTP layer
 * checks the caller and switches the connection's idle timeout off.
 */
import { createBodyReader } from "../../platform/body-reader.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, asGswarmError, invalid } from "../../schema/errors.ts";
import { orderCandidates } from "./balancer.ts";
import { forward, HOP_HEADER, NotConnected } from "./forward.ts";
import { Load } from "./load.ts";
import { openAiError } from "./openai-error.ts";
import { readBody, readModel } from "./proxy-body.ts";
import type { ServedModel, Upstream, UpstreamSource } from "./upstream.ts";

export interface Gateway {
	/**
	 * Answers a request to `/v1/…`. `path` is the path of the URL as it was routed. Never rejects: failures are answers
	 * in OpenAI's shape. The body may be a stream that ends long after.
	 */
	handle(request: Request, path: string): Promise<Response>;
}

export interface GatewayDependencies {
	clock: Clock;
	log: Log;
	/** Engines of this node. */
	local: UpstreamSource;
	/** Gateways of other nodes; asked only for requests that come from a client, never for those of another gateway. */
	remote?: UpstreamSource;
}

export function createGateway({ clock, log, local, remote }: GatewayDependencies): Gateway {
	/** Of upstreams that do not count themselves; an entry lives as long as a request. */
	const loads = new Map<string, Load>();
	const bodies = createBodyReader({ clock });
	let turn = 0;

	const sourcesFor = (request: Request): UpstreamSource[] =>
		remote === undefined || request.headers.has(HOP_HEADER) ? [local] : [local, remote];

	const candidatesFor = (model: string, request: Request): Upstream[] => {
		const sources = sourcesFor(request);
		const all = sources.flatMap((source) => source.upstreams(model));
		if (all.length === 0) throw unknownModel(model, servedModels(sources));
		const ready = all.filter(({ state }) => state === "ready");
		if (ready.length === 0) throw notReady(model, all);
		const [{ policy } = { policy: "least_outstanding" as const }] = ready;
		turn = (turn + 1) % Number.MAX_SAFE_INTEGER;
		const counted = ready.map((upstream) => ({
			upstream,
			outstanding: (upstream.load ?? loads.get(upstream.key))?.outstanding ?? 0,
		}));
		return orderCandidates(counted, policy, turn).map(({ upstream }) => upstream);
	};

	const loadOf = (upstream: Upstream): Load => {
		for (const [key, load] of loads) if (load.outstanding === 0) loads.delete(key);
		const load = upstream.load ?? loads.get(upstream.key) ?? new Load();
		if (upstream.load === undefined) loads.set(upstream.key, load);
		return load;
	};

	const proxy = async (request: Request, path: string): Promise<Response> => {
		const body = await readBody(request, bodies);
		const model = readModel(body);
		const target = `${path}${new URL(request.url).search}`;
		for (const upstream of candidatesFor(model, request)) {
			try {
				return await forward({ clock }, { request, target, body }, upstream, loadOf(upstream));
			} catch (error) {
				if (!(error instanceof NotConnected)) throw error;
				log.warn("gateway.not_connected", { upstream: upstream.key, model, error });
			}
		}
		throw new GswarmError("RESOURCE_UNAVAILABLE", `No instance of ${model} could be reached.`, {
			reason: "service_unreachable",
			retryable: true,
		});
	};

	return {
		async handle(request, path) {
			try {
				if (request.method === "GET") return listModels(path, servedModels(sourcesFor(request)));
				if (!PROXIED.test(path) || path.includes("..")) throw unknownPath(path);
				if (request.method !== "POST") throw wrongMethod(request.method);
				return await proxy(request, path);
			} catch (error) {
				// Nobody reads this; the status is for logs (nginx's 499).
				if (request.signal.aborted) return new Response(null, { status: 499 });
				const known = asGswarmError(error);
				if (known.status >= 500) log.warn("gateway.failed", { path, error });
				return openAiError(known);
			}
		},
	};
}

/** What is proxied; the path becomes part of the upstream's URL as it is. */
const PROXIED = /^\/v1\/[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+){0,7}$/;
const MODELS = "/v1/models";
/** Names in the answer to a request for an unknown model. */
const MAX_NAMES = 20;

function servedModels(sources: readonly UpstreamSource[]): ServedModel[] {
	const all = sources.flatMap((source) => source.models());
	const byId = new Map<string, ServedModel>();
	for (const model of all) {
		const known = byId.get(model.id);
		if (known === undefined || model.created < known.created) byId.set(model.id, model);
	}
	return [...byId.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}

function listModels(path: string, served: readonly ServedModel[]): Response {
	const objects = served.map(({ id, created }) => ({ id, object: "model", created, owned_by: "gswarm" }));
	if (path === MODELS) return Response.json({ object: "list", data: objects });
	if (!path.startsWith(`${MODELS}/`)) throw unknownPath(path);
	const wanted = decode(path.slice(MODELS.length + 1));
	const object = objects.find(({ id }) => id === wanted);
	if (object === undefined) throw unknownModel(wanted, served);
	return Response.json(object);
}

/** Names hold slashes; clients send them as they are or encoded. */
function decode(text: string): string {
	try {
		return decodeURIComponent(text);
	} catch {
		throw invalid("bad_model_name", "The model's name in the path is not correctly encoded.", {
			param: "model",
		});
	}
}

function unknownModel(model: string, served: readonly ServedModel[]): GswarmError {
	const names = served.map(({ id }) => id);
	const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : "";
	const list =
		names.length === 0 ? "no model is served" : `served: ${names.slice(0, MAX_NAMES).join(", ")}${more}`;
	return new GswarmError(
		"MODEL_NOT_FOUND",
		`The model ${JSON.stringify(model.slice(0, 200))} is not served here; ${list}.`,
		{
			reason: "model_not_found",
			details: { param: "model" },
			hint: "`gswarm model serve NAME` serves one.",
		},
	);
}

function notReady(model: string, upstreams: readonly Upstream[]): GswarmError {
	const states = [...new Set(upstreams.map(({ state }) => state))];
	const isComing = states.some((state) => state !== "failed");
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		isComing
			? `The model ${model} is ${states.join(" and ")}; try again in a moment.`
			: `The service of the model ${model} has failed; \`gswarm service list\` shows why.`,
		{ reason: isComing ? "service_starting" : "service_failed", retryable: isComing },
	);
}

function unknownPath(path: string): GswarmError {
	return new GswarmError("NOT_FOUND", `There is nothing at ${JSON.stringify(path.slice(0, 200))}.`, {
		reason: "unknown_path",
	});
}

function wrongMethod(method: string): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${method} is not answered here; wanted POST.`, {
		reason: "method_not_allowed",
		status: 405,
	});
}
