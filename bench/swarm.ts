/**
 * One model from one machine to another, and to eight at once, every machine on a line of 200 Mbit/s in each direction:
 * how much longer eight take than one, and how much more than the model leaves the machine that has it.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { processesOf } from "../scripts/demo/processes.ts";
import { createApiClient, type ApiClient } from "../src/api/client.ts";
import { writeGguf } from "../test/support/known-answer-model.ts";
import { BINARY } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";
import { type Machine, missingForNetwork, openNetwork, processorTicks } from "./swarm-network.ts";

const RATE = "200mbit";
const RECEIVERS = 8;
const MIB = 1024 * 1024;
const MODEL = "big";
const READY_LIMIT_MS = 60_000;
const COPY_LIMIT_MS = 600_000;

const GOALS = {
	time: { name: `copy to ${RECEIVERS} nodes over ${RATE} lines, time`, goal: { ratioAtMost: 1.3 } },
	egress: { name: "what left the origin meanwhile", goal: { ratioAtMost: 1.1 } },
} as const;

interface Agent {
	machine: Machine;
	directory: string;
}

export async function benchSwarm({ say, quick }: BenchContext): Promise<Measured[]> {
	const missing = missingForNetwork();
	if (missing !== undefined) {
		say(`${missing} is missing: nothing was measured`);
		return rows([], "missing", [], "missing");
	}
	const sizeBytes = (quick ? 128 : 1024) * MIB;
	const home = mkdtempSync(join(tmpdir(), "gswarm-bench-swarm-"));
	const names = Array.from({ length: RECEIVERS }, (_, at) => `node${at + 1}`);
	await using network = await openNetwork([
		{ name: "host", rate: undefined },
		...["origin", ...names].map((name) => ({ name, rate: RATE })),
	]);
	try {
		const [host, ...nodes] = network.machines.map((machine) => ({
			machine,
			directory: join(home, machine.name),
		}));
		const [origin] = nodes;
		if (host === undefined || origin === undefined) throw new Error("no machines");
		// A program of its own, by which its processes are found in the end.
		const binary = join(home, "bin/gswarm");
		mkdirSync(join(home, "bin"));
		await Bun.write(binary, Bun.file(BINARY));
		chmodSync(binary, 0o755);
		const shelf = join(home, "shelf");
		mkdirSync(shelf);
		writeGguf(join(shelf, "big.gguf"), { name: MODEL, say: "Everywhere.", sizeBytes });
		const cluster = await startAgents(binary, host, nodes, shelf);
		say(`${nodes.length} nodes are up`);
		const source = `file://${join(shelf, "big.gguf")}`;
		const target_device = "origin:disk";
		const params = { model_name: MODEL };
		await ended(
			cluster,
			(await cluster.call("downloadModel", { params, body: { source_url: source, target_device } })).task_id,
		);
		const one: number[] = [];
		const all: number[] = [];
		const egress: number[] = [];
		for (let round = 0; round < (quick ? 1 : 2); round++) {
			one.push(await copied(cluster, names.slice(0, 1), say));
			const before = await origin.machine.sentBytes();
			all.push(await copied(cluster, names, say));
			egress.push((await origin.machine.sentBytes()) - before);
			say(`${(all.at(-1) ?? 0).toFixed(1)} s to ${RECEIVERS}, ${(one.at(-1) ?? 0).toFixed(1)} s to one`);
		}
		return rows(
			all,
			one,
			egress,
			egress.map(() => sizeBytes),
		);
	} catch (error) {
		for (const machine of network.machines.slice(0, 3))
			say(`${machine.name}: ${lastWords({ machine, directory: join(home, machine.name) })}`);
		throw error;
	} finally {
		await endAll(home);
	}
}

function rows(
	all: readonly number[],
	one: readonly number[] | "missing",
	egress: readonly number[],
	model: readonly number[] | "missing",
): Measured[] {
	return [
		{ ...GOALS.time, unit: "s", ours: all, peer: one },
		{ ...GOALS.egress, unit: "B", ours: egress, peer: model },
	];
}

/** Copies the model into the memory of these nodes and removes it again; how long the copy took, in seconds. */
async function copied(
	client: ApiClient,
	names: readonly string[],
	say: (text: string) => void,
): Promise<number> {
	const devices = names.map((name) => `${name}:dram`);
	const [busy, ticks] = processorTicks();
	const started = performance.now();
	const submitted = await client.call("transferModels", {
		body: { kind: "copy", models: [{ model_name: MODEL }], target_devices: devices },
	});
	await ended(client, submitted.task_id);
	const seconds = (performance.now() - started) / 1000;
	const [busyNow, ticksNow] = processorTicks();
	say(`processors ${Math.round((100 * (busyNow - busy)) / (ticksNow - ticks))}% busy`);
	for (const device of devices) {
		const params = { model_name: MODEL };
		const { task_id } = await client.call("deleteModel", { params, query: { device } });
		await ended(client, task_id);
	}
	return seconds;
}

async function ended(client: ApiClient, taskId: string): Promise<void> {
	const limit = performance.now() + COPY_LIMIT_MS;
	for (;;) {
		const task = await client.call("getTask", { params: { task_id: taskId } });
		if (task.status === "completed") return;
		if (task.status !== "pending" && task.status !== "running")
			throw new Error(`${taskId}: ${JSON.stringify(task.error)}`);
		if (performance.now() > limit) throw new Error(`${taskId} takes too long`);
		await Bun.sleep(100);
	}
}

/** A host and its nodes as other machines see them: over TLS. */
async function startAgents(
	binary: string,
	host: Agent,
	nodes: readonly Agent[],
	shelf: string,
): Promise<ApiClient> {
	for (const { directory } of [host, ...nodes]) {
		mkdirSync(directory, { mode: 0o700 });
		writeFileSync(join(directory, "config.yaml"), `import_folders: ["${shelf}"]\n`, { mode: 0o600 });
	}
	await start(binary, host, "--host --bind 0.0.0.0");
	for (const node of nodes) {
		const { token } = JSON.parse(await said(host, `${binary} token create --join --json`)) as {
			token: string;
		};
		const words = `--join https://${host.machine.address}:8000 --node ${node.machine.name} --dram 4GiB`;
		await start(binary, node, `${words} <<'.'\n${token}\n.\n`);
	}
	const admin = readFileSync(join(host.directory, "admin.token"), "utf8").trim();
	return overBash(host, admin);
}

/** The host is in a network of its own: its API is asked from there. */
function overBash(host: Agent, token: string): ApiClient {
	const ca = join(host.directory, "ca.pem");
	const baseUrl = `https://${host.machine.address}:8000`;
	return createApiClient({
		baseUrl,
		token: () => token,
		async send(request) {
			const body = await request.text();
			const headers = join(host.directory, "request.txt");
			writeFileSync(headers, `authorization: Bearer ${token}\ncontent-type: application/json\n`, {
				mode: 0o600,
			});
			const curl = [
				`curl -sS --cacert ${ca} -H @${headers} -X ${request.method}`,
				...(body === "" ? [] : ["--data-binary @-"]),
				`-w '\\n%{http_code}' '${request.url}'`,
				...(body === "" ? [] : [`<<'BODY'\n${body}\nBODY`]),
			].join(" ");
			const answer = await said(host, curl);
			const cut = answer.lastIndexOf("\n");
			return new Response(answer.slice(0, cut), {
				status: Number(answer.slice(cut + 1)),
				headers: { "content-type": "application/json" },
			});
		},
	});
}

function environmentOf({ directory }: Agent): Record<string, string> {
	return { HOME: directory, GSWARM_HOME: directory };
}

async function start(binary: string, agent: Agent, words: string): Promise<void> {
	const log = join(agent.directory, "agent.log");
	const script = `exec ${binary} >/dev/null 2>${log} agent ${words}`;
	const child = agent.machine.spawn(script, environmentOf(agent));
	const limit = performance.now() + READY_LIMIT_MS;
	while (!existsSync(join(agent.directory, "agent.json"))) {
		if (child.exitCode !== null) throw new Error(`${agent.machine.name} ended: ${lastWords(agent)}`);
		if (performance.now() > limit) throw new Error(`${agent.machine.name} does not start`);
		await Bun.sleep(100);
	}
}

function lastWords({ directory }: Agent): string {
	const log = join(directory, "agent.log");
	return existsSync(log) ? readFileSync(log, "utf8").slice(-2000) : "";
}

async function said(agent: Agent, script: string): Promise<string> {
	const child = agent.machine.spawn(script, environmentOf(agent));
	const [out, problem] = await Promise.all([child.stdout.text(), child.stderr.text()]);
	if ((await child.exited) !== 0) throw new Error(`${script}: ${problem}${out}`);
	return out;
}

async function endAll(home: string): Promise<void> {
	const limit = performance.now() + 15_000;
	for (let alive = processesOf(home); alive.length > 0; alive = processesOf(home)) {
		for (const pid of alive) {
			try {
				process.kill(pid, performance.now() > limit ? "SIGKILL" : "SIGTERM");
			} catch {
				// It has ended between the look and the signal.
			}
		}
		await Bun.sleep(100);
	}
	for (const name of new Bun.Glob("*/node.json").scanSync({ cwd: home })) {
		const { node_id: id } = JSON.parse(readFileSync(join(home, name), "utf8")) as { node_id: string };
		rmSync(`/dev/shm/gswarm-${id}`, { recursive: true, force: true });
	}
	rmSync(home, { recursive: true, force: true });
}
