// Whole agents, each a process of its own: where they listen, over what, and what they leave for the command line.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ApiClient, createApiClient } from "../../src/api/client.ts";
import type { AgentFile, NodeFile } from "../../src/agent/data-dir.ts";
import { nodeServerName } from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { refusedAgent, type RunningAgent, startAgent } from "./start-agent.ts";

const BOTH = { host: true, node: true };
const MODEL = "tiny";
const LIMIT_MS = 60_000;

const shelf = tempDir();
beforeAll(() => writeFileSync(join(shelf.path, "model.gguf"), "GGUF and more"));
afterAll(() => shelf[Symbol.dispose]());

/** A data directory whose agent may take models from the shelf. */
function configured(dataDir: string, more = ""): void {
	mkdirSync(dataDir, { recursive: true, mode: 0o700 });
	const path = join(dataDir, "config.yaml");
	writeFileSync(path, `import_folders: [${shelf.path}]\n${more}`, { mode: 0o600 });
}

/** As the command line does: by what the data directory says. */
function adminOf(dataDir: string, url?: string): ApiClient {
	const file = JSON.parse(readFileSync(join(dataDir, "agent.json"), "utf8")) as AgentFile;
	const { ca_file: caFile, server_name: serverName = "" } = file;
	const token = readFileSync(join(dataDir, "admin.token"), "utf8").trim();
	return createApiClient({
		baseUrl: url ?? file.host_url ?? "",
		token: () => token,
		...(caFile === undefined ? {} : { tls: { ca: readFileSync(caFile, "utf8"), serverName } }),
	});
}
const nodeFile = (dataDir: string): NodeFile =>
	JSON.parse(readFileSync(join(dataDir, "node.json"), "utf8")) as NodeFile;

async function alive(client: ApiClient, name: string): Promise<void> {
	await until(`${name} is alive`, async () => {
		const { nodes } = await client.call("listNodes", {});
		return nodes.some((it) => it.name === name && it.status === "alive" && it.last_seen_s !== null);
	});
}
async function ended(client: ApiClient, submitted: Promise<{ task_id: string }>): Promise<string> {
	const { task_id } = await submitted;
	const task = await until("it has ended", async () => {
		const now = await client.call("getTask", { params: { task_id } });
		return now.completed_at === null ? undefined : now;
	});
	return task.error === null ? task.status : JSON.stringify(task.error);
}

async function download(client: ApiClient, target_device: string): Promise<void> {
	const params = { model_name: MODEL };
	const body = { target_device, source_url: `file://${shelf.path}/model.gguf` };
	expect(await ended(client, client.call("downloadModel", { params, body }))).toBe("completed");
}

describe("an address to listen on", () => {
	test.each([
		"example.org",
		"",
		"[::1]",
		"127.0.0.1:8000",
		"127.0.0.1.evil.com",
		"0x7f.1",
		"http://127.0.0.1",
	])(
		"%j is refused before anything is made",
		async (bind) => {
			using dir = tempDir();
			const dataDir = join(dir.path, "home");
			const refusal = await refusedAgent({ dataDir, bind });
			expect(refusal).toMatchObject({ code: "INVALID_REQUEST", reason: "bad_bind" });
			expect(existsSync(dataDir)).toBe(false);
		},
		LIMIT_MS,
	);

	test("of another machine is refused, and named", async () => {
		using dir = tempDir();
		const refusal = await refusedAgent({ dataDir: dir.path, bind: "203.0.113.9" });
		expect(refusal).toMatchObject({ code: "INVALID_REQUEST", reason: "bind_not_here" });
		expect(refusal.message).toContain("203.0.113.9");
	});

	test("a name for others that is none, and a certificate that is none, make nothing either", async () => {
		using dir = tempDir();
		const dataDir = join(dir.path, "home");
		expect(await refusedAgent({ dataDir, advertise: ["a b"] })).toMatchObject({ reason: "bad_address" });
		const tlsFiles = { certificate: join(dir.path, "no.pem"), key: join(dir.path, "no.key") };
		expect(await refusedAgent({ dataDir, tlsFiles })).toMatchObject({ reason: "bad_tls_certificate" });
		expect(existsSync(dataDir)).toBe(false);
	});
});

test(
	"a machine's first agent, started again with TLS, keeps its name, its id, its cluster and its models",
	async () => {
		using dir = tempDir();
		const dataDir = join(dir.path, "home");
		configured(dataDir);
		{
			await using agent = await startAgent({ dataDir, role: BOTH, nodeName: "node1" });
			expect(agent.file.host_url).toStartWith("http://127.0.0.1:");
			expect(agent.file).not.toHaveProperty("ca_file");
			await alive(adminOf(dataDir), "node1");
			await download(adminOf(dataDir), "node1:disk");
			expect(await agent.stop()).toBe(0);
		}
		const before = nodeFile(dataDir);
		const cluster = readFileSync(join(dataDir, "cluster.json"), "utf8");
		await using agent = await startAgent({ dataDir, tls: true, role: BOTH, advertise: ["gpu1.lan"] });
		expect(agent.file).toMatchObject({
			name: "node1",
			ca_file: join(dataDir, "ca.pem"),
			server_name: HOST_SERVER_NAME,
		});
		for (const url of [agent.file.host_url, agent.file.node_url, agent.file.peer_url]) {
			expect(url).toStartWith("https://127.0.0.1:");
		}
		expect(nodeFile(dataDir)).toEqual(before);
		expect(readFileSync(join(dataDir, "cluster.json"), "utf8")).toBe(cluster);
		await alive(adminOf(dataDir), "node1");
		const { location_details } = await adminOf(dataDir).call("getModel", {
			params: { model_name: MODEL },
		});
		expect(location_details.map((it) => `${it.device} ${it.status}`)).toEqual(["node1:disk ready"]);
		// A Host that it was not told of is refused, the one it was told of is not.
		const url = `${agent.file.host_url}/api/v1/health`;
		const tls = { ca: readFileSync(join(dataDir, "ca.pem"), "utf8"), serverName: HOST_SERVER_NAME };
		const { port } = new URL(url);
		const asked = async (host: string): Promise<number> =>
			(await fetch(url, { headers: { host }, tls })).status;
		expect(await asked(`gpu1.lan:${port}`)).toBe(200);
		expect(await asked(`gpu2.lan:${port}`)).toBe(403);
	},
	LIMIT_MS,
);

test(
	"the command line finds an agent with TLS by its data directory, a node's too",
	async () => {
		using dir = tempDir();
		const [hostDir, nodeDir] = [join(dir.path, "host"), join(dir.path, "node")];
		await using host = await startAgent({ dataDir: hostDir, tls: true });
		const { token } = await adminOf(hostDir).call("createToken", { body: { kind: "join" } });
		await using node = await startAgent({
			dataDir: nodeDir,
			role: { host: false, node: true },
			nodeName: "node2",
			tls: true,
			joinUrl: host.file.host_url ?? "",
			joinString: token,
		});
		expect(node.file).toMatchObject({
			ca_file: join(nodeDir, "ca.pem"),
			server_name: nodeServerName("node2"),
		});
		await alive(adminOf(hostDir), "node2");
		const cli = async (dataDir: string, ...args: string[]): Promise<string> => {
			const bin = new URL("../../bin/gswarm.ts", import.meta.url).pathname;
			const child = Bun.spawn([process.execPath, bin, ...args, "--data-dir", dataDir, "--json"], {
				stdout: "pipe",
				stderr: "ignore",
			});
			return new Response(child.stdout).text();
		};
		expect(JSON.parse(await cli(hostDir, "node", "list"))).toMatchObject({ nodes: [{ name: "node2" }] });
		expect(JSON.parse(await cli(nodeDir, "model", "list"))).toMatchObject({ models: [] });
	},
	LIMIT_MS,
);

test(
	"with a certificate of one's own people meet that one, and agents and the command line the cluster's",
	async () => {
		using dir = tempDir();
		const dataDir = join(dir.path, "home");
		const files = { certificate: join(dir.path, "cert.pem"), key: join(dir.path, "key.pem") };
		writeFileSync(files.certificate, LOOPBACK_CERTIFICATE.cert);
		writeFileSync(files.key, LOOPBACK_CERTIFICATE.key, { mode: 0o600 });
		await using agent = await startAgent({ dataDir, role: BOTH, nodeName: "node1", tlsFiles: files });
		await alive(adminOf(dataDir), "node1");
		const asPeopleDo = async (url = ""): Promise<unknown> =>
			(await fetch(`${url}/api/v1/health`, { tls: { ca: LOOPBACK_CERTIFICATE.cert } })).json();
		expect(await asPeopleDo(agent.file.host_url)).toEqual({ status: "ok" });
		expect(await asPeopleDo(agent.file.node_url)).toEqual({ status: "ok" });
		expect(asPeopleDo(agent.file.peer_url)).rejects.toThrow();
	},
	LIMIT_MS,
);

test(
	"on a trusted network parts go without TLS, and nothing else does",
	async () => {
		using dir = tempDir();
		const [hostDir, nodeDir] = [join(dir.path, "host"), join(dir.path, "node")];
		configured(hostDir, "cluster: {trusted_network: true}\n");
		await using host = await startAgent({ dataDir: hostDir, tls: true, role: BOTH, nodeName: "node1" });
		const client = adminOf(hostDir);
		const { token } = await client.call("createToken", { body: { kind: "join" } });
		await using node = await startAgent({
			dataDir: nodeDir,
			role: { host: false, node: true },
			nodeName: "node2",
			tls: true,
			joinUrl: host.file.host_url ?? "",
			joinString: token,
		});
		await Promise.all([alive(client, "node1"), alive(client, "node2")]);
		const schemes = async (it: RunningAgent): Promise<string[]> =>
			Promise.all([it.file.node_url, it.file.peer_url].map(schemeAt));
		await until("both have heard of it", async () => {
			const all = await Promise.all([schemes(host), schemes(node)]);
			return all.every(([api, parts]) => api === "https" && parts === "http");
		});
		await download(client, "node1:disk");
		const copy = client.call("copyModel", {
			params: { model_name: MODEL },
			body: { source_device: "node1:disk", target_device: "node2:disk" },
		});
		expect(await ended(client, copy)).toBe("completed");
	},
	LIMIT_MS,
);

/** What a port speaks, whatever the URL says. */
async function schemeAt(url = ""): Promise<string> {
	try {
		await fetch(url.replace("https:", "http:"));
		return "http";
	} catch {
		return "https";
	}
}
