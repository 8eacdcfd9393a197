/**
 * What the checks in front of every route cost a request: limits, Host, Origin, token, role, parameters and schema, and
 * the headers of the answer; beside the same handler called without any of them. And what 500 clients who never finish
 * the head of a request (slow loris) do to those who do.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type App, type Handlers, createApp } from "../src/agent/http/app.ts";
import { allowedHosts } from "../src/agent/http/browser-guard.ts";
import { openListener } from "../src/agent/http/listener.ts";
import {
	auditModule,
	createIdentity,
	formatToken,
	identityModule,
	makeToken,
} from "../src/core/identity/identity.ts";
import { systemClock } from "../src/platform/clock.ts";
import { openInlineDatabase } from "../src/platform/database.ts";
import { systemIds } from "../src/platform/ids.ts";
import { silentLog } from "../src/platform/log.ts";
import { startCluster } from "./cluster.ts";
import { type BenchContext, type Measured, median } from "./row.ts";

const ROWS = {
	read: { name: "checks of a GET with a query", unit: "µs", goal: { oursBelow: 50 } },
	write: { name: "checks of a POST with 1 kB of JSON", unit: "µs", goal: { oursBelow: 50 } },
	gateway: { name: "checks of a request to the gateway", unit: "µs", goal: { oursBelow: 50 } },
	http: { name: "the whole answer to a GET over HTTP", unit: "µs", goal: { oursBelow: 50 } },
	others: { name: "others' p99 beside 500 unfinished heads", unit: "ms", goal: { oursBelow: 100 } },
	closed: { name: "an unfinished head is closed after", unit: "s", goal: { oursBelow: 15 } },
} as const;

const HOST = "127.0.0.1:8000";
const ROUNDS = 7;
const REQUESTS = 5_000;
const QUICK_REQUESTS = 300;
const SLOW_CLIENTS = 500;
const CLOSED_LIMIT_MS = 60_000;

export async function benchAuth(context: BenchContext): Promise<Measured[]> {
	return [...(await checks(context)), ...(await slowLoris(context))];
}

interface Probe {
	app: App;
	token: string;
	/** The port that Hosts must have from now on. */
	listen(port: number): void;
}

async function checks({ say, quick }: BenchContext): Promise<Measured[]> {
	const requests = quick ? QUICK_REQUESTS : REQUESTS;
	await using probe = await openProbe();
	say(`${ROUNDS} rounds of ${requests} requests of each kind, with and without the checks`);
	const rows: Measured[] = [];
	for (const [key, kind] of Object.entries(kinds(probe))) {
		const added: number[] = [];
		for (let round = -2; round < ROUNDS; round++) {
			const checked = await p50Of(requests, kind.request, (request) => probe.app(request, "127.0.0.1"));
			const bare = await p50Of(requests, kind.request, kind.bare);
			if (round >= 0) added.push((checked - bare) * 1000);
		}
		rows.push({ ...ROWS[key as "read" | "write" | "gateway"], ours: added, peer: undefined });
	}
	return [...rows, await overHttp(probe, requests)];
}

interface Kind {
	request: () => Request;
	/** The handler's work alone: it reads the body where there is one, and answers. */
	bare: (request: Request) => Promise<Response>;
}

const ANSWER = { models: [], total: 0, page: 1, per_page: 20 };

function kinds({ token }: Probe): Record<string, Kind> {
	const headers = {
		host: HOST,
		authorization: `Bearer ${token}`,
		accept: "*/*",
		"accept-encoding": "gzip, deflate, br",
		"user-agent": "bench",
	};
	const metadata = Object.fromEntries(
		Array.from({ length: 30 }, (_, i) => [`key_${i}`, `some value, number ${i}`]),
	);
	const body = JSON.stringify({ model_name: "acme/tiny", model_type: "llm", model_size: 123_456, metadata });
	const post = (path: string) => (): Request =>
		new Request(`http://${HOST}${path}`, {
			method: "POST",
			headers: { ...headers, "content-type": "application/json", "content-length": String(body.length) },
			body,
		});
	const bareJson = async (request: Request): Promise<Response> => {
		await request.json();
		return Response.json(ANSWER);
	};
	return {
		read: {
			request: () => new Request(`http://${HOST}/api/v1/models?page=1&per_page=20`, { headers }),
			bare: () => Promise.resolve(Response.json(ANSWER)),
		},
		write: { request: post("/api/v1/models"), bare: bareJson },
		gateway: { request: post("/v1/chat/completions"), bare: () => Promise.resolve(Response.json(ANSWER)) },
	};
}

/** Milliseconds of the median call; making the request is not counted. */
async function p50Of(
	count: number,
	request: () => Request,
	answer: (request: Request) => Promise<Response>,
): Promise<number> {
	const times: number[] = [];
	for (let i = 0; i < count; i++) {
		const one = request();
		const started = performance.now();
		await answer(one);
		times.push(performance.now() - started);
	}
	return median(times) ?? Number.NaN;
}

/** As above over a socket: from the request's arrival in the listener until its answer is ready to be sent. */
async function overHttp(probe: Probe, requests: number): Promise<Measured> {
	const times: number[] = [];
	const listener = openListener({
		bind: "127.0.0.1",
		port: 0,
		async app(request, address, connection) {
			const started = performance.now();
			const response = await probe.app(request, address, connection);
			times.push(performance.now() - started);
			return response;
		},
	});
	probe.listen(listener.port);
	const ours: number[] = [];
	for (let round = -1; round < ROUNDS; round++) {
		times.length = 0;
		for (let i = 0; i < requests; i++) {
			const headers = { authorization: `Bearer ${probe.token}` };
			const response = await fetch(`${listener.url}/api/v1/models?page=1`, { headers });
			if (response.status !== 200) throw new Error(`answered ${response.status}`);
			await response.arrayBuffer();
		}
		if (round >= 0) ours.push((median(times) ?? Number.NaN) * 1000);
	}
	await listener.close();
	return { ...ROWS.http, ours, peer: undefined };
}

/** A host's listener over a real database of tokens, whose handlers do nothing. */
async function openProbe(): Promise<Probe & AsyncDisposable> {
	const dir = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	const db = openInlineDatabase(join(dir, "agent.sqlite"), [identityModule, auditModule]);
	const identity = createIdentity({ db, clock: systemClock, ids: systemIds });
	const token = formatToken(makeToken(systemIds, "admin"));
	await identity.setAdmin(token);
	const handlers = new Proxy(
		{},
		{ get: (_target, id) => () => (String(id).startsWith("gateway") ? Response.json(ANSWER) : ANSWER) },
	) as Handlers<"host">;
	let port = 8000;
	const app = createApp("host", handlers, {
		identity,
		clock: systemClock,
		ids: systemIds,
		log: silentLog,
		allowedHosts: () => allowedHosts(["gpu1", "gpu1.lab.local", "10.0.0.5"], port),
		audit: { record: () => undefined },
	});
	return {
		app,
		token,
		listen: (next) => {
			port = next;
		},
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			rmSync(dir, { recursive: true, force: true });
		},
	};
}

async function slowLoris({ say, quick }: BenchContext): Promise<Measured[]> {
	const home = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	await using cluster = await startCluster({ home, nodes: [], allow: [] });
	const { hostname, port } = new URL(cluster.client.baseUrl);
	say(`${SLOW_CLIENTS} clients send half of a head each, and then a header a second`);
	const clients = Array.from({ length: SLOW_CLIENTS }, () => dripHead(hostname, Number(port)));
	const all = Promise.all(clients);
	const others: number[] = [];
	let areClosed = false;
	void all.then(() => (areClosed = true));
	while (!areClosed && others.length < (quick ? 2_000 : 100_000)) {
		const started = performance.now();
		await cluster.client.call("listNodes", {});
		others.push(performance.now() - started);
		await Bun.sleep(2);
	}
	const seconds = await all;
	const p99 = others.toSorted((a, b) => a - b)[Math.floor(others.length * 0.99)] ?? Number.NaN;
	return [
		{ ...ROWS.others, ours: [p99], peer: undefined },
		{ ...ROWS.closed, ours: seconds, peer: undefined },
	];
}

/** Seconds until the server closes a connection whose head never ends. */
async function dripHead(hostname: string, port: number): Promise<number> {
	const started = performance.now();
	const { promise: closed, resolve } = Promise.withResolvers<void>();
	const socket = await Bun.connect({
		hostname,
		port,
		socket: { data: () => undefined, close: () => resolve(), error: () => resolve() },
	});
	socket.write("GET /api/v1/health HTTP/1.1\r\n");
	const dripping = setInterval(() => socket.write("x-more: 1\r\n"), 1_000);
	const limit = setTimeout(resolve, CLOSED_LIMIT_MS);
	await closed;
	clearInterval(dripping);
	clearTimeout(limit);
	socket.end();
	return (performance.now() - started) / 1000;
}
