// What the agent's listeners and clients rely on in Bun's TLS, and what they add.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import { createAgentClient } from "../../src/agent/agent-client.ts";
import type { ApiClient } from "../../src/api/client.ts";
import type { TlsTrust } from "../../src/core/identity/identity.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { requires } from "../support/requires.ts";
import { until } from "../support/until.ts";
import { type TestAuthority, testAuthority } from "./test-certificates.ts";

const BIND = "127.0.0.1";
const OURS = { certificate: LOOPBACK_CERTIFICATE.cert, privateKey: LOOPBACK_CERTIFICATE.key };
const withOpenssl = requires("openssl", "old versions of TLS") ? test : test.skip;

let authority: TestAuthority;
let other: TestAuthority;
let listener: OpenListener;
/** Ports of the callers: one per connection. */
const connections = new Set<string>();
let held: (() => void)[] = [];

async function app(request: Request): Promise<Response> {
	if (request.url.endsWith("/api/v1/nodes")) {
		await new Promise<void>((resolve) => held.push(resolve));
	}
	if (request.url.endsWith("/api/v1/services")) {
		return new Response(null, { status: 302, headers: { location: `${listener.url}/api/v1/status` } });
	}
	return Response.json({ url: request.url, host: request.headers.get("host") });
}

beforeAll(async () => {
	[authority, other] = await Promise.all([testAuthority(), testAuthority()]);
	listener = openListener({ bind: BIND, port: 0, app, tls: [await authority.host()] });
});
afterAll(() => listener.close());

const clientOf = (trust: TlsTrust | undefined, baseUrl = listener.url): ApiClient =>
	createAgentClient({ baseUrl, token: () => "canary-bearer", trust });
const health = async (client: ApiClient): Promise<{ url: string; host: string }> =>
	(await client.call("health", {})) as unknown as { url: string; host: string };
async function refusal(run: Promise<unknown>): Promise<string> {
	try {
		return `answered ${JSON.stringify(await run)}`;
	} catch (error) {
		const { reason, details } = asGswarmError(error);
		return `${reason} ${typeof details["cause"] === "string" ? details["cause"] : ""}`.trim();
	}
}

test("an agent is met under its internal name, at whatever address it has", async () => {
	const answer = await health(clientOf(authority.trust()));
	expect(answer.host).toBe(`127.0.0.1:${listener.port}`);
	expect(listener.url).toBe(`https://127.0.0.1:${listener.port}`);
	expect(await health(clientOf(authority.trust(), `https://localhost:${listener.port}`))).toBeTruthy();
});

test("another cluster's authority, another name, or no authority of ours is not met", async () => {
	expect(await refusal(health(clientOf(other.trust())))).toStartWith("tls_failed");
	expect(await refusal(health(clientOf(authority.trust("node1"))))).toBe(
		"tls_failed ERR_TLS_CERT_ALTNAME_INVALID",
	);
	expect(await refusal(health(clientOf(undefined)))).toStartWith("tls_failed");
});

test("a connection that was proven for one name is not used for another, or for another authority", async () => {
	await health(clientOf(authority.trust()));
	expect(await refusal(health(clientOf(authority.trust("node1"))))).toStartWith("tls_failed");
	expect(await refusal(health(clientOf(other.trust())))).toStartWith("tls_failed");
	await health(clientOf(authority.trust()));
});

test("NODE_TLS_REJECT_UNAUTHORIZED=0 opens nothing", async () => {
	const code = `
		import { createAgentClient } from ${JSON.stringify(import.meta.resolve("../../src/agent/agent-client.ts"))};
		const client = createAgentClient({ baseUrl: ${JSON.stringify(listener.url)}, token: () => "x", trust: undefined });
		console.log(await client.call("health", {}).then(() => "answered", (error) => error.reason));`;
	const child = Bun.spawn([process.execPath, "-e", code], {
		env: { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: "0" },
		stdout: "pipe",
	});
	expect((await new Response(child.stdout).text()).trim()).toBe("tls_failed");
});

test("agents go past the environment's proxy, and follow no redirect", async () => {
	const asked: string[] = [];
	const proxy = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch(request) {
			asked.push(request.url);
			return new Response("proxied", { status: 500 });
		},
	});
	const before = { ...process.env };
	const url = `http://127.0.0.1:${proxy.port}`;
	Object.assign(process.env, { HTTP_PROXY: url, HTTPS_PROXY: url, http_proxy: url, https_proxy: url });
	delete process.env.NO_PROXY;
	delete process.env.no_proxy;
	try {
		await health(clientOf(authority.trust()));
		expect(await refusal(clientOf(authority.trust()).call("listServices", {}))).toBe("unexpected_answer");
	} finally {
		for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]) delete process.env[name];
		Object.assign(process.env, before);
		await proxy.stop(true);
	}
	expect(asked).toEqual([]);
});

test("plain HTTP goes to loopback only, and is closed by a listener of TLS", async () => {
	for (const url of ["http://192.0.2.7:8000", "http://host.example:8000", "http://[2001:db8::1]:1"]) {
		expect(() => clientOf(undefined, url)).toThrow(expect.objectContaining({ reason: "plain_http" }));
	}
	clientOf(undefined, "http://[::1]:8000");
	const plain = clientOf(undefined, `http://127.0.0.1:${listener.port}`);
	expect(await refusal(health(plain))).toStartWith("connect_failed");
});

withOpenssl(
	"TLS 1.0 and 1.1 are refused, 1.2 and 1.3 spoken",
	async () => {
		const versionSpoken = async (version: string): Promise<string> => {
			const ciphers = version === "tls1_3" ? [] : ["-cipher", "DEFAULT@SECLEVEL=0"];
			const child = Bun.spawn(
				[
					"timeout",
					"10",
					"openssl",
					"s_client",
					"-connect",
					`127.0.0.1:${listener.port}`,
					`-${version}`,
					...ciphers,
				],
				{ stdin: "ignore", stdout: "pipe", stderr: "ignore" },
			);
			const text = await new Response(child.stdout).text();
			return /^New, (TLSv[\d.]+|\(NONE\))/m.exec(text)?.[1] ?? text;
		};
		expect(await Promise.all(["tls1", "tls1_1", "tls1_2", "tls1_3"].map(versionSpoken))).toEqual([
			"(NONE)",
			"(NONE)",
			"TLSv1.2",
			"TLSv1.3",
		]);
	},
	60_000,
);

test("a connection is shaken hands on once, however many calls go over it", async () => {
	using counted = await countingListener();
	for (let call = 0; call < 20; call++) {
		// As the host does: a client per call.
		await health(clientOf(authority.trust(), counted.url));
	}
	expect(connections.size).toBe(1);
});

test("another certificate takes over at once; requests under way finish on the old one", async () => {
	const own = openListener({ bind: BIND, port: 0, app, tls: [await authority.host()] });
	held = [];
	const underWay = clientOf(authority.trust(), own.url).call("listNodes", {});
	await until("it is under way", () => held.length === 1);
	own.replace({ bind: BIND, tls: [await other.host()] });
	expect(await health(clientOf(other.trust(), own.url))).toBeTruthy();
	expect(await refusal(health(clientOf(authority.trust(), own.url)))).toStartWith("tls_failed");
	held[0]?.();
	expect(await underWay).toMatchObject({ url: `${own.url}/api/v1/nodes` });
	own.replace({ bind: BIND });
	expect(own.url).toBe(`http://127.0.0.1:${own.port}`);
	expect(await health(clientOf(undefined, own.url))).toBeTruthy();
	await own.close();
});

test("a certificate that is none leaves the listener as it was", async () => {
	const own = openListener({ bind: BIND, port: 0, app, tls: [await authority.host()] });
	expect(() => own.replace({ bind: BIND, tls: [{ certificate: "none", privateKey: "none" }] })).toThrow();
	expect(await health(clientOf(authority.trust(), own.url))).toBeTruthy();
	await own.close();
});

test("under load a renewal loses no request that was begun; only who knocks in between knocks again", async () => {
	let begun = 0;
	const counting = (): Promise<Response> => {
		begun++;
		return Promise.resolve(Response.json({}));
	};
	const own = openListener({ bind: BIND, port: 0, app: counting, tls: [await authority.host()] });
	const client = clientOf(authority.trust(), own.url);
	let [answers, stop] = [0, false];
	const failures: string[] = [];
	const knock = async (): Promise<void> => {
		while (!stop) {
			const failure = await refusal(health(client));
			if (failure.startsWith("answered")) answers++;
			else failures.push(failure);
		}
	};
	const callers = Array.from({ length: 8 }, knock);
	for (let renewal = 0; renewal < 5; renewal++) {
		const before = answers;
		own.replace({ bind: BIND, tls: [await authority.host()] });
		await until("answers go on", () => answers > before + 100);
	}
	stop = true;
	await Promise.all(callers);
	await own.close();
	// Refused, or cut before a word of it was read: both may be sent again.
	expect([...new Set(failures)].filter((it) => !/^connect_(refused|failed)$/.test(it))).toEqual([]);
	expect(begun).toBe(answers);
});

test("whoever asks for the internal name gets the cluster's certificate, everybody else the operator's own", async () => {
	const tls = [OURS, { ...(await authority.host()), serverName: authority.trust().serverName }] as const;
	const own = openListener({ bind: BIND, port: 0, app, tls });
	expect(await health(clientOf(authority.trust(), own.url))).toBeTruthy();
	const local = `https://localhost:${own.port}`;
	expect(await health(clientOf({ ca: OURS.certificate, serverName: "localhost" }, local))).toBeTruthy();
	expect(await refusal(health(clientOf({ ca: authority.ca, serverName: "localhost" }, local)))).toStartWith(
		"tls_failed",
	);
	await own.close();
});

test("a caller over IPv4 has an IPv4 address on a socket that takes both", async () => {
	const own = openListener({ bind: "::", port: 0, app: async (_request, address) => new Response(address) });
	const asked = await fetch(`http://127.0.0.1:${own.port}`);
	expect(await asked.text()).toBe("127.0.0.1");
	await own.close();
});

test("an address that this machine does not have is named", () => {
	expect(() => openListener({ bind: "203.0.113.9", port: 0, app })).toThrow(
		expect.objectContaining({ code: "INVALID_REQUEST", reason: "bind_not_here" }),
	);
});

async function countingListener(): Promise<Disposable & { url: string }> {
	connections.clear();
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		tls: [await authority.host()].map((it) => ({ cert: it.certificate, key: it.privateKey })),
		fetch(request, self) {
			connections.add(String(self.requestIP(request)?.port));
			return Response.json({});
		},
	});
	return { url: `https://127.0.0.1:${server.port}`, [Symbol.dispose]: () => void server.stop(true) };
}
