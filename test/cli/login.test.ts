import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
	existsSync,
	mkdirSync,
	readFileSync,
	readdirSync,
	statSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../../src/platform/hash.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import type { ListenerCertificate } from "../../src/agent/http/listener.ts";
import { type TestAuthority, testAuthority } from "../agent/test-certificates.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { ENVIRONMENT, onTerminal, PROGRAM } from "./support/child.ts";
import { errorResponse, type FakeAgent, fakeAgent, type Script } from "./support/fake-agent.ts";
import { type Outcome, run, type WorldOptions } from "./support/fake-world.ts";

const TOKEN = "gsw_user_k3v9x2ma_canaryCanaryCanaryCanary00000000_000000";
const ME = {
	token_id: "k3v9x2ma",
	name: "ann-laptop",
	role: "user",
	expires_at: null,
	agent: { role: "host", name: "host", cluster_id: "c1" },
};
const CA = LOOPBACK_CERTIFICATE.cert;
const PIN = sha256Hex(Buffer.from(CA.replaceAll(/-----.*-----|\s/g, ""), "base64"));

interface Host extends AsyncDisposable {
	url: string;
	agent: FakeAgent;
	/** Method, path and bearer of every request, in order. */
	heard: string[];
}

/** A host with TLS whose CA is its own certificate; `cacerts` takes the place of what it shows there. */
function tlsHost(
	script: Script = { whoami: ME },
	{ cacerts, plain = false }: { cacerts?: () => Response; plain?: boolean } = {},
): Host {
	const agent = fakeAgent(script);
	const heard: string[] = [];
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		...(plain ? {} : { tls: { cert: LOOPBACK_CERTIFICATE.cert, key: LOOPBACK_CERTIFICATE.key } }),
		fetch(request) {
			const { pathname } = new URL(request.url);
			heard.push([request.method, pathname, request.headers.get("authorization") ?? "-"].join(" "));
			if (pathname === "/cacerts") return cacerts?.() ?? new Response(CA);
			return agent.send(request);
		},
	});
	return {
		url: server.url.origin,
		agent,
		heard,
		[Symbol.asyncDispose]: () => server.stop(true),
	};
}

let home: ReturnType<typeof tempDir>;
/** PEM of the CA of another cluster. */
let foreignCa: string;
beforeAll(async () => {
	home = tempDir();
	foreignCa = (await testAuthority()).ca;
});
afterAll(() => home[Symbol.dispose]());
let made = 0;
const newHome = (): string => join(home.path, `home${++made}`);

const inHome = (dataDir: string, words: string[], more: WorldOptions = {}): Promise<Outcome> =>
	run(words, { ...more, environment: { dataDir, ...more.environment } });
const login = (dataDir: string, url: string, more: string[] = [], options: WorldOptions = {}) =>
	inHome(dataDir, ["login", url, ...more], { input: `${TOKEN}\n`, ...options });
const stored = (dataDir: string) => JSON.parse(readFileSync(join(dataDir, "contexts.json"), "utf8"));

describe("gswarm login with a pin", () => {
	test("asks for the authority without a word, believes it by its pin, and then shows the token to it alone", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		const { code, stdout, stderr } = await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
		expect({ code, stderr }).toMatchObject({ code: 0 });
		expect(host.heard).toEqual(["GET /cacerts -", `GET /api/v1/whoami Bearer ${TOKEN}`]);
		expect(stored(dataDir)).toEqual({
			current: "work",
			contexts: [
				{
					name: "work",
					url: host.url,
					token: TOKEN,
					ca: CA,
					user: "ann-laptop",
					role: "user",
					cluster_id: "c1",
				},
			],
		});
		expect(statSync(join(dataDir, "contexts.json")).mode & 0o777).toBe(0o600);
		expect(statSync(dataDir).mode & 0o777).toBe(0o700);
		expect(`${stdout}${stderr}`).not.toContain(TOKEN);
	});

	test("another authority than the pinned one hears nothing secret, and nothing is stored (exit 5)", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		const wrong = `${PIN.slice(1)}${PIN.startsWith("0") ? "1" : "0"}`;
		const { code, stderr } = await login(dataDir, host.url, ["--ca-pin", wrong]);
		expect(code).toBe(5);
		expect(stderr).toContain("another fingerprint");
		expect(host.heard).toEqual(["GET /cacerts -"]);
		expect(existsSync(join(dataDir, "contexts.json"))).toBe(false);
	});

	test("who shows the right authority without having its key hears no token either", async () => {
		// Its certificate is not signed by the CA that it shows.
		await using host = tlsHost({ whoami: ME }, { cacerts: () => new Response(foreignCa) });
		const pin = sha256Hex(Buffer.from(foreignCa.replaceAll(/-----.*-----|\s/g, ""), "base64"));
		const { code, stderr } = await login(newHome(), host.url, ["--ca-pin", pin]);
		expect(code).toBe(5);
		expect(stderr).not.toContain(TOKEN);
		expect(host.heard).toEqual(["GET /cacerts -"]);
	});

	test.each([
		["nothing", () => new Response(""), 5],
		["a page", () => new Response("<html>sign in</html>"), 5],
		["a megabyte", () => new Response(CA.padEnd(1_000_000, "\n")), 5],
		[
			"an empty certificate",
			() => new Response("-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----"),
			5,
		],
		["another certificate beside it", () => new Response(`${CA}${foreignCa}`), 5],
		["a 404", () => new Response("no", { status: 404 }), 6],
		[
			"a redirect",
			() => new Response(null, { status: 302, headers: { location: "https://127.0.0.1:1/" } }),
			6,
		],
	])("%s at /cacerts is no authority", async (_what, cacerts, status) => {
		await using host = tlsHost({ whoami: ME }, { cacerts });
		const dataDir = newHome();
		const { code, stderr } = await login(dataDir, host.url, ["--ca-pin", PIN]);
		expect(code).toBe(status);
		expect(stderr).toMatch(/another fingerprint|answered (404|302)/);
		expect(host.heard).toEqual(["GET /cacerts -"]);
		expect(existsSync(join(dataDir, "contexts.json"))).toBe(false);
	});
});

describe("gswarm login to a host that shows a certificate of the operator's own", () => {
	/** By default it shows the operator's, to who asks for the cluster's name the cluster's. */
	const ownHost = async (cluster: TestAuthority, shown: ListenerCertificate, heard: string[]) => {
		const own = { cert: LOOPBACK_CERTIFICATE.cert, key: LOOPBACK_CERTIFICATE.key };
		return Bun.serve({
			hostname: "127.0.0.1",
			port: 0,
			tls: [own, { cert: shown.certificate, key: shown.privateKey, serverName: HOST_SERVER_NAME }],
			fetch(request) {
				const { pathname } = new URL(request.url);
				heard.push(`${pathname} ${request.headers.get("authorization") ?? "-"}`);
				return pathname === "/cacerts" ? new Response(cluster.ca) : Response.json(ME);
			},
		});
	};
	const pinOf = (ca: string): string =>
		sha256Hex(Buffer.from(ca.replaceAll(/-----.*-----|\s/g, ""), "base64"));

	test("the pin that the admin's command has leads to it all the same, at the login and later", async () => {
		const [cluster, heard, dataDir] = [await testAuthority(), [] as string[], newHome()];
		const server = await ownHost(cluster, await cluster.host(), heard);
		try {
			const words = ["--ca-pin", pinOf(cluster.ca), "--context", "work"];
			const { code, stderr } = await login(dataDir, server.url.origin, words);
			expect([code, stderr]).toEqual([0, expect.stringContaining("certificate of its own")]);
			expect(stored(dataDir).contexts[0]).toMatchObject({ server_name: HOST_SERVER_NAME });
			expect((await inHome(dataDir, ["whoami"])).code).toBe(0);
		} finally {
			await server.stop(true);
		}
	});

	test("a node of the cluster, or who has no certificate of it, gets no token (exit 5)", async () => {
		const cluster = await testAuthority();
		for (const shown of [await cluster.node("node1"), await (await testAuthority()).host()]) {
			const heard: string[] = [];
			const server = await ownHost(cluster, shown, heard);
			try {
				const { code } = await login(newHome(), server.url.origin, ["--ca-pin", pinOf(cluster.ca)]);
				expect([code, heard]).toEqual([5, ["/cacerts -"]]);
			} finally {
				await server.stop(true);
			}
		}
	});
});

describe("gswarm login", () => {
	test("without a pin trusts only whom the system trusts, and says what to do (exit 5)", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		const { code, stderr } = await login(dataDir, host.url);
		expect(code).toBe(5);
		expect(stderr).toContain("--ca-pin");
		expect(host.heard).toEqual([]);
		expect(existsSync(join(dataDir, "contexts.json"))).toBe(false);
	});

	test("NODE_TLS_REJECT_UNAUTHORIZED=0 changes nothing of that", async () => {
		const { NODE_TLS_REJECT_UNAUTHORIZED: before } = process.env;
		process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
		try {
			await using host = tlsHost();
			expect((await login(newHome(), host.url)).code).toBe(5);
			expect(host.heard).toEqual([]);
		} finally {
			if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
			else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
		}
	});

	test("plain http to another machine is refused before anything is asked", async () => {
		const { code, stderr } = await login(newHome(), "http://10.0.0.1:8000");
		expect(code).toBe(2);
		expect(stderr).toContain("plain HTTP");
	});

	test("on this machine plain http will do", async () => {
		await using host = tlsHost({ whoami: ME }, { plain: true });
		const dataDir = newHome();
		expect((await login(dataDir, host.url)).code).toBe(0);
		expect(stored(dataDir).contexts[0]).toMatchObject({ name: "127.0.0.1", ca: null });
	});

	test("a token that the host does not accept is exit 5, and nothing is stored", async () => {
		const expired = new GswarmError("UNAUTHORIZED", "This token has expired.", { reason: "token_expired" });
		await using host = tlsHost({ whoami: () => errorResponse(expired) });
		const dataDir = newHome();
		const { code, stderr } = await login(dataDir, host.url, ["--ca-pin", PIN]);
		expect(code).toBe(5);
		expect(stderr).toContain("This token has expired.");
		expect(stderr).toContain("gswarm token create");
		expect(stderr).not.toContain(TOKEN);
		expect(existsSync(join(dataDir, "contexts.json"))).toBe(false);
	});

	test("at a terminal the token is asked for and not shown, and stands in no process's arguments", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		const words = ["login", host.url, "--ca-pin", PIN, "--context", "work"];
		await using program = onTerminal([process.execPath, PROGRAM, ...words], {
			...ENVIRONMENT,
			GSWARM_HOME: dataDir,
		});
		await until("it asks", () => program.shown().includes("Token (not shown):"));
		program.type(`${TOKEN}\r`);
		expect(await program.exited).toBe(0);
		expect(host.heard.at(-1)).toBe(`GET /api/v1/whoami Bearer ${TOKEN}`);
		expect(stored(dataDir).contexts[0].token).toBe(TOKEN);
		expect(program.shown()).toContain("Logged in");
		expect(program.shown()).not.toContain(TOKEN);
	});

	test("the token is never taken from the command line", async () => {
		const { code, stderr } = await inHome(newHome(), ["login", "https://h:1", TOKEN]);
		expect(code).toBe(2);
		expect(stderr).toContain("does not take");
	});

	test("the same name for another host is refused, a new token for the same host is not", async () => {
		await using one = tlsHost();
		await using two = tlsHost();
		const dataDir = newHome();
		const pinned = ["--ca-pin", PIN, "--context", "work"];
		expect((await login(dataDir, one.url, pinned)).code).toBe(0);
		const { code, stderr } = await login(dataDir, two.url, pinned);
		expect(code).toBe(4);
		expect(stderr).toContain("gswarm context remove work");
		expect((await login(dataDir, one.url, pinned, { input: "another-token\n" })).code).toBe(0);
		expect(stored(dataDir).contexts.map((it: { token: string }) => it.token)).toEqual(["another-token"]);
	});

	test("logins at the same time are all kept, and a lock that somebody left behind stops nobody", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		mkdirSync(dataDir, { mode: 0o700 });
		const lock = join(dataDir, "contexts.json.lock");
		writeFileSync(lock, "");
		utimesSync(lock, 0, 0);
		const names = ["a", "b", "c", "d", "e"];
		const logins = names.map((name) => login(dataDir, host.url, ["--ca-pin", PIN, "--context", name]));
		expect((await Promise.all(logins)).map(({ code }) => code)).toEqual([0, 0, 0, 0, 0]);
		expect(
			stored(dataDir)
				.contexts.map((it: { name: string }) => it.name)
				.sort(),
		).toEqual(names);
		expect(readdirSync(dataDir)).toEqual(["contexts.json"]);
	});

	test("names that are taken, or none, are refused", async () => {
		for (const [url, name] of [
			["https://h:1", "local"],
			["https://h:1", "../x"],
			["https://[2001:db8::1]:1", undefined],
		] as const) {
			const { code } = await login(newHome(), url, name === undefined ? [] : ["--context", name]);
			expect([url, name, code]).toEqual([url, name, 2]);
		}
	});
});

describe("a context", () => {
	test("is where commands go after the login, until another is used or the environment names one", async () => {
		await using host = tlsHost({ whoami: ME, listNodes: { nodes: [], total: 0 } });
		const dataDir = newHome();
		await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
		host.heard.length = 0;
		expect((await inHome(dataDir, ["node", "list"])).code).toBe(0);
		expect(host.heard).toEqual([`GET /api/v1/nodes Bearer ${TOKEN}`]);
		expect((await inHome(dataDir, ["context", "use", "local"])).code).toBe(0);
		// Nothing runs here, and that is what is said.
		const here = await inHome(dataDir, ["node", "list"]);
		expect([here.code, here.stderr.includes("No agent is running")]).toEqual([6, true]);
		expect((await inHome(dataDir, ["node", "list", "--context", "work"])).code).toBe(0);
		const { stderr } = await inHome(dataDir, ["node", "list", "--context", "work", "--data-dir", dataDir]);
		expect(stderr).toContain("exclude each other");
		await inHome(dataDir, ["context", "use", "work"]);
		const elsewhere = { environment: { hostUrl: "127.0.0.1:1" } };
		expect((await inHome(dataDir, ["node", "list"], elsewhere)).stderr).toContain("http://127.0.0.1:1");
		expect((await inHome(dataDir, ["node", "list", "--context", "local"])).code).toBe(6);
	});

	test("is listed without its token, used, and forgotten", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
		const list = await inHome(dataDir, ["context", "list"]);
		expect(list.stdout).toContain("*       work");
		const json = await inHome(dataDir, ["context", "list", "--json"]);
		expect(JSON.parse(json.stdout)).toEqual({
			current: "work",
			contexts: [{ name: "work", url: host.url, user: "ann-laptop", role: "user", cluster_id: "c1" }],
		});
		expect(`${list.stdout}${list.stderr}${json.stdout}`).not.toContain(TOKEN);
		expect((await inHome(dataDir, ["context", "use", "other"])).code).toBe(3);
		expect((await inHome(dataDir, ["context", "remove", "work"])).code).toBe(0);
		expect(stored(dataDir)).toEqual({ current: null, contexts: [] });
		const gone = await inHome(dataDir, ["node", "list", "--context", "work"]);
		expect([gone.code, gone.stderr.includes("gswarm login")]).toEqual([3, true]);
	});

	test("of a host that is away says which it is (exit 6), one whose token has ended to log in again (exit 5)", async () => {
		const dataDir = newHome();
		{
			const ended = new GswarmError("UNAUTHORIZED", "This token was revoked.", { reason: "token_revoked" });
			let good = true;
			await using host = tlsHost({ whoami: () => (good ? ME : errorResponse(ended)) });
			await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
			good = false;
			const { code, stderr } = await inHome(dataDir, ["whoami"]);
			expect(code).toBe(5);
			expect(stderr).toContain(`gswarm login ${host.url} --context work`);
		}
		const { code, stderr } = await inHome(dataDir, ["whoami"]);
		expect(code).toBe(6);
		expect(stderr).toContain("the context work");
	});

	test("whose host has another certificate now is refused with exit 5, and no token goes there", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
		const file = stored(dataDir);
		file.contexts[0].ca = foreignCa;
		writeFileSync(join(dataDir, "contexts.json"), JSON.stringify(file), { mode: 0o600 });
		host.heard.length = 0;
		const { code, stderr } = await inHome(dataDir, ["whoami"]);
		expect(code).toBe(5);
		expect(stderr).toContain("does not prove who it is");
		expect(host.heard).toEqual([]);
	});

	test.each([
		["that others may read", 0o644, '{"current":null,"contexts":[]}'],
		["that is damaged", 0o600, "{"],
		["of another form", 0o600, '{"current":"x","contexts":[{"name":"x"}]}'],
	])("file %s is refused without showing it (exit 2)", async (_what, mode, text) => {
		const dataDir = newHome();
		Bun.spawnSync(["mkdir", "-m", "700", dataDir]);
		writeFileSync(join(dataDir, "contexts.json"), text, { mode });
		expect((await inHome(dataDir, ["node", "list"])).code).toBe(2);
	});
});

describe("gswarm env", () => {
	test("prints what other programs need, with files for the authorities", async () => {
		await using host = tlsHost();
		const dataDir = newHome();
		await login(dataDir, host.url, ["--ca-pin", PIN, "--context", "work"]);
		const { code, stdout } = await inHome(dataDir, ["env"]);
		expect(code).toBe(0);
		const { stdout: json } = await inHome(dataDir, ["env", "--json"]);
		const variables = JSON.parse(json) as Record<string, string>;
		expect(variables).toEqual({
			OPENAI_BASE_URL: `${host.url}/v1`,
			OPENAI_API_KEY: TOKEN,
			SSL_CERT_FILE: join(dataDir, "authorities", "work-and-system.pem"),
			CURL_CA_BUNDLE: join(dataDir, "authorities", "work-and-system.pem"),
			REQUESTS_CA_BUNDLE: join(dataDir, "authorities", "work-and-system.pem"),
			NODE_EXTRA_CA_CERTS: join(dataDir, "authorities", "work.pem"),
		});
		const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${value}`);
		expect(stdout).toBe(`${lines.join("\n")}\n`);
		expect(readFileSync(join(dataDir, "authorities", "work.pem"), "utf8")).toBe(CA);
		const bundle = readFileSync(join(dataDir, "authorities", "work-and-system.pem"), "utf8");
		expect(bundle.startsWith(CA.trimEnd())).toBe(true);
		expect(bundle.split("BEGIN CERTIFICATE").length).toBeGreaterThan(10);
	});

	test("on a host with a certificate of one's own names the address that it vouches for", async () => {
		const dataDir = newHome();
		mkdirSync(dataDir, { mode: 0o700 });
		writeFileSync(join(dataDir, "admin.token"), `${TOKEN}\n`, { mode: 0o600 });
		const agent = {
			pid: process.pid,
			role: "host",
			name: "n",
			started_at: 1,
			host_url: "https://127.0.0.1:8000",
		};
		writeFileSync(
			join(dataDir, "agent.json"),
			JSON.stringify({ ...agent, advertised_url: "https://gpu1.lab.example:8000" }),
		);
		const { stdout } = await inHome(dataDir, ["env", "--json", "--data-dir", dataDir]);
		expect(JSON.parse(stdout)).toMatchObject({ OPENAI_BASE_URL: "https://gpu1.lab.example:8000/v1" });
	});

	test("without https there is nothing to trust", async () => {
		await using host = tlsHost({ whoami: ME }, { plain: true });
		const dataDir = newHome();
		await login(dataDir, host.url, ["--context", "here"]);
		const { stdout } = await inHome(dataDir, ["env"]);
		expect(stdout).toBe(`export OPENAI_BASE_URL=${host.url}/v1\nexport OPENAI_API_KEY=${TOKEN}\n`);
	});
});
