import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound, type Outbound, type OutboundOptions } from "../../src/platform/outbound.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { type ByteServer, startByteServer } from "../support/byte-server.ts";
import type { ByteReply, ByteRequest } from "../support/byte-server/messages.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { type FileServer, startFileServer } from "../support/file-server.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const PUBLIC = "93.184.216.34";
const dir = tempDir();
let files: FileServer;
let secure: FileServer;
const open: ByteServer[] = [];

beforeAll(() => {
	mkdirSync(dir.path, { recursive: true });
	writeFileSync(join(dir.path, "model.bin"), "0123456789");
	files = startFileServer({ dir: dir.path });
	secure = startFileServer({ dir: dir.path, https: true });
});
afterEach(() => {
	for (const server of open.splice(0)) server.stop();
	files.exchanges.length = 0;
	secure.exchanges.length = 0;
});
afterAll(() => {
	files.stop();
	secure.stop();
	dir[Symbol.dispose]();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const outbound = (options: Partial<OutboundOptions> = {}): Outbound =>
	createOutbound({ clock: systemClock, log: silentLog }, { allow: [], ...options });
const refusal = async (client: Outbound, url: string): Promise<GswarmError> => {
	const error: unknown = await client.request(url, { signal: signal() }).then(
		() => undefined,
		(thrown: unknown) => thrown,
	);
	if (!(error instanceof GswarmError)) throw new Error(`${url} was not refused: ${String(error)}`);
	return error;
};
/** A server whose answers are a function of the request, as a stand-in for a host with a public address. */
function serve(answer: (request: ByteRequest) => ByteReply): ByteServer {
	const server = startByteServer({ answer });
	open.push(server);
	return server;
}
/** Leads requests for public addresses to servers of the test, by host and port; everything else fails. */
function internet(hosts: Record<string, ByteServer>): Partial<OutboundOptions> & { connected: string[] } {
	const connected: string[] = [];
	return {
		connected,
		resolve: async (host) => (host in hosts ? [PUBLIC] : []),
		transport: async (url, init) => {
			const target = new URL(url);
			connected.push(target.host);
			const host = new Headers(init.headers).get("host") ?? "";
			const server = hosts[host];
			if (server === undefined || target.hostname !== PUBLIC)
				throw new Error(`no route to ${url} as ${host}`);
			return await fetch(`http://127.0.0.1:${server.port}${target.pathname}${target.search}`, init);
		},
	};
}

describe("what is refused before anything is sent", () => {
	test.each([
		"file:///etc/passwd",
		"data:text/plain,hello",
		"ftp://example.com/x",
		"gopher://example.com/",
		"unix:/run/docker.sock",
		"blob:https://example.com/1",
		"s3://bucket/key",
		"javascript:alert(1)",
	])("%s is 400 scheme_not_allowed", async (url) => {
		const error = await refusal(outbound(), url);
		expect([error.status, error.reason]).toEqual([400, "scheme_not_allowed"]);
		expect(() => outbound().check(url)).toThrow(error.message);
	});

	test.each([
		"http://127.0.0.1:8000/",
		"http://localhost:8000/",
		"http://localhost.:8000/",
		"http://LOCALHOST/",
		"http://a.localhost/",
		"http://localhost../",
		"http://loc\u00adalhost/",
		"http://ⓛocalhost/",
		"http://%6cocalhost/",
		"http://ip6-localhost/",
		"http://localhost.localdomain/",
		"http://[::1]/",
		"http://[::]/",
		"http://[0:0:0:0:0:0:0:1]/",
		"http://[::127.0.0.1]/",
		"http://[::ffff:0:127.0.0.1]/",
		"http://[2002:7f00:1::]/",
		"http://[2002:a9fe:a9fe::]/",
		"http://[2001:0:53aa:64c:0:0:80ff:fffe]/",
		"http://[64:ff9b:1::7f00:1]/",
		"http://[64:ff9b::a9fe:a9fe]/",
		"http://[fec0::1]/",
		"http://[::ffff:7f00:1]/",
		"http://[64:ff9b::7f00:1]/",
		"http://0/",
		"http://0x7f.1/",
		"http://2130706433/",
		"http://127.1/",
		"http://127.0.0.1./",
		"http://127.0.0.1../",
		"http://2130706433../",
		"http://0177.0.0.1/",
		"http://017700000001/",
		"http://0x7f000001/",
		"http://0x7F.0.0x1/",
		"http://0.0.0.0/",
		"http://127.0.0.1%2e/",
		"http://%31%32%37.0.0.1/",
		"http://127。0。0。1/",
		"http:127.0.0.1",
		"http:///127.0.0.1/",
		"http:\\\\127.0.0.1\\x",
		"http://127.0.0.1\t:8000/",
		"HTTP://127.0.0.1:80/",
		"https://127.0.0.1:443/",
		"http://①②⑦.0.0.1/",
		"http://169.254.169.254/latest/meta-data/",
		"http://169.254.169.254./",
		"http://[fd00:ec2::254]/",
		"http://metadata.google.internal/computeMetadata/v1/",
		"http://METADATA.google.internal./computeMetadata/v1/",
		"http://metadata/computeMetadata/v1/",
		"http://2852039166/latest/meta-data/",
		"http://0xa9fea9fe/latest/meta-data/",
		"http://100.100.100.200/",
		"http://168.63.129.16/",
		"http://10.0.0.1/",
		"http://172.16.0.1/",
		"http://192.168.0.1/",
		"http://100.64.0.1/",
		"http://[fc00::1]/",
		"http://[fe80::1]/",
		"http://224.0.0.1/",
		"http://255.255.255.255/",
	])("%s is 403 address_blocked", async (url) => {
		const client = outbound({
			transport: () => Promise.reject(new Error("something was sent")),
			resolve: () => Promise.reject(new Error("the DNS was asked")),
		});
		const error = await refusal(client, url);
		expect([error.status, error.code, error.reason]).toEqual([403, "FORBIDDEN", "address_blocked"]);
		expect(() => client.check(url)).toThrow(error.message);
	});

	test("private addresses pass where the operator allows them, loopback and metadata never", async () => {
		const client = outbound({ allowPrivate: true, transport: async () => new Response("ok") });
		for (const url of [
			"http://10.0.0.1/",
			"http://192.168.0.1/",
			"http://100.64.0.1/",
			"http://[fc00::1]/",
		]) {
			expect((await client.request(url, { signal: signal() })).response.status).toBe(200);
		}
		for (const url of ["http://127.0.0.1/", "http://169.254.169.254/", "http://[fd00:ec2::254]/"]) {
			expect((await refusal(client, url)).reason).toBe("address_blocked");
		}
	});

	test("a user name or password in the URL is refused and not repeated", async () => {
		const error = await refusal(outbound(), "https://someone:canary@example.com/");
		expect([error.status, error.reason]).toEqual([400, "credentials_in_url"]);
		expect(JSON.stringify([error.message, error.details])).not.toContain("canary");
	});

	test("what is no URL, or a very long one, is 400 bad_url", async () => {
		for (const url of [
			"http://",
			"http://[fe80::1%25eth0]/",
			"http://[::ffff:127.0.0.1%25lo]/",
			"http://256.1.1.1/",
			"http://0x100000000/",
			"http://exa mple/",
			"http://xn--/",
			"//example.com/x",
			"http://example.com:99999/",
		])
			expect([url, (await refusal(outbound(), url)).reason]).toEqual([url, "bad_url"]);
		expect((await refusal(outbound(), `http://example.com/${"x".repeat(9000)}`)).reason).toBe("bad_url");
	});
});

describe("names", () => {
	test("a name is refused when any of its addresses is not public", async () => {
		for (const address of [
			"127.0.0.1",
			"169.254.169.254",
			"10.1.2.3",
			"::1",
			"::ffff:10.0.0.1",
			"nonsense",
		]) {
			const client = outbound({
				resolve: async () => [PUBLIC, address],
				transport: () => Promise.reject(new Error("something was sent")),
			});
			expect((await refusal(client, "http://rebind.example/")).reason).toBe("address_blocked");
		}
	});

	test("the connection goes to the address that was checked, asked for once, with the name in Host", async () => {
		let asked = 0;
		const client = outbound({
			allow: [`http://model.example:${files.port}`],
			resolve: async () => (asked++ === 0 ? ["127.0.0.1"] : ["127.0.0.2"]),
		});
		const { response } = await client.request(`http://model.example:${files.port}/model.bin`, {
			signal: signal(),
		});
		expect(await response.text()).toBe("0123456789");
		expect(asked).toBe(1);
		expect(files.exchanges.map(({ headers }) => headers.host)).toEqual([`model.example:${files.port}`]);
	});

	test("a DNS that says something else at the next request leads nowhere else", async () => {
		const answers = [[PUBLIC], ["127.0.0.1"], ["169.254.169.254"]];
		const connected: string[] = [];
		const client = outbound({
			resolve: async () => answers.shift() ?? [],
			transport: async (url) => {
				connected.push(new URL(url).hostname);
				return new Response("ok");
			},
		});
		const url = "http://rebind.example/";
		expect((await client.request(url, { signal: signal() })).response.status).toBe(200);
		for (const _ of ["loopback", "metadata"])
			expect((await refusal(client, url)).reason).toBe("address_blocked");
		expect(connected).toEqual([PUBLIC]);
	});

	test("a DNS that never answers is a retryable timeout, by the clock", async () => {
		const clock = new FakeClock();
		const client = createOutbound(
			{ clock, log: silentLog },
			{ allow: [], resolve: () => new Promise(() => {}) },
		);
		const asked = client
			.request("http://slow.example/", { signal: signal(), connectTimeoutMs: 5000 })
			.catch((error: unknown) => error);
		await clock.advance(5000);
		expect(await asked).toMatchObject({ code: "NETWORK_ERROR", reason: "timeout", retryable: true });
	});

	test("a name without an address is a retryable dns_failed", async () => {
		const error = await refusal(outbound({ resolve: async () => [] }), "http://nowhere.example/");
		expect([error.code, error.reason, error.retryable]).toEqual(["NETWORK_ERROR", "dns_failed", true]);
	});

	test("a second address is tried when the first takes no connection", async () => {
		const server = serve(() => ({ status: 200, body: "here" }));
		const tried: string[] = [];
		const client = outbound({
			resolve: async () => ["1.1.1.1", "2606:4700::1"],
			transport: async (url, init) => {
				tried.push(new URL(url).hostname);
				if (tried.length === 1) throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
				return await fetch(server.url, init);
			},
		});
		const { response } = await client.request("http://two.example/", { signal: signal() });
		expect(await response.text()).toBe("here");
		expect(tried).toEqual(["1.1.1.1", "[2606:4700::1]"]);
	});
});

describe("listed origins", () => {
	test("are exempt by exact scheme, host and port", async () => {
		const client = outbound({ allow: [files.url] });
		const { response } = await client.request(`${files.url}/model.bin`, { signal: signal() });
		expect(await response.text()).toBe("0123456789");
		for (const url of [
			`http://127.0.0.1:${files.port + 1}/`,
			`https://127.0.0.1:${files.port}/`,
			`http://localhost:${files.port}/`,
			`http://127.0.0.2:${files.port}/`,
		]) {
			expect((await refusal(client, url)).reason).toBe("address_blocked");
		}
	});

	test("their redirects pass to listed origins and public addresses only", async () => {
		files.set({ redirects: { "/in": "http://127.0.0.1:1/secret" } });
		const error = await refusal(outbound({ allow: [files.url] }), `${files.url}/in`);
		expect([error.status, error.reason]).toEqual([502, "redirect_blocked"]);
		files.set({ redirects: undefined });
	});
});

describe("redirects", () => {
	test.each([
		"http://127.0.0.1/",
		"http://169.254.169.254/latest/",
		"http://[::1]/",
		"http://localhost./",
		"http://10.0.0.1/",
		"file:///etc/passwd",
		"data:text/plain,x",
		"http://user:password@evil.example/",
		"http://",
	])("to %s is 502 redirect_blocked", async (location) => {
		const server = serve(() => ({ status: 302, headers: { location } }));
		const net = internet({ "models.example": server });
		const error = await refusal(outbound(net), "http://models.example/x");
		expect([error.status, error.code, error.reason]).toEqual([502, "NETWORK_ERROR", "redirect_blocked"]);
		expect(error.retryable).toBe(false);
		expect(net.connected).toEqual([PUBLIC]);
	});

	test("to a name that resolves inside is redirect_blocked", async () => {
		const server = serve(() => ({ status: 302, headers: { location: "http://inside.example/" } }));
		const net = internet({ "models.example": server });
		const client = outbound({
			...net,
			resolve: async (host) => [host === "inside.example" ? "192.168.1.1" : PUBLIC],
		});
		expect((await refusal(client, "http://models.example/x")).reason).toBe("redirect_blocked");
	});

	test("to the same name are resolved and checked again, so that it cannot change in between", async () => {
		const answers = [[PUBLIC], ["127.0.0.1"]];
		const server = serve(() => ({ status: 302, headers: { location: "/next" } }));
		const net = internet({ "models.example": server });
		const client = outbound({ ...net, resolve: async () => answers.shift() ?? [] });
		expect((await refusal(client, "http://models.example/x")).reason).toBe("redirect_blocked");
		expect(net.connected).toEqual([PUBLIC]);
	});

	test("from https to http is redirect_blocked, also between listed origins", async () => {
		secure.set({ redirects: { "/down": `${files.url}/model.bin` } });
		const client = outbound({ allow: [secure.url, files.url], ca: LOOPBACK_CERTIFICATE.cert });
		const error = await refusal(client, `${secure.url}/down`);
		expect([error.reason, error.message]).toEqual([
			"redirect_blocked",
			expect.stringContaining("from https to http"),
		]);
		expect(files.exchanges).toEqual([]);
		secure.set({ redirects: undefined });
	});

	test("five are followed, a sixth is not", async () => {
		const server = serve(({ target }) => {
			const left = Number(target.slice(1));
			return left === 0
				? { status: 200, body: "there" }
				: { status: 302, headers: { location: `/${left - 1}` } };
		});
		const net = internet({ "models.example": server });
		const { response, url } = await outbound(net).request("http://models.example/5", { signal: signal() });
		expect([await response.text(), url]).toEqual(["there", "http://models.example/0"]);
		expect((await refusal(outbound(net), "http://models.example/6")).reason).toBe("redirect_blocked");
	});

	test("in a circle are redirect_blocked", async () => {
		const server = serve(({ target }) => ({
			status: 302,
			headers: { location: target === "/a" ? "/b" : "/a" },
		}));
		const net = internet({ "models.example": server });
		const error = await refusal(outbound(net), "http://models.example/a");
		expect(error.message).toContain("circle");
		expect(server.exchanges.length).toBe(2);
	});

	test("to another origin take neither the credential nor headers of the caller along, nor bring them back", async () => {
		const home = serve(({ target }) =>
			target === "/away"
				? { status: 302, headers: { location: "http://cdn.example/blob" } }
				: { status: 200 },
		);
		const cdn = serve(() => ({ status: 302, headers: { location: "http://hub.example/back" } }));
		const net = internet({ "hub.example": home, "cdn.example": cdn });
		await outbound(net).request("http://hub.example/away", {
			headers: { range: "bytes=0-1", "x-api-key": "canary" },
			credential: { origin: "http://hub.example", header: "Bearer canary" },
			signal: signal(),
		});
		const [first, back] = home.exchanges;
		expect([first?.authorization, first?.headers["x-api-key"]]).toEqual(["Bearer canary", "canary"]);
		expect(JSON.stringify([cdn.exchanges, back])).not.toContain("canary");
		expect([cdn.exchanges[0]?.range, back?.range]).toEqual(["bytes=0-1", "bytes=0-1"]);
	});

	test("within the origin keep the credential", async () => {
		const home = serve(({ target }) =>
			target === "/a" ? { status: 307, headers: { location: "/b" } } : { status: 200 },
		);
		const net = internet({ "hub.example": home });
		await outbound(net).request("http://hub.example/a", {
			credential: { origin: "http://hub.example", header: "Bearer canary" },
			signal: signal(),
		});
		expect(home.exchanges.map(({ authorization }) => authorization)).toEqual([
			"Bearer canary",
			"Bearer canary",
		]);
	});

	test("a credential for another origin than the one asked is not sent", async () => {
		const home = serve(() => ({ status: 200 }));
		await outbound(internet({ "evil.example": home })).request("http://evil.example/", {
			credential: { origin: "http://hub.example", header: "Bearer canary" },
			signal: signal(),
		});
		expect(home.exchanges[0]?.authorization).toBeUndefined();
	});
});

describe("TLS", () => {
	test("the certificate is checked against the name, not against the address that was connected to", async () => {
		const origin = (name: string) => `https://${name}:${secure.port}`;
		const client = outbound({
			allow: [origin("localhost"), origin("models.example")],
			resolve: async () => ["127.0.0.1"],
			ca: LOOPBACK_CERTIFICATE.cert,
		});
		const { response } = await client.request(`${origin("localhost")}/model.bin`, { signal: signal() });
		expect(await response.text()).toBe("0123456789");
		// The certificate is good for 127.0.0.1 too, so only the name can have failed.
		const error = await refusal(client, `${origin("models.example")}/model.bin`);
		expect([error.code, error.reason, error.retryable]).toEqual(["NETWORK_ERROR", "tls_failed", false]);
	});

	test("certificates are checked even where the environment says not to", async () => {
		const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
		process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
		try {
			expect((await fetch(`${secure.url}/model.bin`)).status).toBe(200);
			const error = await refusal(outbound({ allow: [secure.url] }), `${secure.url}/model.bin`);
			expect(error.reason).toBe("tls_failed");
		} finally {
			if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
			else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
		}
	});

	test("an unknown authority is tls_failed", async () => {
		const error = await refusal(outbound({ allow: [secure.url] }), `${secure.url}/model.bin`);
		expect(error.reason).toBe("tls_failed");
	});
});

describe("connections", () => {
	test("one that is refused is a retryable connect_failed", async () => {
		const gone = startByteServer({ answer: () => ({ status: 200 }) });
		gone.stop();
		const error = await refusal(outbound({ allow: [gone.url] }), gone.url);
		expect([error.code, error.reason, error.retryable]).toEqual(["NETWORK_ERROR", "connect_failed", true]);
	});

	test("one that is cut before the answer is a retryable reset", async () => {
		const proxy = await startFaultProxy(files.port, { refuse: true });
		const error = await refusal(outbound({ allow: [proxy.url] }), `${proxy.url}/model.bin`);
		expect([error.code, error.reason, error.retryable]).toEqual(["NETWORK_ERROR", "reset", true]);
		proxy.stop();
	});

	test("one that stays silent is a retryable timeout, by the clock", async () => {
		const proxy = await startFaultProxy(files.port, { stall: true });
		const clock = new FakeClock();
		const client = createOutbound({ clock, log: silentLog }, { allow: [proxy.url] });
		const asked = client.request(`${proxy.url}/model.bin`, { signal: signal(), connectTimeoutMs: 5000 });
		const failed = asked.then(
			() => undefined,
			(error: unknown) => error,
		);
		await until("the proxy has the connection", () => proxy.connections() === 1);
		await clock.advance(5000);
		expect(await failed).toMatchObject({ code: "NETWORK_ERROR", reason: "timeout", retryable: true });
		proxy.stop();
	});

	test("an abort by the caller throws the caller's reason, while it resolves and while it waits", async () => {
		const proxy = await startFaultProxy(files.port, { stall: true });
		const reason = new Error("cancelled by the test");
		const resolving = outbound({ resolve: () => new Promise(() => {}) });
		const waiting = outbound({ allow: [proxy.url] });
		for (const [client, url] of [
			[resolving, "http://slow.example/"],
			[waiting, proxy.url],
		] as const) {
			const cut = new AbortController();
			const asked = client.request(url, { signal: cut.signal }).catch((error: unknown) => error);
			if (client === waiting) await until("the proxy has the connection", () => proxy.connections() === 1);
			cut.abort(reason);
			expect(await asked).toBe(reason);
		}
		proxy.stop();
	});

	test("an abort after the headers ends the body", async () => {
		writeFileSync(join(dir.path, "large.bin"), Buffer.alloc(4_000_000));
		files.set({ stallAfterBytes: 1000 });
		const cut = new AbortController();
		const { response } = await outbound({ allow: [files.url] }).request(`${files.url}/large.bin`, {
			signal: cut.signal,
		});
		const body = response.arrayBuffer().catch((error: unknown) => error);
		cut.abort(new Error("enough"));
		expect(await body).toBeInstanceOf(Error);
		files.set({ stallAfterBytes: undefined });
	});

	test("an answer that is no proper HTTP is bad_answer", async () => {
		const server = serve(() => ({ status: 200, headers: { "content-length": "-5" }, sendLength: false }));
		const error = await refusal(outbound({ allow: [server.url] }), server.url);
		expect([error.reason, error.retryable]).toEqual(["bad_answer", false]);
	});

	test("the environment's proxy is not used, and compressed bodies stay compressed", async () => {
		const packed = Bun.gzipSync(Buffer.from("x".repeat(10_000)));
		const server = serve(() => ({ status: 200, headers: { "content-encoding": "gzip" }, body: packed }));
		const proxy = serve(() => ({ status: 200, body: "proxy" }));
		const before = { http: process.env.HTTP_PROXY, no: process.env.NO_PROXY, lower: process.env.no_proxy };
		process.env.HTTP_PROXY = proxy.url;
		delete process.env.NO_PROXY;
		delete process.env.no_proxy;
		try {
			const { response } = await outbound({ allow: [server.url] }).request(server.url, { signal: signal() });
			expect(Buffer.from(await response.arrayBuffer())).toEqual(Buffer.from(packed));
			expect(server.exchanges[0]?.headers["accept-encoding"]).toBe("identity");
			expect(proxy.exchanges).toEqual([]);
		} finally {
			process.env.NO_PROXY = before.no;
			process.env.no_proxy = before.lower;
			if (before.http === undefined) delete process.env.HTTP_PROXY;
			else process.env.HTTP_PROXY = before.http;
		}
	});
});

describe("a request that is more than a question", () => {
	test.each<["PUT" | "POST" | "DELETE", boolean]>([
		["PUT", true],
		["POST", true],
		["POST", false],
		["DELETE", false],
	])("%s (with a body: %p) follows no redirect, not even at its own origin", async (method, hasBody) => {
		const seen: string[] = [];
		const server = Bun.serve({
			hostname: "127.0.0.1",
			port: 0,
			fetch(request) {
				seen.push(new URL(request.url).pathname);
				return new Response(null, { status: 307, headers: { location: "/elsewhere" } });
			},
		});
		try {
			const origin = `http://127.0.0.1:${server.port}`;
			const body = hasBody ? { body: Buffer.from("secret") } : {};
			const sent = outbound({ allow: [origin] }).request(`${origin}/x`, {
				method,
				...body,
				signal: signal(),
			});
			await expect(sent).rejects.toMatchObject({ reason: "redirect_blocked" });
			expect(seen).toEqual(["/x"]);
		} finally {
			await server.stop(true);
		}
	});

	test("sends its bytes as they are", async () => {
		const bytes = crypto.getRandomValues(new Uint8Array(100_000));
		let got: Uint8Array | undefined;
		const server = Bun.serve({
			hostname: "127.0.0.1",
			port: 0,
			async fetch(request) {
				got = new Uint8Array(await request.arrayBuffer());
				return new Response("ok");
			},
		});
		try {
			const origin = `http://127.0.0.1:${server.port}`;
			const { response } = await outbound({ allow: [origin] }).request(`${origin}/x`, {
				method: "PUT",
				body: bytes,
				signal: signal(),
			});
			expect([response.status, got]).toEqual([200, bytes]);
		} finally {
			await server.stop(true);
		}
	});
});
