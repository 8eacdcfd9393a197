import { afterEach, describe, expect, test } from "bun:test";
import { createServer, connect } from "node:net";
import type { AddressInfo } from "node:net";
import { Load } from "../../src/core/service/load.ts";
import { createGateway, type Upstream, type UpstreamSource } from "../../src/core/service/service.ts";
import { systemClock as clock } from "../../src/platform/clock.ts";
import { silentLog as log } from "../../src/platform/log.ts";
import { until } from "../support/until.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
	for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

interface OpenAiError {
	error: { message: string; type: string; param: string | null; code: string | null };
}

/** A server on loopback that ends with the test. */
function serve(fetch: (request: Request) => Response | Promise<Response>): string {
	const server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, development: false, fetch });
	cleanUps.push(() => server.stop(true));
	return `http://127.0.0.1:${server.port}`;
}

function upstream(baseUrl: string, fields: Partial<Upstream> = {}): Upstream {
	return { key: baseUrl, baseUrl, state: "ready", policy: "round_robin", timeoutMs: 600_000, ...fields };
}

function source(models: Record<string, Upstream[]>): UpstreamSource {
	return {
		upstreams: (model) => models[model] ?? [],
		models: () =>
			Object.entries(models)
				.filter(([, list]) => list.some(({ state }) => state === "ready"))
				.map(([id]) => ({ id, created: 1 })),
	};
}

function gatewayOf(models: Record<string, Upstream[]>, remote?: Record<string, Upstream[]>) {
	return createGateway({
		clock,
		log,
		local: source(models),
		...(remote === undefined ? {} : { remote: source(remote) }),
	});
}

const CHAT = "/v1/chat/completions";

function post(body: unknown, init: RequestInit = {}, path = CHAT): Request {
	const text = typeof body === "string" ? body : JSON.stringify(body);
	return new Request(`http://gateway${path}`, { method: "POST", body: text, ...init });
}

async function errorOf(
	answer: Promise<Response> | Response,
): Promise<OpenAiError["error"] & { status: number }> {
	const response = await answer;
	return { ...((await response.json()) as OpenAiError).error, status: response.status };
}

/** The gateway behind a real listener, as the agent's HTTP layer has it. */
function listen(gateway: ReturnType<typeof gatewayOf>): string {
	return serve((request) => gateway.handle(request, new URL(request.url).pathname));
}

describe("wrong requests get 4xx in OpenAI's shape:", () => {
	const gateway = gatewayOf({ "acme/tiny": [upstream("http://127.0.0.1:1")] });
	const cases: [string, Request, number, string, string | null][] = [
		["no JSON", post("{"), 400, "bad_json", null],
		["an array", post([1]), 400, "bad_json", null],
		["null", post("null"), 400, "bad_json", null],
		["nothing at all", post(""), 400, "bad_json", null],
		["no model", post({ messages: [] }), 400, "missing_model", "model"],
		["a number as model", post({ model: 7 }), 400, "missing_model", "model"],
		["an inherited name", post('{"__proto__":{"model":"acme/tiny"}}'), 400, "missing_model", "model"],
		["a model nobody serves", post({ model: "acme/huge" }), 404, "model_not_found", "model"],
		["another method", post({ model: "acme/tiny" }, { method: "PUT" }), 405, "method_not_allowed", null],
		[
			"an encoded body",
			post("x", { headers: { "content-encoding": "gzip" } }),
			415,
			"unsupported_encoding",
			null,
		],
	];
	test.each(cases)("%s", async (_, request, status, code, param) => {
		const answer = await errorOf(gateway.handle(request, CHAT));
		expect(answer).toMatchObject({ status, code, param, type: "invalid_request_error" });
	});

	test.each([
		"/v1/../health",
		"/v1/chat//completions",
		"/v1/",
		"/health",
		"/v1/a?b",
		"/v1/%2e%2e/health",
		"/v1/a\\b",
		`/v1${"/a".repeat(9)}`,
	])("the path %s", async (path) => {
		const answer = await errorOf(gateway.handle(post({ model: "acme/tiny" }), path));
		expect(answer).toMatchObject({ status: 404, code: "unknown_path" });
	});

	test("a body over 64 MiB, by its length or by its bytes", async () => {
		const long = { headers: { "content-length": String((64 << 20) + 1) } };
		expect(await errorOf(gateway.handle(post("{}", long), CHAT))).toMatchObject({ status: 413 });
		const block = new Uint8Array(1 << 20).fill(32);
		const blocks = (count: number): Request =>
			post("", {
				body: new ReadableStream({
					pull(controller) {
						if (count-- > 0) controller.enqueue(block);
						else controller.close();
					},
				}),
			});
		expect(await errorOf(gateway.handle(blocks(65), CHAT))).toMatchObject({ code: "body_too_large" });
		expect(await errorOf(gateway.handle(blocks(64), CHAT))).toMatchObject({ code: "bad_json" });
	});
});

test("the answer to an unknown model lists what is served", async () => {
	const gateway = gatewayOf({
		"acme/tiny": [upstream("http://127.0.0.1:1")],
		coming: [upstream("http://127.0.0.1:1", { state: "starting" })],
	});
	const { message } = await errorOf(gateway.handle(post({ model: "gpt-4" }), CHAT));
	expect(message).toContain('"gpt-4"');
	expect(message).toContain("acme/tiny");
	expect(message).not.toContain("coming");
});

test("GET /v1/models lists what is ready on this node and on others, once each", async () => {
	const one = upstream("http://127.0.0.1:1");
	const gateway = gatewayOf(
		{ "acme/tiny": [one] },
		{ "acme/tiny": [one], "b/c": [one], "d/e": [{ ...one, state: "failed" }] },
	);
	const get = async (path: string): Promise<unknown> =>
		(await gateway.handle(new Request(`http://gateway${path}`), path)).json();
	expect(await get("/v1/models")).toEqual({
		object: "list",
		data: ["acme/tiny", "b/c"].map((id) => ({ id, object: "model", created: 1, owned_by: "gswarm" })),
	});
	for (const path of ["/v1/models/acme/tiny", "/v1/models/acme%2Ftiny"])
		expect(await get(path)).toMatchObject({ id: "acme/tiny", object: "model" });
	expect(await get("/v1/models/nope")).toMatchObject({ error: { code: "model_not_found" } });
	expect(await get("/v1/models/%zz")).toMatchObject({ error: { code: "bad_model_name" } });
});

test("a request goes through byte for byte, with its query, and so does its answer", async () => {
	const seen: string[] = [];
	const url = serve(async (request) => {
		seen.push(`${new URL(request.url).pathname}${new URL(request.url).search} ${await request.text()}`);
		return new Response('{"odd" : 1.0}', { status: 418, headers: { "content-type": "application/x-odd" } });
	});
	const body = '{ "model":"m", "n":1.0, "u":"\\u00e9" }';
	const request = post(body, {}, "/v1/embeddings?x=1&y=%2F");
	const response = await gatewayOf({ m: [upstream(url)] }).handle(request, "/v1/embeddings");
	expect(seen).toEqual([`/v1/embeddings?x=1&y=%2F ${body}`]);
	expect(response.status).toBe(418);
	expect(response.headers.get("content-type")).toBe("application/x-odd");
	expect(await response.text()).toBe('{"odd" : 1.0}');
});

test("an answer without a body stays one, and a long one of known length comes whole", async () => {
	const long = "x".repeat(300_000);
	const answers = [new Response(null, { status: 204 }), new Response(""), new Response(long)];
	const load = new Load();
	const url = serve(() => answers.shift() ?? Response.error());
	const front = listen(gatewayOf({ m: [upstream(url, { load })] }));
	const ask = (): Promise<Response> => fetch(front + CHAT, { method: "POST", body: '{"model":"m"}' });
	expect((await ask()).status).toBe(204);
	expect(await (await ask()).text()).toBe("");
	expect(await (await ask()).text()).toBe(long);
	expect([load.outstanding, load.total]).toEqual([0, 3]);
});

test("the caller's credentials and hop-by-hop headers stop at the gateway, the upstream's stay behind it", async () => {
	let seen = new Headers();
	const url = serve((request) => {
		seen = request.headers;
		return new Response("ok", {
			headers: {
				"x-request-id": "r2",
				"set-cookie": "a=b",
				server: "engine",
				"access-control-allow-origin": "*",
				connection: "x-internal",
				"x-internal": "1",
			},
		});
	});
	const headers = {
		authorization: "Bearer gsw_user_secret",
		cookie: "session=1",
		"x-api-key": "k",
		"x-forwarded-for": "10.0.0.1",
		"x-gswarm-instance": "forged",
		"x-gswarm-other": "forged",
		origin: "http://page",
		connection: "keep-alive, X-Private",
		"x-private": "1",
		te: "trailers",
		"x-request-id": "r1",
		"content-type": "application/json",
	};
	const gateway = gatewayOf({ m: [upstream(url, { authorize: () => ({ "x-gswarm-instance": "real" }) })] });
	const response = await gateway.handle(post({ model: "m" }, { headers }), CHAT);
	expect(seen.toJSON()).toMatchObject({
		"x-request-id": "r1",
		"content-type": "application/json",
		"x-gswarm-instance": "real",
		host: new URL(url).host,
		"accept-encoding": "identity",
	});
	for (const name of [
		"authorization",
		"cookie",
		"x-api-key",
		"x-forwarded-for",
		"origin",
		"x-private",
		"te",
		"x-gswarm-other",
	])
		expect(seen.get(name)).toBeNull();
	expect(response.headers.get("x-request-id")).toBe("r2");
	for (const name of ["set-cookie", "server", "access-control-allow-origin", "x-internal"])
		expect(response.headers.get(name)).toBeNull();
});

test("a streamed answer is passed on piece by piece, the first one before the second exists", async () => {
	const next = Promise.withResolvers<void>();
	const url = serve(
		() =>
			new Response(
				(async function* () {
					yield "data: 1\n\n";
					await next.promise;
					yield "data: 2\n\n";
				})(),
				{ headers: { "content-type": "text/event-stream" } },
			),
	);
	const load = new Load();
	const front = listen(gatewayOf({ m: [upstream(url, { load })] }));
	const response = await fetch(front + CHAT, { method: "POST", body: '{"model":"m","stream":true}' });
	const reader = response.body?.getReader();
	const read = async (): Promise<string | undefined> => {
		const { value } = (await reader?.read()) ?? {};
		return value && new TextDecoder().decode(value);
	};
	expect(await read()).toBe("data: 1\n\n");
	expect(load.outstanding).toBe(1);
	next.resolve();
	expect(await read()).toBe("data: 2\n\n");
	expect(await read()).toBeUndefined();
	expect(response.headers.get("content-type")).toBe("text/event-stream");
	expect([load.outstanding, load.total]).toEqual([0, 1]);
});

test("a client that leaves cancels the request at the upstream, streaming or not", async () => {
	let started = 0;
	let cancelled = 0;
	const url = serve(async (request) => {
		const { stream } = (await request.json()) as { stream: boolean };
		started++;
		const gone = Promise.withResolvers<void>();
		request.signal.addEventListener("abort", () => {
			cancelled++;
			gone.resolve();
		});
		if (!stream) await gone.promise;
		return new Response(
			(async function* () {
				yield "data: 1\n\n";
				await gone.promise;
			})(),
		);
	});
	const load = new Load();
	const front = listen(gatewayOf({ m: [upstream(url, { load })] }));
	for (const stream of [true, false]) {
		const client = new AbortController();
		const body = JSON.stringify({ model: "m", stream });
		const answer = fetch(front + CHAT, { method: "POST", body, signal: client.signal });
		if (stream) await (await answer).body?.getReader().read();
		else {
			answer.catch(() => {});
			await until("the upstream works", () => started === 2);
		}
		expect(load.outstanding).toBe(1);
		client.abort();
		await until("the upstream was cancelled", () => cancelled === started);
		await until("it is counted out", () => load.outstanding === 0);
	}
	expect([started, cancelled]).toEqual([2, 2]);
});

test("a request that could not connect goes to another instance, once each", async () => {
	const gone = serve(() => new Response());
	await cleanUps.pop()?.();
	let asked = 0;
	const here = serve(() => {
		asked++;
		return new Response("here");
	});
	const gateway = gatewayOf({ m: [upstream(gone), upstream(here)], n: [upstream(gone)] });
	for (let i = 1; i <= 4; i++) {
		expect(await (await gateway.handle(post({ model: "m" }), CHAT)).text()).toBe("here");
		expect(asked).toBe(i);
	}
	const response = await gateway.handle(post({ model: "n" }), CHAT);
	expect(response.headers.get("retry-after")).toBe("2");
	expect(await errorOf(response)).toMatchObject({ status: 503, code: "service_unreachable" });
});

test("a request that was sent is not sent again: not after a reset, not after a 500", async () => {
	let asked = 0;
	const broken = createServer((socket) => {
		socket.on("error", () => {});
		socket.once("data", () => {
			asked++;
			socket.resetAndDestroy();
		});
	});
	await new Promise<void>((resolve) => broken.listen(0, "127.0.0.1", resolve));
	cleanUps.push(() => broken.close());
	const resets = upstream(`http://127.0.0.1:${(broken.address() as AddressInfo).port}`);
	let others = 0;
	const other = upstream(
		serve(() => {
			others++;
			return new Response("no", { status: 500 });
		}),
	);
	const load = new Load();
	// The first turn goes to the second of two.
	const first = gatewayOf({ m: [other, { ...resets, load }] });
	expect(await errorOf(first.handle(post({ model: "m" }), CHAT))).toMatchObject({
		status: 502,
		code: "upstream_failed",
		type: "server_error",
	});
	expect([others, load.outstanding]).toEqual([0, 0]);
	expect(asked).toBeGreaterThan(0);
	const before = asked;
	const second = gatewayOf({ m: [resets, other] });
	expect((await second.handle(post({ model: "m" }), CHAT)).status).toBe(500);
	expect([asked, others]).toEqual([before, 1]);
});

test("an answer that is cut off breaks the client's connection instead of looking whole", async () => {
	const cutting = createServer((socket) => {
		socket.on("error", () => {});
		socket.once("data", () => {
			socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", () =>
				socket.resetAndDestroy(),
			);
		});
	});
	await new Promise<void>((resolve) => cutting.listen(0, "127.0.0.1", resolve));
	cleanUps.push(() => cutting.close());
	const load = new Load();
	const url = `http://127.0.0.1:${(cutting.address() as AddressInfo).port}`;
	const front = new URL(listen(gatewayOf({ m: [upstream(url, { load })] })));
	const received = Promise.withResolvers<string>();
	const client = connect(Number(front.port), "127.0.0.1");
	let text = "";
	client.on("data", (data) => (text += data.toString()));
	client.on("error", () => {});
	client.on("close", () => received.resolve(text));
	client.write(`POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"model":"m"}`);
	expect(await received.promise).not.toContain("\r\n0\r\n");
	expect(load.outstanding).toBe(0);
});

test("a request over the service's timeout is cancelled and answered with 504", async () => {
	let cancelled = false;
	const url = serve(async (request) => {
		const gone = Promise.withResolvers<void>();
		request.signal.addEventListener("abort", () => {
			cancelled = true;
			gone.resolve();
		});
		await gone.promise;
		return new Response();
	});
	const load = new Load();
	const gateway = gatewayOf({ m: [upstream(url, { timeoutMs: 30, load })] });
	expect(await errorOf(gateway.handle(post({ model: "m" }), CHAT))).toMatchObject({
		status: 504,
		code: "upstream_timeout",
	});
	await until("the upstream was cancelled", () => cancelled);
	expect(load.outstanding).toBe(0);
});

test("a stream over the service's timeout is cut, and counted out even when nobody reads it", async () => {
	const url = serve(
		() =>
			new Response(
				(async function* () {
					yield "data: 1\n\n";
					await new Promise(() => {});
				})(),
			),
	);
	const load = new Load();
	const gateway = gatewayOf({ m: [upstream(url, { timeoutMs: 200, load })] });
	const response = await gateway.handle(post({ model: "m" }), CHAT);
	expect(response.status).toBe(200);
	await until("it is counted out", () => load.outstanding === 0);
	expect(response.text()).rejects.toThrow("did not finish within 0.2 s");
});

test("a model that starts answers 503 with Retry-After, one that failed says so", async () => {
	const at = (state: Upstream["state"]): Upstream[] => [upstream("http://127.0.0.1:1", { state })];
	const gateway = gatewayOf({ coming: at("starting"), ill: at("unhealthy"), dead: at("failed") });
	for (const [model, code] of [
		["coming", "service_starting"],
		["ill", "service_starting"],
		["dead", "service_failed"],
	] as const) {
		const response = await gateway.handle(post({ model }), CHAT);
		expect(response.headers.get("retry-after")).toBe("2");
		expect(await errorOf(response)).toMatchObject({ status: 503, code, type: "server_error" });
	}
});

test("a redirect of an upstream is not followed and not passed on", async () => {
	let followed = false;
	const elsewhere = serve(() => {
		followed = true;
		return new Response();
	});
	const url = serve(() => Response.redirect(elsewhere, 307));
	const gateway = gatewayOf({ m: [upstream(url)] });
	expect(await errorOf(gateway.handle(post({ model: "m" }), CHAT))).toMatchObject({ status: 502 });
	expect(followed).toBe(false);
});

test("the idle one of several instances is chosen, and other nodes count as instances too", async () => {
	const blocked = Promise.withResolvers<void>();
	const names: string[] = [];
	const instance = (name: string): Upstream =>
		upstream(
			serve(async () => {
				names.push(name);
				await blocked.promise;
				return new Response(name);
			}),
			{ policy: "least_outstanding" },
		);
	const gateway = gatewayOf({ m: [instance("here")] }, { m: [instance("there"), instance("yonder")] });
	const answers = [1, 2, 3].map(() => gateway.handle(post({ model: "m" }), CHAT));
	await until("all three are asked", () => names.length === 3);
	expect(names.sort()).toEqual(["here", "there", "yonder"]);
	blocked.resolve();
	for (const answer of answers) await (await answer).text();
});

test("a request from another gateway goes no further than this node", async () => {
	const node = serve(() => new Response("node"));
	const inner = gatewayOf({}, { m: [upstream("http://127.0.0.1:1")] });
	const outer = gatewayOf({}, { m: [upstream(listen(inner))], n: [upstream(node)] });
	expect(await errorOf(outer.handle(post({ model: "m" }), CHAT))).toMatchObject({ code: "model_not_found" });
	expect(await (await outer.handle(post({ model: "n" }), CHAT)).text()).toBe("node");
});
