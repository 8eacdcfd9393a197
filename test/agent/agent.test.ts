import { expect, test } from "bun:test";
import {
	chmodSync,
	copyFileSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createApiClient } from "../../src/api/client.ts";
import type { NodeFile } from "../../src/agent/data-dir.ts";
import { tempDir } from "../support/temp-dir.ts";
import { refusedAgent, startAgent, tree } from "./start-agent.ts";

const BOTH = { host: true, node: true };

function nodeFile(dataDir: string): NodeFile {
	return JSON.parse(readFileSync(join(dataDir, "node.json"), "utf8")) as NodeFile;
}

test("a first start makes everything private, says what to do next, and leaves in time", async () => {
	using dir = tempDir();
	const dataDir = join(dir.path, "home");
	await using agent = await startAgent({ dataDir, role: BOTH, nodeName: "node1" });
	expect(agent.file).toMatchObject({ role: "host+node", name: "node1" });
	expect(agent.output()).toContain(dataDir);
	expect(agent.output()).toContain("gswarm node list");
	const open = Object.entries(tree(dataDir)).filter(([, it]) => !/^(directory 700|file 600) /.test(it));
	expect(open).toEqual([]);
	const before = performance.now();
	expect(await agent.stop()).toBe(0);
	expect(performance.now() - before).toBeLessThan(10_000);
	expect(existsSync(join(dataDir, "agent.json"))).toBe(false);
}, 60_000);

test("a second agent on the directory is refused with who has it, and touches nothing", async () => {
	using dir = tempDir();
	await using first = await startAgent({ dataDir: dir.path, nodeName: "node1" });
	const before = tree(dir.path);
	const refusal = await refusedAgent({ dataDir: dir.path, nodeName: "another", role: BOTH });
	expect(refusal).toMatchObject({ code: "CONFLICT", reason: "data_dir_in_use" });
	expect(refusal.message).toContain(`pid ${first.pid}`);
	expect(tree(dir.path)).toEqual(before);
	expect(await (await fetch(`${first.file.host_url}/api/v1/health`)).json()).toEqual({ status: "ok" });
}, 60_000);

test("after kill -9 the next start has the same name, token and keys", async () => {
	using dir = tempDir();
	const start = () => startAgent({ dataDir: dir.path, role: BOTH });
	const kept = () => [nodeFile(dir.path), readFileSync(join(dir.path, "admin.token"), "utf8")];
	let before: unknown;
	{
		await using agent = await start();
		before = kept();
		await agent.stop("SIGKILL");
	}
	await using agent = await start();
	expect(kept()).toEqual(before as never);
	expect(agent.file.name).toBe(nodeFile(dir.path).name);
}, 60_000);

test("a node never takes another name from a flag", async () => {
	using dir = tempDir();
	{
		await using agent = await startAgent({ dataDir: dir.path, nodeName: "node1" });
		await agent.stop();
	}
	const refusal = await refusedAgent({ dataDir: dir.path, nodeName: "node2" });
	expect(refusal).toMatchObject({ code: "INVALID_REQUEST", reason: "node_name_kept" });
	expect(nodeFile(dir.path).name).toBe("node1");
	await using agent = await startAgent({ dataDir: dir.path, nodeName: "node1" });
	expect(agent.file.name).toBe("node1");
}, 60_000);

test("a disk that is not there is refused and not made", async () => {
	using dir = tempDir();
	const path = join(dir.path, "not-mounted");
	const refusal = await refusedAgent({ dataDir: join(dir.path, "data"), disks: [{ path }], role: BOTH });
	expect(refusal).toMatchObject({ code: "INVALID_REQUEST", reason: "no_such_directory" });
	expect(existsSync(path)).toBe(false);
}, 60_000);

test("a start that failed does not fix the name", async () => {
	using dir = tempDir();
	await using host = await startAgent({ dataDir: join(dir.path, "host"), role: BOTH, nodeName: "node1" });
	const url = host.file.host_url ?? "";
	const joinString = await makeJoinString(join(dir.path, "host"), url);
	const dataDir = join(dir.path, "other");
	const join_ = { dataDir, role: { host: false, node: true }, joinUrl: url, joinString };
	expect(await refusedAgent({ ...join_, nodeName: "node1" })).toMatchObject({ code: "CONFLICT" });
	await using agent = await startAgent({ ...join_, nodeName: "node2" });
	expect(agent.file).toMatchObject({ role: "node", name: "node2" });
}, 60_000);

test("a machine that has joined stays that host's node when no flag says otherwise", async () => {
	using dir = tempDir();
	await using host = await startAgent({ dataDir: join(dir.path, "host"), role: BOTH, nodeName: "node1" });
	const url = host.file.host_url ?? "";
	const joinString = await makeJoinString(join(dir.path, "host"), url);
	const dataDir = join(dir.path, "other");
	{
		await using first = await startAgent({
			dataDir,
			role: { host: false, node: true },
			joinUrl: url,
			joinString,
			nodeName: "node2",
		});
		expect(await first.stop()).toBe(0);
	}
	await using again = await startAgent({ dataDir, role: undefined as never });
	expect(again.file).toMatchObject({ role: "node", name: "node2" });
	expect(again.file.host_url).toBeUndefined();
	expect(again.output()).toContain(url);
}, 60_000);

test("a name that is none is refused before a node is made of it", async () => {
	using dir = tempDir();
	for (const nodeName of ["", "../x"]) {
		const refusal = await refusedAgent({ dataDir: dir.path, nodeName });
		expect([nodeName, refusal.reason]).toEqual([nodeName, "bad_node_name"]);
	}
	expect(existsSync(join(dir.path, "node.json"))).toBe(false);
}, 60_000);

test("a directory that others may write to stops the start", async () => {
	using dir = tempDir();
	chmodSync(dir.path, 0o770);
	expect(await refusedAgent({ dataDir: dir.path })).toMatchObject({ reason: "unsafe_data_dir" });
	expect(readdirSync(dir.path)).toEqual([]);
});

test("a mistake in config.yaml stops the start with the key, and makes nothing", async () => {
	using dir = tempDir();
	writeFileSync(join(dir.path, "config.yaml"), "queue: {max_concurent_tasks: 4}\n");
	const refusal = await refusedAgent({ dataDir: dir.path });
	expect(refusal).toMatchObject({ code: "INVALID_REQUEST", reason: "bad_config" });
	expect(refusal.message).toContain("queue.max_concurent_tasks");
	expect(readdirSync(dir.path)).toEqual(["config.yaml"]);
});

test("the budgets that the design's configuration gives a node hold for its tiers", async () => {
	using dir = tempDir();
	const text = `cluster: {host: "127.0.0.1", port: 8000}
nodes:
  - name: "node1"
    address: "127.0.0.1"
    capabilities: {gpus: [], storage: {disk: 1000000, dram: 500000}}
  - {name: "node2", address: "192.168.1.102"}
storage: {free_space_floor: 0}
`;
	writeFileSync(join(dir.path, "config.yaml"), text);
	await using agent = await startAgent({
		dataDir: dir.path,
		role: BOTH,
		nodeName: "node1",
		// What a flag says goes before what the file says.
		dramBytes: 250_000,
	});
	const authorization = `Bearer ${readFileSync(join(dir.path, "admin.token"), "utf8").trim()}`;
	const answer = await fetch(`${agent.file.host_url}/api/v1/nodes`, { headers: { authorization } });
	const { nodes } = (await answer.json()) as { nodes: { tiers: Record<string, { total: number }> }[] };
	const totals = Object.entries(nodes[0]?.tiers ?? {}).map(([tier, usage]) => [tier, usage.total]);
	expect(Object.fromEntries(totals)).toEqual({ disk: 1_000_000, dram: 250_000 });
}, 60_000);

test("a port that is taken names who has it, and the directory is free again", async () => {
	using dir = tempDir();
	using taken = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
	const { port } = taken;
	const refusal = await refusedAgent({ dataDir: dir.path, hostPort: port ?? 0 });
	expect(refusal).toMatchObject({ code: "CONFLICT", reason: "port_in_use" });
	expect(refusal.message).toContain(String(process.pid));
	await using agent = await startAgent({ dataDir: dir.path });
	expect(agent.file.role).toBe("host");
}, 60_000);

test("a node without a host to join, and one that was never let in, say what to type", async () => {
	using dir = tempDir();
	mkdirSync(join(dir.path, "a"), { mode: 0o700 });
	const role = { host: false, node: true };
	expect(await refusedAgent({ dataDir: join(dir.path, "a"), role })).toMatchObject({ reason: "no_host" });
	const joining = { dataDir: join(dir.path, "a"), role, joinUrl: "127.0.0.1:1" };
	const refusal = await refusedAgent(joining);
	expect(refusal).toMatchObject({ reason: "no_join_string" });
	expect(refusal.hint).toContain("gswarm token create --join");
	expect(await refusedAgent({ ...joining, joinString: "GSW10::nonsense" })).toMatchObject({
		reason: "bad_join_string",
	});
	const joinString = `GSW10::${"a".repeat(8)}.${"b".repeat(32)}`;
	expect(await refusedAgent({ ...joining, joinString })).toMatchObject({ code: "NETWORK_ERROR" });
	for (const joinUrl of ["ftp://127.0.0.1:1", "http://:::"]) {
		expect(await refusedAgent({ ...joining, joinUrl, joinString })).toMatchObject({ reason: "bad_url" });
	}
	expect(await refusedAgent({ ...joining, joinUrl: "http://192.168.1.1:8000", joinString })).toMatchObject({
		reason: "plain_http",
	});
}, 60_000);

async function makeJoinString(dataDir: string, url: string): Promise<string> {
	const token = readFileSync(join(dataDir, "admin.token"), "utf8").trim();
	const client = createApiClient({ baseUrl: url, token: () => token });
	return (await client.call("createToken", { body: { kind: "join" } })).token;
}

test("a host's epoch rises at every start, also on a database that was restored from before", async () => {
	using dir = tempDir();
	const dataDir = join(dir.path, "home");
	const backup = join(dir.path, "backup.sqlite");
	const epoch = (): number =>
		(JSON.parse(readFileSync(join(dataDir, "host-epoch.json"), "utf8")) as { epoch: number }).epoch;
	const run = async (): Promise<number> => {
		await using agent = await startAgent({ dataDir });
		await agent.stop();
		return epoch();
	};
	expect(await run()).toBe(1);
	copyFileSync(join(dataDir, "agent.sqlite"), backup);
	expect([await run(), await run()]).toEqual([2, 3]);
	for (const suffix of ["", "-wal", "-shm"]) rmSync(join(dataDir, `agent.sqlite${suffix}`), { force: true });
	copyFileSync(backup, join(dataDir, "agent.sqlite"));
	expect(await run()).toBe(4);
	rmSync(join(dataDir, "host-epoch.json"));
	expect(await run()).toBe(5);
}, 60_000);
