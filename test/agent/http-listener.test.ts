// Bytes on a socket, as no well-meaning client sends them.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import { MAX_JSON_BYTES } from "../../src/platform/limits.ts";
import { type TestApp, testApp } from "./test-app.ts";

const LIMIT_MS = 10_000;

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

/** What comes back on one connection until it is closed; the last request must ask for that. */
function exchange(...pieces: (string | Uint8Array)[]): Promise<string> {
	const { promise, resolve, reject } = Promise.withResolvers<string>();
	let answer = "";
	AbortSignal.timeout(LIMIT_MS).addEventListener("abort", () => reject(new Error(`still open: ${answer}`)));
	void Bun.connect({
		hostname: "127.0.0.1",
		port: listener.port,
		socket: {
			open(socket) {
				for (const piece of pieces) socket.write(piece);
			},
			data(_socket, bytes) {
				answer += bytes.toString();
			},
			close() {
				resolve(answer);
			},
			error(_socket, error) {
				reject(error);
			},
		},
	}).catch(reject);
	return promise;
}

const ours = (): string => `Host: 127.0.0.1:${listener.port}\r\n`;
const admin = (): string => `Authorization: Bearer ${t.bearer("admin")}\r\nConnection: close\r\n`;
const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
const get = (path: string, host = ours()): Promise<string> =>
	exchange(`GET ${path} HTTP/1.1\r\n${host}${admin()}\r\n`);

test("a plain request is answered", async () => {
	const answer = await get("/api/v1/nodes");
	expect(statusOf(answer)).toBe(200);
	expect(answer).toContain('"id":"listNodes"');
});

test.each([
	["another name", "evil.example"],
	["a bracket", "["],
	["a space", "a b"],
	["a person before ours", "a@127.0.0.1"],
	["a percent sign", "%"],
	["a path", "127.0.0.1/x"],
	["a port that is none", "127.0.0.1:99999"],
	["nothing", ""],
])("a Host that is %s is 403, never 5xx", async (_what, host) => {
	for (const path of ["/api/v1/nodes", "/v1/models"]) {
		const answer = await get(path, `Host: ${host}\r\n`);
		expect(statusOf(answer)).toBe(403);
		expect(answer).toContain("host_not_allowed");
	}
});

test("two Hosts are refused in either order, even if both are ours", async () => {
	for (const hosts of [`${ours()}Host: evil\r\n`, `Host: evil\r\n${ours()}`, `${ours()}${ours()}`]) {
		expect(statusOf(await get("/api/v1/nodes", hosts))).toBe(403);
	}
});

test("no Host is refused, in HTTP/1.0 too", async () => {
	expect(statusOf(await get("/api/v1/nodes", ""))).toBe(400);
	expect(statusOf(await exchange(`GET /api/v1/nodes HTTP/1.0\r\n${admin()}\r\n`))).toBe(403);
});

test("two tokens are none", async () => {
	const two = `${ours()}Authorization: Bearer x\r\n`;
	expect(statusOf(await get("/api/v1/nodes", two))).toBe(401);
});

describe("a request that can be read in two ways is closed", () => {
	const post = (headers: string, body: string): Promise<string> =>
		exchange(`POST /api/v1/models HTTP/1.1\r\n${ours()}${admin()}${headers}\r\n${body}`);

	test.each([
		["a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"],
		["two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}x"],
		["a length that is no number", "Content-Length: x\r\n", "{}"],
		["a negative length", "Content-Length: -1\r\n", "{}"],
		["a length beyond every number", "Content-Length: 99999999999999999999\r\n", "{}"],
		["a chunk without a size", "Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"],
	])("%s", async (_what, headers, body) => {
		t.handled.length = 0;
		expect(statusOf(await post(headers, body))).toBe(400);
		expect(t.handled).toEqual([]);
	});

	test("lines without a carriage return, other versions, another protocol", async () => {
		const bare = `GET /api/v1/nodes HTTP/1.1\nHost: 127.0.0.1:${listener.port}\n\n`;
		for (const text of [
			bare,
			"GET / HTTP/3.7\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"\x16\x03\x01\x02\x00\x01",
		]) {
			expect([400, 505]).toContain(statusOf(await exchange(text)));
		}
	});
});

test("a body in chunks is read up to 1 MiB and refused beyond, and so is one with a length", async () => {
	const frame = '{"model_name":"a","metadata":{"a":""}}';
	const body = (bytes: number): string => frame.replace('""', `"${"x".repeat(bytes - frame.length)}"`);
	const head = `POST /api/v1/models HTTP/1.1\r\n${ours()}${admin()}Content-Type: application/json\r\n`;
	const chunked = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;
	const url = `${listener.url}/api/v1/models`;
	const headers = { authorization: `Bearer ${t.bearer("admin")}`, "content-type": "application/json" };
	for (const [bytes, status] of [
		[MAX_JSON_BYTES, 201],
		[MAX_JSON_BYTES + 1, 413],
	] as const) {
		const text = body(bytes);
		expect((await fetch(url, { method: "POST", headers, body: text })).status).toBe(status);
		const stream = new Blob([text]).stream();
		expect((await fetch(url, { method: "POST", headers, body: stream })).status).toBe(status);
	}
	const small = await exchange(`${head}Transfer-Encoding: chunked\r\n\r\n${chunked('{"model_name":"a"}')}`);
	expect(statusOf(small)).toBe(201);
});

test("what is announced as far too long is refused without waiting for it", async () => {
	const head = `POST /api/v1/models HTTP/1.1\r\n${ours()}${admin()}Content-Length: 999999999\r\n\r\n`;
	expect(statusOf(await exchange(head))).toBe(413);
});

test.each([
	["/api/v1/models/%2e%2e%2f%2e%2e%2fetc", 400],
	["/api/v1/models/a%00b", 400],
	["/api/v1/models/%zz", 400],
	[`/api/v1/models/${"a".repeat(97)}`, 400],
	[`/api/v1/models/${"a".repeat(17_000)}`, 431],
	["//evil/api/v1/nodes", 404],
	["/api/v1/nodes?%zz=%E0", 400],
	["/api/v1/models/../../../etc/passwd", 404],
])("GET %s is %d", async (path, status) => {
	expect(statusOf(await get(path))).toBe(status);
});

test("an address with a name of its own does not get past the Host", async () => {
	const absolute = (host: string): Promise<string> =>
		get("http://127.0.0.1/api/v1/nodes", `Host: ${host}\r\n`);
	expect(statusOf(await absolute("evil.example"))).toBe(403);
});

test("two requests on one connection are two, each with its own answer", async () => {
	const first = `GET /api/v1/nodes HTTP/1.1\r\n${ours()}Authorization: Bearer ${t.bearer("viewer")}\r\n\r\n`;
	const second = `GET /api/v1/services HTTP/1.1\r\n${ours()}${admin()}\r\n`;
	const answer = await exchange(first + second);
	expect([...answer.matchAll(/"id":"(\w+)"/g)].map((it) => it[1])).toEqual(["listNodes", "listServices"]);
});

test("nothing but the address it was given is listened on", () => {
	expect(listener.url).toBe(`http://127.0.0.1:${listener.port}`);
	const other = () => openListener({ bind: "127.0.0.1", port: listener.port, app: t.app });
	expect(other).toThrow(expect.objectContaining({ code: "CONFLICT", reason: "port_in_use" }));
});
