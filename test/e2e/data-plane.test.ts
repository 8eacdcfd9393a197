/** The compiled binary receives large files by a process of its own, which goes with its agent. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestAgent, TestCluster } from "../support/agents.ts";
import { writeFiller } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const SIZE = 40 * 1024 * 1024;

const shelf = tempDir();
let hub: Hub;
let cluster: TestCluster;
let host: TestAgent;
let node2: TestAgent;
let node3: TestAgent;

beforeAll(async () => {
	mkdirSync(join(shelf.path, "filler"));
	writeFiller(join(shelf.path, "filler/filler.bin"), SIZE, 7);
	hub = startHub({ repositories: { "acme/filler": { dir: join(shelf.path, "filler") } } });
	cluster = new TestCluster({
		environment: { HF_ENDPOINT: hub.url, AWS_SECRET_ACCESS_KEY: "canary-secret" },
	});
	const sources = `sources:\n  allow: ["${hub.cdnUrl}"]\n`;
	for (const name of ["node1", "node2"]) cluster.configure(name, sources);
	cluster.configure("node3", `${sources}transfer:\n  plane: portable\n`);
	const started = await cluster.startHostAndNodes(["node1", "node2", "node3"]);
	host = started.host;
	[, node2, node3] = started.nodes as [TestAgent, TestAgent, TestAgent];
	await cluster.run(
		"host",
		"model",
		"download",
		"filler",
		"--source",
		"hf:acme/filler",
		"--to",
		"node1:disk",
	);
}, 60_000);

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
	hub?.stop();
	shelf[Symbol.dispose]();
}, 60_000);

function childrenOf(pid: number): { pid: number; argv: string[] }[] {
	const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
	return children.map((child) => ({
		pid: Number(child),
		argv: readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0").filter(Boolean),
	}));
}

const copyTo = (node: string): Promise<string> =>
	cluster.run("host", "model", "copy", "filler", "--from", "node1:disk", "--to", `${node}:disk`);

function expectWhole(node: string): void {
	const models = join(cluster.dir(node), "disk/models/filler");
	const [revision] = readdirSync(models);
	const got = readFileSync(join(models, revision ?? "", "filler.bin"));
	expect(Bun.hash(got)).toBe(Bun.hash(readFileSync(join(shelf.path, "filler/filler.bin"))));
}

/** Looks without a pause, for what is there for some milliseconds only. */
function catchChild(pid: number): number {
	const endMs = performance.now() + 20_000;
	while (performance.now() < endMs) {
		// Before it is the program that it becomes, its parent waits for it and would be stopped too.
		const child = childrenOf(pid).find(({ argv }) => argv[1] === "__data");
		if (child !== undefined) return child.pid;
	}
	throw new Error(`${pid} has no child`);
}

test("a copy between nodes is received by the data process, which has no secrets and ends with a killed agent", async () => {
	expect(childrenOf(node2.pid)).toEqual([]);
	const body = { source_device: "node1:disk", target_device: "node2:disk" };
	const submitted = await host.api("POST", "/api/v1/models/filler/copy", body);
	expect(submitted.status).toBe(202);
	const held = catchChild(node2.pid);
	process.kill(held, "SIGSTOP");
	const task = async () => (await host.api("GET", `/api/v1/queue/tasks/${submitted.body.task_id}`)).body;
	try {
		await until("the host tells how its bytes come", async () => (await task()).progress.plane === "fast");
	} finally {
		process.kill(held, "SIGCONT");
	}
	await until("it is copied", async () => (await task()).status === "completed");
	expectWhole("node2");
	expect(node2.log()).not.toContain("fast_plane_left");
	const [child] = childrenOf(node2.pid);
	expect(child?.argv.slice(1)).toEqual(["__data"]);
	const pid = child?.pid ?? 0;
	expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toContain("canary-secret");
	await node2.kill();
	await until("its data process has ended", () => !existsSync(`/proc/${pid}`));
}, 60_000);

test("`transfer.plane: portable` leaves everything to the agent", async () => {
	await copyTo("node3");
	expectWhole("node3");
	expect(childrenOf(node3.pid)).toEqual([]);
	expect(host.log()).not.toContain("error");
}, 60_000);
