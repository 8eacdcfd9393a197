/** What survives: cut connections, changed bytes, and `kill -9` of every agent at the worst moment. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { TestCluster, type TestAgent } from "../support/agents.ts";
import { writeFiller, writeGguf } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MIB = 1024 * 1024;
/** Parts of a file of this size. */
const PART_BYTES = 8 * MIB;
const SIZE = 8 * PART_BYTES;
/** Each of its own bytes: what a tier has already is not fetched again. */
const MODELS = ["cut", "flip", "killed", "stopped", "cancelled"];
const SENTENCE = "Nobody noticed that the agent was killed.";

const shelf = tempDir();
let hub: Hub;
let cluster: TestCluster;
let host: TestAgent;
let node1: TestAgent;
let node2: TestAgent;

beforeAll(async () => {
	for (const name of [...MODELS, "tiny"]) mkdirSync(join(shelf.path, name));
	for (const [seed, name] of MODELS.entries())
		writeFiller(join(shelf.path, name, "filler.bin"), SIZE, 7 + seed);
	writeGguf(join(shelf.path, "tiny/tiny.gguf"), { name: "tiny", say: SENTENCE });
	hub = startHub({
		repositories: {
			...Object.fromEntries(MODELS.map((name) => [`acme/${name}`, { dir: join(shelf.path, name) }])),
			"acme/tiny": { dir: join(shelf.path, "tiny") },
		},
	});
	cluster = new TestCluster({ environment: { HF_ENDPOINT: hub.url } });
	for (const name of ["node1", "node2"]) cluster.configure(name, `sources:\n  allow: ["${hub.cdnUrl}"]\n`);
	const started = await cluster.startHostAndNodes(["node1", "node2"]);
	host = started.host;
	[node1, node2] = started.nodes as [TestAgent, TestAgent];
}, 60_000);

beforeEach(() => {
	hub.clearFaults();
	hub.clearLog();
});

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
	hub?.stop();
	shelf[Symbol.dispose]();
}, 60_000);

function expectWhole(node: string, model: string): void {
	const models = join(cluster.dir(node), "disk/models", model);
	const [revision] = readdirSync(models);
	const got = readFileSync(join(models, revision ?? "", "filler.bin"));
	expect(Bun.hash(got)).toBe(Bun.hash(readFileSync(join(shelf.path, model, "filler.bin"))));
	expect(readdirSync(join(cluster.dir(node), "disk/staging"))).toEqual([]);
}

/** Submits a task to the host and returns its id. */
async function submit(path: string, body: unknown): Promise<string> {
	const answer = await host.api("POST", path, body);
	expect(answer.status).toBe(202);
	return answer.body.task_id;
}

// oxlint-disable-next-line typescript/no-explicit-any -- a task document, read field by field
async function ended(taskId: string): Promise<any> {
	return until(
		`${taskId} has ended`,
		async () => {
			const { body } = await host.api("GET", `/api/v1/queue/tasks/${taskId}`);
			return ["completed", "failed", "cancelled"].includes(body.status) && body;
		},
		60_000,
	);
}

/** Indexes of the parts that a node has verified and recorded. */
function recordedParts(node: string): number[] {
	const db = new Database(join(cluster.dir(node), "agent.sqlite"), { readonly: true });
	try {
		return db
			.query<{ part_index: number }, []>("SELECT part_index FROM transfer_part ORDER BY part_index")
			.all()
			.map((row) => row.part_index);
	} finally {
		db.close();
	}
}

/** Bytes that a process has written to files and sockets; sendfile counts. */
function writtenBytes(pid: number): number {
	return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
}

/** Restarts a node with what its data directory knows. */
async function restart(name: string): Promise<TestAgent> {
	const node = await cluster.start(name, { args: cluster.nodeArgs(host, name) });
	await cluster.allAlive(host, 2);
	return node;
}

describe("downloads", () => {
	test("a hub that cuts every connection after 5 MB is resumed inside the part, and no attempt is spent", async () => {
		hub.set({ cutAfterBytes: 5_000_000 });
		const id = await submit("/api/v1/models/cut/download", {
			source_url: "hf:acme/cut",
			target_device: "node1:disk",
		});
		const task = await ended(id);
		expect(task.error).toBeNull();
		expect(task.attempt).toBe(1);
		expectWhole("node1", "cut");
		const sent = hub.log().reduce((sum, e) => sum + (e.server === "cdn" ? e.bytesSent : 0), 0);
		expect(sent).toBeLessThan(SIZE * 1.1);
	}, 120_000);

	test("a byte that was changed on the wire is fetched again", async () => {
		hub.set({ flipByte: { path: "filler.bin", offset: 3 * PART_BYTES + 17, times: 1 } });
		const id = await submit("/api/v1/models/flip/download", {
			source_url: "hf:acme/flip",
			target_device: "node1:disk",
		});
		expect((await ended(id)).error).toBeNull();
		expectWhole("node1", "flip");
	}, 120_000);

	test("an agent killed in mid-download goes on without fetching verified parts again", async () => {
		hub.set({ rateBytesPerSecond: 3_000_000 });
		const id = await submit("/api/v1/models/killed/download", {
			source_url: "hf:acme/killed",
			target_device: "node1:disk",
		});
		await until("some parts are recorded", () => recordedParts("node1").length >= 2);
		await node1.kill();
		const kept = recordedParts("node1");
		expect(kept.length).toBeLessThan(SIZE / PART_BYTES);
		hub.clearFaults();
		hub.clearLog();
		node1 = await restart("node1");
		expect((await ended(id)).error).toBeNull();
		expectWhole("node1", "killed");
		const again = hub
			.log()
			.filter((e) => e.server === "cdn" && e.range !== undefined)
			.flatMap((e) => {
				const [, from, to] = /bytes=(\d+)-(\d+)/.exec(e.range ?? "") ?? [];
				return kept.filter(
					(part) => Number(from) < (part + 1) * PART_BYTES && Number(to) >= part * PART_BYTES,
				);
			});
		expect(again).toEqual([]);
	}, 120_000);

	test("an agent that is told to stop in mid-download leaves within 10 s and goes on later", async () => {
		hub.set({ rateBytesPerSecond: 2_000_000 });
		const id = await submit("/api/v1/models/stopped/download", {
			source_url: "hf:acme/stopped",
			target_device: "node1:disk",
		});
		await until("a part is recorded", () => recordedParts("node1").length >= 1);
		const startMs = performance.now();
		expect(await node1.stop()).toBe(0);
		expect(performance.now() - startMs).toBeLessThan(10_000);
		hub.clearFaults();
		node1 = await restart("node1");
		const task = await ended(id);
		expect(task.error).toBeNull();
		expect(task.attempt).toBe(1);
		expectWhole("node1", "stopped");
	}, 120_000);

	test("a cancelled download leaves nothing", async () => {
		hub.set({ rateBytesPerSecond: 1_000_000 });
		const id = await submit("/api/v1/models/cancelled/download", {
			source_url: "hf:acme/cancelled",
			target_device: "node1:disk",
		});
		await until(
			"it runs",
			async () => (await host.api("GET", `/api/v1/queue/tasks/${id}`)).body.progress.bytes_done > 0,
		);
		await host.api("POST", `/api/v1/queue/tasks/${id}/cancel`);
		expect((await ended(id)).status).toBe("cancelled");
		await until(
			"staging is empty",
			() => readdirSync(join(cluster.dir("node1"), "disk/staging")).length === 0,
		);
		expect(readdirSync(join(cluster.dir("node1"), "disk/models"))).not.toContain("cancelled");
	}, 120_000);
});

describe("copies between nodes", () => {
	const copy = { source_device: "node1:disk", target_device: "node2:disk", bandwidth_limit: 12_000_000 };

	test("a receiver killed in mid-copy goes on, and the sender sends only what was missing", async () => {
		const id = await submit("/api/v1/models/cut/copy", copy);
		await until("some parts are recorded", () => recordedParts("node2").length >= 3);
		await node2.kill();
		const kept = recordedParts("node2").length;
		const before = writtenBytes(node1.pid);
		node2 = await restart("node2");
		expect((await ended(id)).error).toBeNull();
		expectWhole("node2", "cut");
		const sent = writtenBytes(node1.pid) - before;
		expect(sent).toBeLessThan(SIZE - kept * PART_BYTES + 4 * MIB);
	}, 120_000);

	test("a sender killed in mid-copy is waited for", async () => {
		const id = await submit("/api/v1/models/flip/copy", copy);
		await until("a part is recorded", () => recordedParts("node2").length >= 1);
		await node1.kill();
		node1 = await restart("node1");
		expect((await ended(id)).error).toBeNull();
		expectWhole("node2", "flip");
	}, 120_000);

	test("a host killed in mid-copy goes on with the same task", async () => {
		const id = await submit("/api/v1/models/killed/copy", copy);
		await until("a part is recorded", () => recordedParts("node2").length >= 1);
		await host.kill();
		const port = new URL(host.hostUrl).port;
		host = await cluster.start("host", { args: ["--host", "--port", port] });
		await cluster.allAlive(host, 2);
		expect((await ended(id)).error).toBeNull();
		expectWhole("node2", "killed");
		const { body } = await node2.api("GET", "/api/v1/queue/history");
		const pulls = body.tasks.filter(
			(t: { request: { model_name: string } }) => t.request.model_name === "killed",
		);
		expect(pulls).toHaveLength(1);
	}, 120_000);

	test("a cancelled copy leaves the source whole and the target absent", async () => {
		const id = await submit("/api/v1/models/stopped/copy", copy);
		await until("a part is recorded", () => recordedParts("node2").length >= 1);
		await host.api("POST", `/api/v1/queue/tasks/${id}/cancel`);
		expect((await ended(id)).status).toBe("cancelled");
		await until(
			"staging is empty",
			() => readdirSync(join(cluster.dir("node2"), "disk/staging")).length === 0,
		);
		expect(readdirSync(join(cluster.dir("node2"), "disk/models"))).not.toContain("stopped");
		expectWhole("node1", "stopped");
	}, 120_000);
});

describe("services", () => {
	async function answer(): Promise<string> {
		const { body } = await host.api("POST", "/v1/chat/completions", {
			model: "tiny",
			messages: [{ role: "user", content: "?" }],
			temperature: 0,
		});
		return body.choices?.[0]?.message.content ?? JSON.stringify(body);
	}

	test("an agent killed while serving finds its engine again: no orphan, no second engine", async () => {
		await cluster.run("host", "model", "download", "tiny", "--source", "hf:acme/tiny", "--to", "node2:disk");
		await cluster.run("host", "model", "serve", "tiny", "--device", "node2:disk");
		const before = cluster.engines().map(({ pid }) => pid);
		expect(before).toHaveLength(1);
		await node2.kill();
		expect(cluster.engines().map(({ pid }) => pid)).toEqual(before);
		node2 = await restart("node2");
		await until("the answer comes again", async () => (await answer()) === SENTENCE);
		expect(cluster.engines().map(({ pid }) => pid)).toEqual(before);
		const { body } = await host.api("GET", "/api/v1/services");
		await cluster.run("host", "service", "stop", body.services[0].service_id);
		expect(cluster.engines()).toEqual([]);
	}, 120_000);

	test("an engine that is killed is started again, and stopping the agent ends it", async () => {
		await cluster.run("host", "model", "serve", "tiny", "--device", "node2:disk");
		const [first] = cluster.engines();
		process.kill(first?.pid ?? 0, "SIGKILL");
		await until(
			"another engine answers",
			async () => cluster.engines()[0]?.pid !== first?.pid && (await answer()) === SENTENCE,
		);
		expect(await node2.stop()).toBe(0);
		expect(cluster.engines()).toEqual([]);
		node2 = await restart("node2");
		await until("what was wanted is served again", async () => (await answer()) === SENTENCE, 60_000);
	}, 120_000);
});
