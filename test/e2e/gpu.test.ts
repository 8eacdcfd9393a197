/** Simulated GPUs of the compiled binary: a host and two nodes, the commands that people type, and processes that die. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestAgent, TestCluster } from "../support/agents.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { until } from "../support/until.ts";

/** Processes that an agent started to hold models on its GPUs. */
const holdersOf = ({ pid }: { pid: number }): number[] =>
	readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.filter((name) => {
			try {
				const stat = readFileSync(`/proc/${name}/stat`, "utf8");
				const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
				return Number(parent) === pid && readFileSync(`/proc/${name}/cmdline`, "utf8").includes("__holder");
			} catch {
				// It ended while we looked.
				return false;
			}
		})
		.map(Number);

const devicesOf = async (host: TestAgent, model: string): Promise<string[]> => {
	const { body } = await host.api("GET", `/api/v1/models/${model}/locations`);
	return body.locations.map((it: { device: string }) => it.device);
};

test("the model steps of a workflow run on a simulated GPU: download, load, serve, ask, release", async () => {
	await using cluster = new TestCluster();
	const models = join(cluster.home.path, "models");
	mkdirSync(join(models, "llama-7b"), { recursive: true });
	writeGguf(join(models, "llama-7b/model.gguf"));
	for (const name of ["node1", "node2"]) cluster.configure(name, `import_folders: [${models}]\n`);
	const host = await cluster.start("host", { args: ["--host", "--port", "0"] });
	const join2 = async (name: string): Promise<TestAgent> => {
		const input = await cluster.run("host", "token", "create", "--join");
		return cluster.start(name, { args: [...cluster.nodeArgs(host, name), "--sim-gpu", "64MB"], input });
	};
	const node1 = await join2("node1");
	await join2("node2");
	await cluster.allAlive(host, 2);
	const run = (...args: string[]): Promise<string> => cluster.run("host", ...args);

	const source = `file://${models}/llama-7b`;
	await run("model", "download", "llama-7b", "--source", source, "--to", "node1:disk");
	await run("model", "move", "llama-7b", "node1:disk", "node1:gpu0", "--keep-source");
	expect(await devicesOf(host, "llama-7b")).toEqual(["node1:disk", "node1:gpu0"]);
	expect(await run("node", "list")).toContain("gpu0 ");
	expect(await run("model", "list")).toContain("node1:gpu0 (simulated)");
	expect(await run("model", "show", "llama-7b")).toContain("node1:gpu0 (simulated)");

	// A killed holder is a location less, and another load brings it back.
	const [holder] = holdersOf(node1);
	process.kill(holder ?? 0, "SIGKILL");
	await until("the host knows", async () => !(await devicesOf(host, "llama-7b")).includes("node1:gpu0"));
	await run("model", "copy", "llama-7b", "node1:disk", "node1:gpu0");

	await run("model", "serve", "llama-7b", "--device", "node1:gpu0");
	expect(holdersOf(node1).length).toBeLessThanOrEqual(1);
	expect(await run("service", "list")).toContain("node1:gpu0 (simulated)");
	const answer = await host.api("POST", "/v1/chat/completions", {
		model: "llama-7b",
		messages: [{ role: "user", content: "Hello" }],
	});
	expect(answer.body.choices[0].message.content).toContain("computed by a real model");
	// What the engine has in its own memory is none of the copies that can be read.
	const verified = await cluster.cli("host", ["model", "verify", "llama-7b"]);
	expect({ code: verified.code, stderr: verified.stderr }).toMatchObject({ code: 0 });
	expect(verified.stderr).toContain("in a service's own memory");
	const refused = await cluster.cli("host", [
		"model",
		"delete",
		"llama-7b",
		"--device",
		"node1:gpu0",
		"--yes",
	]);
	expect(refused.code).not.toBe(0);
	expect(refused.stderr).toContain("is being served");
	const [service] = (await host.api("GET", "/api/v1/services")).body.services;
	await run("service", "stop", service.service_id);

	// To the GPU of another node, and what an agent holds goes with it, however it ends.
	await run("model", "copy", "llama-7b", "node1:disk", "node2:gpu0");
	expect(await devicesOf(host, "llama-7b")).toEqual(["node1:disk", "node2:disk", "node2:gpu0"]);
	await run("model", "copy", "llama-7b", "node1:disk", "node1:gpu0");
	const [last] = holdersOf(node1);
	expect(last).toBeNumber();
	await node1.kill();
	await until("its holder has ended", () => !existsSync(`/proc/${last}`));
}, 120_000);
