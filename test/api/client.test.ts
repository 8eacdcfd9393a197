import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { type ApiClient, createApiClient } from "../../src/api/client.ts";
import { GswarmError } from "../../src/schema/errors.ts";

const BASE = "http://agent.test:8000";

/** A client whose every request gets `answer`; the requests are kept. */
function clientOf(
	answer: (request: Request) => Response | Promise<Response>,
	token: string | undefined = "secret-token",
): { client: ApiClient; requests: Request[] } {
	const requests: Request[] = [];
	const client = createApiClient({
		baseUrl: BASE,
		token: () => token,
		send: async (request) => {
			requests.push(request.clone() as Request);
			return answer(request);
		},
	});
	return { client, requests };
}

async function failureOf(promise: Promise<unknown>): Promise<GswarmError> {
	const error = await promise.then(
		() => undefined,
		(thrown: unknown) => thrown,
	);
	expect(error).toBeInstanceOf(GswarmError);
	return error as GswarmError;
}

test("a parameter is one component of the path, whatever it holds", async () => {
	const { client, requests } = clientOf(() => Response.json({ model_name: "x", locations: [] }));
	await client.call("listLocations", { params: { model_name: "acme/tiny?#%" } });
	await client.call("removeLocation", { params: { model_name: "tiny", device: "node1:gpu0" } });
	expect(requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
		`GET ${BASE}/api/v1/models/acme%2Ftiny%3F%23%25/locations`,
		`DELETE ${BASE}/api/v1/models/tiny/locations/node1%3Agpu0`,
	]);
});

test("query, JSON body, bearer and headers arrive as given", async () => {
	const { client, requests } = clientOf(() => Response.json({}));
	await client.call("listModels", { query: { location: "node1:disk", page: 2 } });
	await client.call("copyModel", {
		params: { model_name: "tiny" },
		body: { source_device: "node1:disk", target_device: "node2:disk" },
		headers: { "idempotency-key": "k1" },
	});
	const [list, copy] = requests;
	expect(Object.fromEntries(new URL(list?.url ?? "").searchParams)).toEqual({
		location: "node1:disk",
		page: "2",
	});
	expect(list?.headers.get("authorization")).toBe("Bearer secret-token");
	expect(copy?.headers.get("content-type")).toContain("application/json");
	expect(copy?.headers.get("idempotency-key")).toBe("k1");
	expect(await copy?.json()).toEqual({ source_device: "node1:disk", target_device: "node2:disk" });
});

test("without a token no Authorization is sent", async () => {
	const requests: Request[] = [];
	const client = createApiClient({
		baseUrl: BASE,
		token: () => undefined,
		send: async (request) => {
			requests.push(request);
			return Response.json({ status: "ok" });
		},
	});
	expect(await client.call("health", {})).toEqual({ status: "ok" });
	expect(requests[0]?.headers.has("authorization")).toBe(false);
});

test("an error arrives as the agent said it", async () => {
	const { client } = clientOf(() =>
		Response.json(
			{
				error: {
					code: "RESOURCE_UNAVAILABLE",
					message: "No space on node1:disk.",
					details: { reason: "insufficient_space", hint: "Delete a model.", required: 9, available: 4 },
					timestamp: 1,
					request_id: "req-1",
				},
			},
			{ status: 507, headers: { "retry-after": "7" } },
		),
	);
	expect(await failureOf(client.call("listNodes", {}))).toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		message: "No space on node1:disk.",
		reason: "insufficient_space",
		hint: "Delete a model.",
		details: { reason: "insufficient_space", required: 9, available: 4 },
		status: 507,
		retryable: true,
		retryAfterS: 7,
	});
});

test("a wrong request is not worth repeating, a failing agent is", async () => {
	const error = { code: "INVALID_REQUEST", message: "m", details: {}, timestamp: 1, request_id: "r" };
	const statuses = new Map<number, boolean>();
	for (const status of [400, 404, 409, 408, 429, 500, 503]) {
		const { client } = clientOf(() => Response.json({ error }, { status }));
		statuses.set(status, (await failureOf(client.call("status", {}))).retryable);
	}
	expect([...statuses].filter(([, retryable]) => retryable).map(([status]) => status)).toEqual([
		408, 429, 500, 503,
	]);
});

test.each([
	["an HTML page of a proxy", () => new Response("<h1>Bad gateway</h1>", { status: 502 })],
	["an empty answer", () => new Response(null, { status: 500 })],
	["JSON of another shape", () => Response.json({ message: "no" }, { status: 404 })],
	["a redirect", () => new Response(null, { status: 302, headers: { location: "http://elsewhere.test/" } })],
])("%s is an unexpected answer with its status", async (_title, answer) => {
	const { client, requests } = clientOf(answer);
	const error = await failureOf(client.call("status", {}));
	expect(error).toMatchObject({
		code: "NETWORK_ERROR",
		reason: "unexpected_answer",
		status: answer().status,
	});
	expect(requests.length).toBe(1);
});

test("a good status with a body that is no JSON is a network error", async () => {
	const { client } = clientOf(() => new Response('{"nodes": [', { status: 200 }));
	expect(await failureOf(client.call("listNodes", {}))).toMatchObject({ code: "NETWORK_ERROR" });
});

test("a call is made once, also when it fails", async () => {
	const { client, requests } = clientOf(() => {
		throw new Error("connection reset");
	});
	expect(await failureOf(client.call("listNodes", {}))).toMatchObject({
		code: "NETWORK_ERROR",
		retryable: true,
	});
	expect(requests.length).toBe(1);
});

test("nobody listening is said with the address and what to do", async () => {
	const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
	const baseUrl = `http://127.0.0.1:${listener.port}`;
	listener.stop(true);
	const error = await failureOf(createApiClient({ baseUrl, token: () => undefined }).call("health", {}));
	expect(error).toMatchObject({
		code: "NETWORK_ERROR",
		reason: "connect_refused",
		details: { url: baseUrl },
	});
	expect(error.hint).toContain("gswarm agent");
});

test("an agent that accepts and never answers is a timeout", async () => {
	const sockets = new Set<Socket>();
	const server = createServer((socket) => sockets.add(socket));
	const listening = Promise.withResolvers<void>();
	server.listen(0, "127.0.0.1", () => listening.resolve());
	await listening.promise;
	const { port } = server.address() as { port: number };
	const baseUrl = `http://127.0.0.1:${port}`;
	const client = createApiClient({ baseUrl, token: () => undefined, timeoutMs: 50 });
	try {
		const error = await failureOf(client.call("health", {}));
		expect(error).toMatchObject({ code: "NETWORK_ERROR", reason: "timeout", retryable: true });
	} finally {
		for (const socket of sockets) socket.destroy();
		server.close();
	}
});

test("an aborted call ends with the caller's reason, not as a network error", async () => {
	const abort = new AbortController();
	const { client } = clientOf((request) => {
		const gone = Promise.withResolvers<Response>();
		request.signal.addEventListener("abort", () => gone.reject(request.signal.reason));
		abort.abort(new Error("stopped by the user"));
		return gone.promise;
	});
	const error: unknown = await client
		.call("listNodes", { signal: abort.signal })
		.catch((thrown: unknown) => thrown);
	expect(error).not.toBeInstanceOf(GswarmError);
	expect(abort.signal.aborted).toBe(true);
});

test("text is handed over as it comes", async () => {
	const { client } = clientOf(() => new Response("line 1\nline 2\n"));
	const response = await client.open("serviceLogs", { params: { service_id: "svc-1" }, query: { lines: 2 } });
	expect(await response.text()).toBe("line 1\nline 2\n");
});
