// What the door relies on of sockets: that Bun bounds heads, that a refusal of a slow body ends its connection.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import { until } from "../support/until.ts";
import { HOST, type TestApp, testApp } from "./test-app.ts";

const LIMIT_MS = 20_000;

let t: TestApp;
let listener: OpenListener;
beforeAll(async () => {
	t = await testApp("host", { port: () => listener.port });
	listener = openListener({ bind: "127.0.0.1", port: 0, app: t.app });
});
afterAll(async () => {
	await listener.close();
	await t[Symbol.asyncDispose]();
});

interface Talk {
	send(text: string): void;
	/** What has come back so far. */
	answer: string;
	closed: Promise<void>;
	end(): void;
}

async function talk(): Promise<Talk> {
	const { promise: closed, resolve } = Promise.withResolvers<void>();
	const it: Talk = { send: () => {}, answer: "", closed, end: () => {} };
	const socket = await Bun.connect({
		hostname: "127.0.0.1",
		port: listener.port,
		socket: {
			data(_socket, bytes) {
				it.answer += bytes.toString();
			},
			close: () => resolve(),
			error: () => resolve(),
		},
	});
	it.send = (text) => void socket.write(text);
	it.end = () => socket.end();
	return it;
}

/** What comes back to one request, which is the last of its connection. */
async function ask(head: string): Promise<string> {
	const it = await talk();
	it.send(head);
	await Promise.race([
		it.closed,
		new Promise((_resolve, reject) =>
			AbortSignal.timeout(LIMIT_MS).addEventListener("abort", () =>
				reject(new Error(`still open: ${it.answer}`)),
			),
		),
	]);
	return it.answer;
}

const ours = (): string => `Host: 127.0.0.1:${listener.port}\r\n`;
const admin = (): string => `Authorization: Bearer ${t.bearer("admin")}\r\n`;
const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);

describe("a head", () => {
	const get = (more: string, path = "/api/v1/nodes"): Promise<string> =>
		ask(`GET ${path} HTTP/1.1\r\n${ours()}${admin()}Connection: close\r\n${more}\r\n`);

	test("may have many headers, but not more than 200", async () => {
		const headers = (count: number): string =>
			Array.from({ length: count }, (_, i) => `x-${i}: 1\r\n`).join("");
		expect(statusOf(await get(headers(190)))).toBe(200);
		expect(statusOf(await get(headers(200)))).toBe(431);
	});

	test("may be large, but not larger than 16 kB, in one header, in many, or in its first line", async () => {
		expect(statusOf(await get(`x-pad: ${"x".repeat(15_000)}\r\n`))).toBe(200);
		expect(statusOf(await get(`x-pad: ${"x".repeat(17_000)}\r\n`))).toBe(431);
		const many = Array.from({ length: 17 }, (_, i) => `x-${i}: ${"x".repeat(1000)}\r\n`).join("");
		expect(statusOf(await get(many))).toBe(431);
		expect(statusOf(await get("", `/api/v1/nodes?a=${"x".repeat(17_000)}`))).toBe(431);
	});
});

test("an answer says over the wire what it says in here, and nothing of who sent it", async () => {
	for (const path of ["/api/v1/nodes", "/api/v1/nothing", "/v1/models"]) {
		const answer = await ask(`GET ${path} HTTP/1.1\r\n${ours()}${admin()}Connection: close\r\n\r\n`);
		const head = (answer.split("\r\n\r\n")[0] ?? "").toLowerCase();
		expect(head).toContain("\r\nx-content-type-options: nosniff\r\n");
		expect(head).toContain("\r\nx-frame-options: deny");
		expect(head).not.toContain("\r\nserver:");
		expect(head).not.toContain("x-powered-by");
		expect(head).not.toContain("access-control-");
		expect(head.match(/\r\nx-request-id:/g)).toHaveLength(1);
	}
});

test.each([
	["announced", "Content-Length: 100\r\n", "{"],
	["announced to be large", "Content-Length: 100000\r\n", "{"],
	["in chunks", "Transfer-Encoding: chunked\r\n", "1\r\n{\r\n"],
])(
	"a body that drips, %s, is 408 after half a minute and its connection ends",
	async (_what, length, first) => {
		const it = await talk();
		const sleeping = t.clock.sleeping;
		it.send(
			`POST /api/v1/models HTTP/1.1\r\n${ours()}${admin()}Content-Type: application/json\r\n${length}\r\n${first}`,
		);
		await until("the body is watched", () => t.clock.sleeping > sleeping);
		await t.clock.advance(20_000);
		expect(it.answer).toBe("");
		await t.clock.advance(12_000);
		await it.closed;
		expect(statusOf(it.answer)).toBe(408);
		expect(it.answer).toContain("slow_body");
		// Others are not disturbed.
		const other = await ask(`GET /api/v1/nodes HTTP/1.1\r\n${ours()}${admin()}Connection: close\r\n\r\n`);
		expect(statusOf(other)).toBe(200);
	},
);

test("a body that a GET brings is refused, and so is one with DELETE", async () => {
	for (const method of ["GET", "DELETE"]) {
		const path = method === "GET" ? "/api/v1/nodes" : "/api/v1/models/tiny";
		const answer = await ask(
			`${method} ${path} HTTP/1.1\r\n${ours()}${admin()}Connection: close\r\nContent-Length: 2\r\n\r\n{}`,
		);
		expect(statusOf(answer)).toBe(400);
		expect(answer).toContain("body_not_expected");
	}
});

describe("how long a connection may be silent", () => {
	interface Noted {
		connection: { wait: () => void; hurry: () => void };
		said: string[];
	}
	const noted = (): Noted => {
		const said: string[] = [];
		return { said, connection: { wait: () => void said.push("wait"), hurry: () => void said.push("hurry") } };
	};
	const request = (path: string, as: "admin" | undefined, method = "POST"): Request =>
		new Request(`http://${HOST}${path}`, {
			method,
			headers: { host: HOST, ...(as === undefined ? {} : { authorization: `Bearer ${t.bearer(as)}` }) },
		});

	test("who is not let in is not waited for, whatever they ask for", async () => {
		await using app = await testApp("host");
		await using peer = await testApp("peer", {
			handle: () => {
				throw new Error("no grant");
			},
		});
		for (const [path, method] of [
			["/v1/chat/completions", "POST"],
			["/v1/models", "GET"],
			["/v1/nothing", "GET"],
			["/api/v1/services/svc-a/logs", "GET"],
		] as const) {
			const { connection, said } = noted();
			expect((await app.app(request(path, undefined, method), "::1", connection)).status).toBe(401);
			expect(said).toEqual([]);
		}
		const { connection, said } = noted();
		const part = request(`/parts/${"a".repeat(64)}/0`, undefined, "GET");
		expect((await peer.app(part, "::1", connection)).status).toBe(500);
		expect(said).toEqual([]);
	});

	const as = (app: TestApp, path: string): Request =>
		new Request(`http://${HOST}${path}`, {
			method: "POST",
			headers: { host: HOST, authorization: `Bearer ${app.bearer("user")}` },
		});

	test("a model is waited for, and then no longer, also when it fails", async () => {
		for (const handle of [
			() => new Response("{}"),
			() => {
				throw new Error("no");
			},
		]) {
			await using app = await testApp("host", { handle });
			const { connection, said } = noted();
			await app.app(as(app, "/v1/chat/completions"), "::1", connection);
			expect(said).toEqual(["wait", "hurry"]);
		}
	});

	test("a stream has its time until its end, and comes through as it was", async () => {
		await using app = await testApp("host", {
			handle: () =>
				new Response(new Blob(["data: 1\n\n", "data: [DONE]\n\n"]).stream(), {
					headers: { "content-type": "text/event-stream", "x-model": "a" },
				}),
		});
		const { connection, said } = noted();
		const answer = await app.app(as(app, "/v1/chat/completions"), "::1", connection);
		expect(said).toEqual(["wait"]);
		expect([answer.status, answer.headers.get("x-model")]).toEqual([200, "a"]);
		expect(await answer.text()).toBe("data: 1\n\ndata: [DONE]\n\n");
		expect(said).toEqual(["wait", "hurry"]);
	});

	test("a stream that breaks breaks here too, and one that is left is left there", async () => {
		let left: unknown;
		let isBroken = false;
		await using app = await testApp("host", {
			handle: () =>
				new Response(
					new ReadableStream({
						pull(controller) {
							if (isBroken) controller.error(new Error("engine gone"));
							else controller.enqueue(new TextEncoder().encode("data: 1\n\n"));
						},
						cancel(reason) {
							left = reason;
						},
					}),
					{ headers: { "content-type": "text/event-stream; charset=utf-8" } },
				),
		});
		const { connection, said } = noted();
		const answer = await app.app(as(app, "/v1/chat/completions"), "::1", connection);
		const reader = answer.body?.getReader();
		expect((await reader?.read())?.done).toBe(false);
		await reader?.cancel("gone");
		expect(left).toBe("gone");
		isBroken = true;
		const broken = await app.app(as(app, "/v1/chat/completions"), "::1", connection);
		expect(broken.text()).rejects.toThrow("engine gone");
		await until("the connection is hurried", () => said.includes("hurry"));
	});
});
