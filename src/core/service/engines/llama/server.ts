/**
 * The HTTP face of one engine, on loopback and without a token: the agent's gateway stands in front of it.
 * A page in a browser is kept out by the Host check (DNS rebinding) and by answering no CORS.
 */
import { asGswarmError, GswarmError, invalid, notFound } from "../../../../schema/errors.ts";
import { complete } from "./completions.ts";
import { embed } from "./embeddings.ts";
import type { Engine } from "./engine.ts";
import { countRequest, renderMetrics } from "./metrics.ts";
import { openAiErrorBody, parseChatRequest, parseEmbeddingRequest, parseTextRequest } from "./openai.ts";
import type { LlamaRuntime } from "./runtime.ts";

/** Requests that the agent carries bear its instance id here and keep the lease. */
export const INSTANCE_HEADER = "x-gswarm-instance";

/** Longest body; a context of a million tokens is some 4 MB of text. */
export const BODY_LIMIT_BYTES = 8 << 20;

/** Listens on the host and port of the arguments. Throws what `Bun.serve` throws when the port is taken. */
export function startServer(engine: Engine): Bun.Server<undefined> {
	return Bun.serve({
		hostname: engine.args.host,
		port: engine.args.port,
		// Bun's own refusal has no body; ours comes at BODY_LIMIT_BYTES.
		maxRequestBodySize: 1 << 30,
		idleTimeout: 30,
		async fetch(request, server) {
			const path = new URL(request.url).pathname;
			const route = ROUTES.get(path) ?? (path.startsWith(MODEL_PATH) ? modelRoute : undefined);
			const response = await answer(engine, route, request, server).catch((error: unknown) =>
				failure(error, request),
			);
			countRequest(engine.metrics, route === undefined ? "other" : route.path, response.status);
			return response;
		},
	});
}

interface Route {
	path: string;
	method: "GET" | "POST";
	handle(engine: Engine, request: Request, server: Bun.Server<undefined>): Response | Promise<Response>;
}

const MODEL_PATH = "/v1/models/";
const LOOPBACK_HOST = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;

const modelRoute: Route = { path: "/v1/models/{model}", method: "GET", handle: showModel };
const ROUTES: ReadonlyMap<string, Route> = new Map(
	(
		[
			{ path: "/health", method: "GET", handle: health },
			{ path: "/metrics", method: "GET", handle: showMetrics },
			{
				path: "/v1/models",
				method: "GET",
				handle: (engine) => Response.json({ object: "list", data: [modelObject(engine)] }),
			},
			{ path: "/v1/chat/completions", method: "POST", handle: modelWork(parseChatRequest, complete) },
			{ path: "/v1/completions", method: "POST", handle: modelWork(parseTextRequest, complete) },
			{ path: "/v1/embeddings", method: "POST", handle: modelWork(parseEmbeddingRequest, embedAndFinish) },
		] satisfies Route[]
	).map((route) => [route.path, route]),
);

async function answer(
	engine: Engine,
	route: Route | undefined,
	request: Request,
	server: Bun.Server<undefined>,
): Promise<Response> {
	const host = request.headers.get("host") ?? "";
	if (!LOOPBACK_HOST.test(host))
		throw new GswarmError(
			"FORBIDDEN",
			`The Host header is ${JSON.stringify(host)}; an engine answers to loopback names only.`,
			{
				reason: "wrong_host",
			},
		);
	if (route === undefined) throw notFound("path", new URL(request.url).pathname);
	if (request.method !== route.method)
		throw new GswarmError("INVALID_REQUEST", `${route.path} wants ${route.method}, got ${request.method}.`, {
			reason: "method_not_allowed",
			status: 405,
		});
	return route.handle(engine, request, server);
}

function failure(error: unknown, request: Request): Response {
	// The client that left reads no answer; the status is for the counters (nginx's 499).
	if (request.signal.aborted) return new Response(null, { status: 499 });
	const known = asGswarmError(error);
	if (known.code === "INTERNAL_ERROR") console.error(error);
	const retryAfter = known.retryAfterS ?? (known.status === 503 ? 1 : undefined);
	return Response.json(openAiErrorBody(known), {
		status: known.status,
		headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
	});
}

function health(engine: Engine, request: Request): Response {
	const asked = new URL(request.url).searchParams.get("instance");
	const { args, state } = engine;
	if (asked !== null && asked !== args.instanceId)
		return Response.json({ status: "other_instance", instance_id: args.instanceId }, { status: 409 });
	if (asked !== null) engine.lease.renew();
	const about = { instance_id: args.instanceId, model: args.alias, pid: process.pid };
	if (state.phase === "loading")
		return Response.json(
			{ status: "loading", reason: `loading the model, ${Math.floor(100 * state.progress)} %`, ...about },
			{ status: 503 },
		);
	if (state.phase === "stopping")
		return Response.json(
			{ status: "stopping", reason: `stopping, ${engine.inFlight} requests in flight`, ...about },
			{ status: 503 },
		);
	const { sequences, contextTokens } = state.runtime;
	return Response.json({
		status: "ok",
		...about,
		context_tokens: contextTokens,
		parallel: args.parallel,
		requests_running: sequences.busy,
		requests_waiting: sequences.waiting,
	});
}

function showMetrics(engine: Engine): Response {
	const runtime = engine.state.phase === "loading" ? undefined : engine.state.runtime;
	const text = renderMetrics(engine.metrics, {
		busy: runtime?.sequences.busy ?? 0,
		waiting: runtime?.sequences.waiting ?? 0,
	});
	return new Response(text, { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
}

function showModel(engine: Engine, request: Request): Response {
	const asked = new URL(request.url).pathname.slice(MODEL_PATH.length);
	// Names hold slashes; clients send them as they are or encoded.
	if (asked !== engine.args.alias && asked !== encodeURIComponent(engine.args.alias))
		throw new GswarmError(
			"MODEL_NOT_FOUND",
			`This engine serves ${JSON.stringify(engine.args.alias)}, not ${JSON.stringify(asked)}.`,
			{
				reason: "model_not_found",
			},
		);
	return Response.json(modelObject(engine));
}

function modelObject(engine: Engine) {
	const runtime = engine.state.phase === "loading" ? undefined : engine.state.runtime;
	return {
		id: engine.args.alias,
		object: "model",
		created: Math.floor(engine.createdMs / 1000),
		owned_by: "gswarm",
		meta: {
			size_bytes: engine.model.sizeBytes,
			parameters: engine.model.parameterCount,
			file_type: engine.model.fileType ?? null,
			context_tokens: runtime?.contextTokens ?? null,
			trained_context_tokens: runtime?.trainedContextTokens ?? null,
		},
	};
}

interface WorkOptions {
	/** Aborts when the client leaves and when the drain is over. */
	signal: AbortSignal;
	/** To be called once, when the answer is complete. */
	done: () => void;
}

/** A route that uses the model: refused unless ready, counted as in flight until its answer is complete. */
function modelWork<T>(
	parse: (body: unknown, alias: string) => T,
	work: (engine: Engine, runtime: LlamaRuntime, parsed: T, options: WorkOptions) => Promise<Response>,
): Route["handle"] {
	return async (engine, request, server) => {
		const { state } = engine;
		if (state.phase !== "ready")
			throw new GswarmError("RESOURCE_UNAVAILABLE", `The engine is ${state.phase}.`, {
				reason: `engine_${state.phase}`,
				retryable: true,
				retryAfterS: 1,
			});
		const parsed = parse(await readJson(request), engine.args.alias);
		// Computing a long prompt is silent for longer than any idle timeout.
		server.timeout(request, 0);
		const done = enter(engine, request);
		try {
			const signal = AbortSignal.any([request.signal, engine.stop.signal]);
			return await work(engine, state.runtime, parsed, { signal, done });
		} catch (error) {
			done();
			throw error;
		}
	};
}

async function embedAndFinish(
	engine: Engine,
	runtime: LlamaRuntime,
	parsed: ReturnType<typeof parseEmbeddingRequest>,
	options: WorkOptions,
): Promise<Response> {
	const response = await embed(engine, runtime, parsed, options);
	options.done();
	return response;
}

/** Counts a request in; the returned function counts it out, once. */
function enter(engine: Engine, request: Request): () => void {
	const carried = request.headers.get(INSTANCE_HEADER) === engine.args.instanceId;
	const release = carried ? engine.lease.hold() : () => {};
	engine.inFlight++;
	let open = true;
	return () => {
		if (!open) return;
		open = false;
		engine.inFlight--;
		release();
	};
}

async function readJson(request: Request): Promise<unknown> {
	const text = new TextDecoder().decode(await readBody(request));
	try {
		return JSON.parse(text);
	} catch (cause) {
		throw invalid("bad_json", `The request body is not JSON: ${(cause as Error).message}.`);
	}
}

async function readBody(request: Request): Promise<Uint8Array> {
	const tooLarge = () =>
		new GswarmError("INVALID_REQUEST", `The request body is larger than ${BODY_LIMIT_BYTES} bytes.`, {
			reason: "body_too_large",
			status: 413,
		});
	if (Number(request.headers.get("content-length") ?? 0) > BODY_LIMIT_BYTES) throw tooLarge();
	const pieces: Uint8Array[] = [];
	let sizeBytes = 0;
	for await (const piece of request.body ?? []) {
		sizeBytes += piece.length;
		if (sizeBytes > BODY_LIMIT_BYTES) throw tooLarge();
		pieces.push(piece);
	}
	return Buffer.concat(pieces);
}
