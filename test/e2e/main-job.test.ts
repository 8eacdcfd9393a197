/** The main job with the compiled binary: download → copy → memory → serve → answer → stop → delete. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { TestCluster, type TestAgent } from "../support/agents.ts";
import { writeGguf, writeSafetensorsRepository } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const SENTENCE = "Bytes that came through two nodes say exactly this.";
const MODEL_BYTES = 24_000_000;

const shelf = tempDir();
let hub: Hub;
let cluster: TestCluster;
let host: TestAgent;
let node2: TestAgent;

beforeAll(async () => {
	for (const name of ["gguf", "hf", "cut"]) mkdirSync(join(shelf.path, name));
	const options = { name: "tiny", say: SENTENCE, sizeBytes: MODEL_BYTES, shards: 3 };
	writeGguf(join(shelf.path, "gguf/tiny.gguf"), options);
	writeSafetensorsRepository(join(shelf.path, "hf"), options);
	const whole = readFileSync(join(shelf.path, "gguf/tiny.gguf"));
	await Bun.write(join(shelf.path, "cut/cut.gguf"), whole.subarray(0, 9_000_000));
	hub = startHub({
		repositories: {
			"acme/tiny": { dir: join(shelf.path, "gguf") },
			"acme/tiny-hf": { dir: join(shelf.path, "hf") },
			"acme/cut": { dir: join(shelf.path, "cut") },
		},
	});
	cluster = new TestCluster({ environment: { HF_ENDPOINT: hub.url } });
	for (const name of ["node1", "node2"]) cluster.configure(name, `sources:\n  allow: ["${hub.cdnUrl}"]\n`);
	const started = await cluster.startHostAndNodes(["node1", "node2"]);
	host = started.host;
	[, node2] = started.nodes as [TestAgent, TestAgent];
}, 60_000);

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
	hub?.stop();
	shelf[Symbol.dispose]();
}, 60_000);

/** The directory of a copy on a disk tier. */
function copyDir(node: string, model: string): string {
	const models = join(cluster.dir(node), "disk/models", model.replaceAll("/", "%2F"));
	const [revision] = readdirSync(models);
	return join(models, revision ?? "");
}

function sameFiles(a: string, b: string): void {
	for (const name of readdirSync(a)) {
		expect(Bun.hash(readFileSync(join(b, name)))).toBe(Bun.hash(readFileSync(join(a, name))));
	}
}

async function ask(agent: TestAgent, url: string, model: string): Promise<string> {
	const token = readFileSync(join(agent.dir, "admin.token"), "utf8").trim();
	const response = await fetch(`${url}/v1/chat/completions`, {
		method: "POST",
		headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
		body: JSON.stringify({ model, messages: [{ role: "user", content: "Well?" }], temperature: 0 }),
	});
	const body = (await response.json()) as {
		choices?: { message: { content: string } }[];
		error?: { message: string };
	};
	return body.choices?.[0]?.message.content ?? `no answer: ${body.error?.message}`;
}

describe("the main job", () => {
	test("a model comes from the hub whole and once", async () => {
		await cluster.run("host", "model", "download", "tiny", "--source", "hf:acme/tiny", "--to", "node1:disk");
		sameFiles(join(shelf.path, "gguf"), copyDir("node1", "tiny"));
		const sent = hub.log().reduce((sum, e) => sum + (e.path === "tiny.gguf" ? e.bytesSent : 0), 0);
		expect(sent).toBeLessThan(MODEL_BYTES * 1.1);
	});

	test("a repository of several files comes whole", async () => {
		await cluster.run("host", "model", "download", "hf:acme/tiny-hf", "--to", "node1:disk");
		sameFiles(join(shelf.path, "hf"), copyDir("node1", "acme/tiny-hf"));
	});

	test("a copy to another node is one durable operation of the host, and equal", async () => {
		await cluster.run("host", "model", "copy", "tiny", "--from", "node1:disk", "--to", "node2:disk");
		await cluster.run("host", "model", "copy", "acme/tiny-hf", "--from", "node1:disk", "--to", "node2:disk");
		sameFiles(join(shelf.path, "gguf"), copyDir("node2", "tiny"));
		sameFiles(join(shelf.path, "hf"), copyDir("node2", "acme/tiny-hf"));
		const { body } = await host.api("GET", "/api/v1/queue/history");
		const operations = body.tasks.filter(
			(t: { node: string; task_type: string }) => t.node === "host" && t.task_type === "copy",
		);
		expect(operations).toHaveLength(2);
	});

	test("a move to memory keeps a source that another disk also holds only when it must", async () => {
		await cluster.run("host", "model", "move", "tiny", "--from", "node2:disk", "--to", "node2:dram");
		const { body } = await host.api("GET", "/api/v1/models/tiny/locations");
		const devices = body.locations.map((l: { device: string }) => l.device);
		expect(devices).toEqual(["node1:disk", "node2:dram"]);
		expect(existsSync(join(cluster.dir("node2"), "disk/models/tiny"))).toBe(false);
	});

	test("the last durable copy is not deleted without force", async () => {
		const { status, body } = await host.api("DELETE", "/api/v1/models/tiny?device=node1:disk");
		expect(status).toBe(409);
		expect(body.error.details.reason).toBe("last_durable_copy");
	});

	test("served from memory, host and node give the known answer, streamed too", async () => {
		await cluster.run("host", "model", "serve", "tiny", "--device", "node2:dram");
		expect(await ask(host, host.hostUrl, "tiny")).toBe(SENTENCE);
		expect(await ask(node2, node2.nodeUrl, "tiny")).toBe(SENTENCE);
		const models = await host.api("GET", "/v1/models");
		expect(models.body.data.map((m: { id: string }) => m.id)).toEqual(["tiny"]);
		const stream = await host.api("POST", "/v1/chat/completions", {
			model: "tiny",
			messages: [{ role: "user", content: "Well?" }],
			temperature: 0,
			stream: true,
		});
		expect(stream.headers.get("content-type")).toContain("text/event-stream");
		const words = String(stream.body)
			.split("\n")
			.filter((line) => line.startsWith("data: {"))
			.map((line) => JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "");
		expect(words.join("")).toBe(SENTENCE);
		expect(String(stream.body).trimEnd().endsWith("data: [DONE]")).toBe(true);
	});

	test("the engine maps the file in memory and has no second copy of it", () => {
		const [engine] = cluster.engines();
		const maps = readFileSync(`/proc/${engine?.pid}/maps`, "utf8");
		expect(maps).toContain("/dev/shm/gswarm-");
	});

	test("one request serves it on several nodes, and names the services", async () => {
		const { status, body } = await host.api("POST", "/api/v1/services", {
			model_name: "tiny",
			nodes: ["node1", "node2"],
			config: { load_balancing: "round_robin", replicas: 2 },
		});
		expect(status).toBe(202);
		expect(body.service_ids).toHaveLength(2);
		await until("the deployment has ended", async () => {
			const task = await host.api("GET", `/api/v1/queue/tasks/${body.task_id}`);
			return task.body.status === "completed";
		});
		const { services } = (await host.api("GET", "/api/v1/services")).body;
		expect(services.map((s: { service_id: string }) => s.service_id).toSorted()).toEqual(
			body.service_ids.toSorted(),
		);
		const policies = services.map((s: { load_balancing: string }) => s.load_balancing);
		expect(policies).toContain("round_robin");
		for (let i = 0; i < 4; i++) expect(await ask(host, host.hostUrl, "tiny")).toBe(SENTENCE);
		expect(cluster.engines()).toHaveLength(2);
		await cluster.run("host", "service", "stop", body.service_id);
		expect(cluster.engines()).toHaveLength(1);
	});

	test("a model that is served is not deleted without force", async () => {
		const { status, body } = await host.api("DELETE", "/api/v1/models/tiny");
		expect(status).toBe(409);
		expect(body.error.details.reason).toBe("in_use");
	});

	test("a truncated model is refused by name, and the log is there to read", async () => {
		await cluster.run("host", "model", "download", "cut", "--source", "hf:acme/cut", "--to", "node1:disk");
		const { code, stderr } = await cluster.cli("host", ["model", "serve", "cut", "--device", "node1:disk"]);
		expect(code).toBe(1);
		expect(stderr).toContain("cut.gguf");
		expect(stderr).toContain("truncated");
	});

	test("a stopped service leaves no process, and deleting frees every byte", async () => {
		await cluster.run("host", "service", "stop", "tiny");
		expect(cluster.engines()).toEqual([]);
		for (const name of ["tiny", "acme/tiny-hf", "cut"])
			await cluster.run("host", "model", "delete", name, "--yes");
		const left = await host.api("GET", "/api/v1/models");
		expect(left.body.models).toEqual([]);
		expect((await host.api("GET", "/api/v1/services")).body.services).toEqual([]);
		for (const node of ["node1", "node2"]) {
			expect(readdirSync(join(cluster.dir(node), "disk/models"))).toEqual([]);
			expect(readdirSync(join(cluster.dir(node), "disk/staging"))).toEqual([]);
		}
	});

	test("the binary alone in another folder does it too", async () => {
		using elsewhere = tempDir();
		const copy = join(elsewhere.path, "gswarm");
		cpSync(join(import.meta.dir, "../../dist/gswarm"), copy);
		const child = Bun.spawn([copy, "node", "list", "--json", "--data-dir", cluster.dir("host")], {
			cwd: elsewhere.path,
			env: cluster.environment,
			stdout: "pipe",
		});
		const { nodes } = JSON.parse(await new Response(child.stdout).text());
		expect(nodes.map((n: { name: string }) => n.name)).toEqual(["node1", "node2"]);
	});

	test("an agent that stops leaves no empty directory in memory", async () => {
		const { node_id: id } = JSON.parse(readFileSync(join(cluster.dir("node2"), "node.json"), "utf8"));
		expect(existsSync(`/dev/shm/gswarm-${id}`)).toBe(true);
		expect(await node2.stop()).toBe(0);
		expect(existsSync(`/dev/shm/gswarm-${id}`)).toBe(false);
	});
});
