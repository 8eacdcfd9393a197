/**
 * Secrets with strings that occur nowhere else go their whole way through a cluster of the compiled binary, with
 * everything that may go wrong on it and all logs on. Then everything that was written, said or shown is searched.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { TestCluster, type TestAgent } from "../support/agents.ts";
import { type ByteServer, startByteServer } from "../support/byte-server.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";

/** By what it is: a string of it that is its own. */
const secrets = new Map<string, string>([
	["stored for the hub", "hf_CanaryOfTheHub7f3a9c"],
	["stored for a web server", "CanaryOfTheWeb5d1e8b"],
	["HF_TOKEN of an agent", "hf_CanaryOfTheEnvironment2b6f"],
]);
/** In the address of a source: a task's row has to keep it, and tells nobody. */
const SIGNATURE = "CanaryOfTheSignature9e4c";
const secretOf = (what: string): string => secrets.get(what) ?? "";
const ALLOWED = /^(host|node1|node2)\/(admin\.token|node\.json|cluster\.json|ca\.key|host\.key)$/;
const KEPT = "host/secrets.json";

const shelf = tempDir();
let hub: Hub;
/** Wants the web secret, tells everybody what was sent, and leads away. */
let web: ByteServer;
let away: ByteServer;
let cluster: TestCluster;
let host: TestAgent;
let node1: TestAgent;
let node2: TestAgent;
/** Everything that was said to somebody, by where. */
const said: [where: string, text: string][] = [];

async function cli(name: string, line: string, input?: string): Promise<number> {
	const { code, stdout, stderr } = await cluster.cli(name, [...line.split(" "), "--debug"], input);
	said.push([`gswarm ${line}: stdout`, stdout], [`gswarm ${line}: stderr`, stderr]);
	return code;
}

async function ask(url: string, method: string, bearer: string | undefined, body?: string): Promise<number> {
	const response = await fetch(url, {
		method,
		headers: {
			...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
			...(body === undefined ? {} : { "content-type": "application/json" }),
		},
		...(body === undefined ? {} : { body }),
	});
	const headers = JSON.stringify([...response.headers]);
	said.push([
		`${method} ${url} as ${bearer?.slice(0, 20) ?? "nobody"}`,
		`${headers}\n${await textOf(response)}`,
	]);
	return response.status;
}

/** A stream of events does not end by itself: what it has said at first, which is the past, is looked at. */
async function textOf(response: Response): Promise<string> {
	if (response.headers.get("content-type")?.startsWith("text/event-stream") !== true) return response.text();
	const reader = response.body?.getReader();
	const first = await reader?.read();
	await reader?.cancel();
	return new TextDecoder().decode(first?.value);
}

beforeAll(async () => {
	for (const name of ["tiny", "locked"]) {
		mkdirSync(join(shelf.path, name));
		writeGguf(join(shelf.path, name, `${name}.gguf`), { name, say: "A canary sings." });
	}
	hub = startHub({
		repositories: {
			"acme/tiny": { dir: join(shelf.path, "tiny"), private: true },
			"acme/locked": { dir: join(shelf.path, "locked"), gated: true },
		},
		tokens: {
			[secretOf("stored for the hub")]: ["acme/tiny"],
			[secretOf("HF_TOKEN of an agent")]: ["acme/tiny"],
		},
	});
	const model = readFileSync(join(shelf.path, "tiny/tiny.gguf"));
	const file = { status: 200, body: model };
	away = startByteServer({
		answer: ({ target }) => (target.startsWith("/gone") ? { status: 404, body: target } : file),
	});
	web = startByteServer({
		answer({ target, headers }) {
			const sent = headers.get("authorization") ?? "";
			if (sent !== `Bearer ${secretOf("stored for a web server")}`)
				return { status: 401, body: "who are you?" };
			const leading = { "/moved.gguf": "/model.gguf", "/lost.gguf": "/gone.gguf" }[target];
			if (leading !== undefined)
				return {
					status: 302,
					headers: { location: `${away.url}${leading}?you-sent=${encodeURIComponent(sent)}` },
				};
			if (target === "/telling.gguf")
				return {
					status: 403,
					headers: { "www-authenticate": `Bearer realm="${sent}"` },
					body: `you sent ${sent}`,
				};
			return file;
		},
	});
	cluster = new TestCluster({ environment: { HF_ENDPOINT: hub.url } });
	const config = `sources:\n  allow: ${JSON.stringify([hub.cdnUrl, web.url, away.url])}\n`;
	for (const name of ["host", "node1", "node2"]) cluster.configure(name, config);
	const loud = ["--log-level", "debug"];
	host = await cluster.start("host", { args: ["--host", "--port", "0", ...loud] });
	const joined = async (name: string, environment: Record<string, string> = {}): Promise<TestAgent> => {
		const input = await cluster.run("host", "token", "create", "--join");
		secrets.set(`join string of ${name}`, input.trim().split(".").at(-1) ?? "");
		return await cluster.start(name, {
			args: [...cluster.nodeArgs(host, name), ...loud],
			input,
			environment,
		});
	};
	node1 = await joined("node1");
	node2 = await joined("node2", { HF_TOKEN: secretOf("HF_TOKEN of an agent") });
	await cluster.allAlive(host, 2);
	for (const name of ["host", "node1", "node2"]) learnKeys(name);
}, 120_000);

/** What an agent made for itself: its admin token, the node's bearer, private keys. */
function learnKeys(name: string): void {
	for (const file of ["admin.token", "node.json", "cluster.json", "ca.key", "host.key"]) {
		const path = join(cluster.dir(name), file);
		if (!existsSync(path)) continue;
		const text = readFileSync(path, "utf8");
		for (const [, token = ""] of text.matchAll(/gsw_[a-z]+_[0-9a-z]{8}_([0-9A-Za-z]{32})_/g))
			secrets.set(`token of ${name}/${file}`, token);
		// The end of a key's first line: what comes before is the same in every key of its kind.
		const pem = /PRIVATE KEY-----(?:\\n|\n)([A-Za-z0-9+/]{60,64})/.exec(text)?.[1];
		const der = /"private_key": "([A-Za-z0-9+/]{60,})={0,2}"/.exec(text)?.[1];
		for (const key of [pem, der])
			if (key !== undefined) secrets.set(`key of ${name}/${file}`, key.slice(-20));
	}
}

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
	for (const server of [hub, web, away]) server?.stop();
	shelf[Symbol.dispose]();
}, 60_000);

test("secrets do their work, and everything that may go wrong with them does", async () => {
	expect(await cli("host", "secret set hf", `${secretOf("stored for the hub")}\n`)).toBe(0);
	const setWeb = `secret set web --origin ${web.url}`;
	expect(await cli("host", setWeb, secretOf("stored for a web server"))).toBe(0);
	expect(await cli("host", "secret set twice --origin " + web.url, secretOf("stored for a web server"))).toBe(
		4,
	);
	expect(await cli("host", "secret set hf", `${secretOf("stored for the hub")} \u0007`)).toBe(2);
	expect(await cli("host", "secret list")).toBe(0);

	const downloads = {
		"tiny --source hf:acme/tiny --to node1:disk": 0,
		"own --source hf:acme/tiny --to node2:disk": 0,
		[`web --source ${web.url}/model.gguf --to node1:disk`]: 0,
		[`moved --source ${web.url}/moved.gguf --to node1:disk`]: 0,
		"locked --source hf:acme/locked --to node1:disk": 1,
		[`lost --source ${web.url}/lost.gguf --to node1:disk`]: 1,
		[`telling --source ${web.url}/telling.gguf --to node1:disk`]: 1,
		[`signed --source ${away.url}/model.gguf?Signature=${SIGNATURE} --to node1:disk`]: 0,
		[`strange --source ${away.url}/gone.gguf?Signature=${SIGNATURE} --to node1:disk`]: 1,
	};
	for (const [line, code] of Object.entries(downloads))
		expect([line, await cli("host", `model download ${line}`)]).toEqual([line, code]);
	expect(await cli("host", "model serve own --device node2:disk")).toBe(0);

	// Each went where it belongs, and nowhere else.
	const sentTo = (server: { headers: Record<string, string>; target: string }[]): string =>
		JSON.stringify(server);
	expect(sentTo(hub.log().filter((it) => it.server === "hub"))).toContain(secretOf("stored for the hub"));
	expect(sentTo(hub.log())).toContain(secretOf("HF_TOKEN of an agent"));
	expect(sentTo(hub.log())).not.toContain(secretOf("stored for a web server"));
	expect(sentTo(hub.log().filter((it) => it.server === "cdn"))).not.toMatch(/Canary/);
	expect(away.exchanges.length).toBeGreaterThan(1);
	for (const { headers } of away.exchanges) expect(JSON.stringify(headers)).not.toMatch(/Canary/i);
}, 120_000);

test("tokens of people do theirs", async () => {
	const line = ["token", "create", "--role", "viewer", "--name", "eve", "--debug"];
	const { stdout, stderr } = await cluster.cli("host", line);
	// The standard output shows it, this once.
	said.push(["gswarm token create: stderr", stderr]);
	const eve = stdout.trim();
	secrets.set("eve's token", eve.split("_").at(3) ?? "");
	expect(await ask(`${host.hostUrl}/api/v1/models`, "GET", eve)).toBe(200);
	expect(await ask(`${host.hostUrl}/api/v1/models/tiny`, "DELETE", eve)).toBe(403);
	expect(await ask(`${host.hostUrl}/api/v1/models?token=${eve}`, "GET", undefined)).toBe(401);
	expect(await ask(`${host.hostUrl}/api/v1/models`, "GET", `${eve}x`)).toBe(401);
	expect(
		await ask(
			`${host.hostUrl}/api/v1/secrets/hf`,
			"PUT",
			eve,
			`{"value":"${secretOf("stored for the hub")}"}`,
		),
	).toBe(403);
	expect(await cli("host", "token list")).toBe(0);
	expect(await cli("host", "token revoke eve --yes")).toBe(0);
	expect(await ask(`${host.hostUrl}/api/v1/models`, "GET", eve)).toBe(401);
}, 60_000);

test("every route that can be read answers without one, to whoever asks, also when it is asked wrongly", async () => {
	for (const { hostUrl, nodeUrl, dir, listener } of [
		{ ...host, listener: "host" as const },
		{ ...node1, listener: "node" as const },
		{ ...node2, listener: "node" as const },
	]) {
		const admin = readFileSync(join(dir, "admin.token"), "utf8").trim();
		const tasks = (await host.api("GET", "/api/v1/queue/history?limit=200")).body.tasks as {
			task_id: string;
		}[];
		const services = (await host.api("GET", "/api/v1/services")).body.services as { service_id: string }[];
		const values: Record<string, string[]> = {
			model_name: ["tiny", "own", "web", "locked", "telling", "signed", "strange", "nothing"],
			task_id: tasks.map((it) => it.task_id),
			service_id: services.map((it) => it.service_id),
		};
		for (const route of Object.values(contract) as Route[]) {
			if (route.method !== "GET" || !route.on.includes(listener)) continue;
			const [parameter] = /\{(\w+)\}/.exec(route.path)?.slice(1) ?? [];
			const paths = (values[parameter ?? ""] ?? ["x"]).map((it) => route.path.replaceAll(/\{\w+\}/g, it));
			for (const path of parameter === undefined ? [route.path] : paths) {
				for (const bearer of [admin, undefined]) {
					await ask(`${listener === "host" ? hostUrl : nodeUrl}${path}`, "GET", bearer);
				}
			}
		}
		for (const body of [
			`{"value":"${secretOf("stored for the hub")} "}`,
			`{"value":["${secretOf("stored for the hub")}"]}`,
			`{"${secretOf("stored for the hub")}":1}`.slice(0, -1),
		])
			await ask(`${listener === "host" ? hostUrl : nodeUrl}/api/v1/secrets/hf`, "PUT", admin, body);
	}
	expect(await cli("host", "audit --limit 200 --json")).toBe(0);
	expect(await cli("host", "queue history --json")).toBe(0);
	expect(said.length).toBeGreaterThan(80);
}, 120_000);

/** A secret as it may lie in bytes: itself, or in base64 at any of its three alignments. */
function formsOf(secret: string): string[] {
	const inBase64 = [0, 1, 2].map((at) => {
		const text = Buffer.from("x".repeat(at) + secret).toString("base64");
		// What depends on the neighbours is left away.
		return text.slice(at === 0 ? 0 : 4, Math.floor((at + secret.length) / 3) * 4);
	});
	return [secret, ...inBase64];
}

/** Places where a secret is, by what it is. */
function found(places: readonly (readonly [where: string, text: string])[]): string[] {
	const hits: string[] = [];
	for (const [what, secret] of secrets) {
		if (secret.length < 16) throw new Error(`no string to look for of ${what}`);
		const forms = formsOf(secret);
		for (const [where, text] of places) {
			if (forms.some((form) => text.includes(form))) hits.push(`${what} in ${where}`);
		}
	}
	return hits;
}

function filesBelow(root: string): (readonly [string, string])[] {
	return (readdirSync(root, { recursive: true }) as string[])
		.filter((path) => statSync(join(root, path), { throwIfNoEntry: false })?.isFile() === true)
		.flatMap((path) => {
			try {
				return [[path, readFileSync(join(root, path), "latin1")] as const];
			} catch (error) {
				// Some files, like the journal of the lock, come and go while the agents run.
				if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
				throw error;
			}
		});
}

/** The agents and all that they started: command line and environment. */
function processes(): (readonly [string, string])[] {
	const pids = cluster.processes().map(({ pid }) => pid);
	return pids.flatMap((pid) =>
		["cmdline", "environ"].map((file) => {
			const text = readFileSync(`/proc/${pid}/${file}`, "latin1");
			return [`/proc/${pid}/${file} (${text.slice(0, 80)})`, text] as const;
		}),
	);
}

test("the search finds a secret where it may be", () => {
	const kept = filesBelow(cluster.home.path).filter(([path]) => path === KEPT);
	expect(found(kept).sort()).toEqual([`stored for a web server in ${KEPT}`, `stored for the hub in ${KEPT}`]);
	const allowed = filesBelow(cluster.home.path).filter(([path]) => ALLOWED.test(path));
	const kinds = [
		"token of host/admin.token",
		"token of node1/node.json",
		"key of host/ca.key",
		"key of node2/node.json",
	];
	for (const kind of kinds) expect([...secrets.keys()]).toContain(kind);
	expect(found(allowed).length).toBeGreaterThanOrEqual(8);
	for (const hit of found(allowed)) expect(hit).toMatch(/^(token|key) of (\S+) in \2$/);
	const [secret = ""] = secrets.values();
	for (const around of ["", "a", "ab", "abc"]) {
		const text = Buffer.from(`${around}${secret}${around}`).toString("base64");
		expect(found([["here", text]])).toEqual(["stored for the hub in here"]);
	}
	expect((statSync(join(cluster.home.path, KEPT)).mode & 0o777).toString(8)).toBe("600");
});

test("what was said holds none: answers, errors, messages of commands", () => {
	expect(found(said)).toEqual([]);
	expect(said.filter(([, text]) => text.includes(SIGNATURE)).map(([where]) => where)).toEqual([]);
});

test("what was written holds none: databases, journals, models, logs, what is kept in memory", () => {
	const places = filesBelow(cluster.home.path).filter(([path]) => !ALLOWED.test(path) && path !== KEPT);
	for (const name of ["host", "node1", "node2"]) {
		const file = join(cluster.dir(name), "node.json");
		if (!existsSync(file)) continue;
		const { node_id: id } = JSON.parse(readFileSync(file, "utf8")) as { node_id: string };
		if (existsSync(`/dev/shm/gswarm-${id}`)) places.push(...filesBelow(`/dev/shm/gswarm-${id}`));
	}
	const names = places.map(([path]) => path);
	for (const wanted of ["host.log", "node1.log", "host/agent.sqlite", "node1/agent.sqlite", "host.out"])
		expect(names).toContain(wanted);
	expect(names.some((name) => name.startsWith("node2/logs/"))).toBe(true);
	const logged = places.find(([path]) => path === "node1.log")?.[1] ?? "";
	expect(logged).toContain('"level":"debug"');
	expect(found(places)).toEqual([]);
	const signed = places.filter(([path, text]) => !path.includes("/agent.sqlite") && text.includes(SIGNATURE));
	expect(signed.map(([path]) => path)).toEqual([]);
});

test("no process shows one but the agent that was given its own in its environment", () => {
	const seen = processes();
	expect(seen.filter(([where]) => where.includes("cmdline")).length).toBeGreaterThanOrEqual(4);
	expect(cluster.engines().length).toBe(1);
	const own = `/proc/${node2.pid}/environ`;
	expect(found(seen.filter(([where]) => !where.startsWith(own)))).toEqual([]);
	expect(found(seen.filter(([where]) => where.startsWith(own))).length).toBe(1);
});
