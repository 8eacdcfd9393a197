/** What a restarted agent does with the engines of the one before. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { type Log, silentLog } from "../../src/platform/log.ts";
import { isSameProcess, type ProcessIdentity, spawnDetached } from "../../src/platform/process.ts";
import type { FixtureSwitches } from "../support/fixture-engine.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { chat, identityOf, isAlive, type Node, type NodeOptions, openNode, SERVICE } from "./harness.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
	for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function workDir(): TempDir {
	const dir = tempDir();
	cleanUps.push(() => dir[Symbol.dispose]());
	return dir;
}

function open(directory: string, options: NodeOptions = {}): Node {
	const node = openNode(directory, options);
	cleanUps.push(() => node[Symbol.asyncDispose]());
	return node;
}

/** An agent in a process of its own that serves, and is then killed with -9. */
async function killedOwner(
	directory: string,
	{ switches = {}, phase = "ready" }: { switches?: FixtureSwitches; phase?: "ready" | "loading" } = {},
): Promise<ProcessIdentity> {
	const owner = Bun.spawn({
		cmd: [process.execPath, join(import.meta.dir, "owner.ts"), directory, JSON.stringify(switches), phase],
		stdio: ["ignore", "pipe", "inherit"],
	});
	const { value } = await owner.stdout.getReader().read();
	const identity = JSON.parse(new TextDecoder().decode(value)) as ProcessIdentity;
	owner.kill("SIGKILL");
	await owner.exited;
	cleanUps.push(() => {
		if (isSameProcess(identity)) process.kill(-identity.pid, "SIGKILL");
	});
	return identity;
}

/** Changes the row as if something else had happened to it. */
function update(node: Node, fields: Record<string, string | number | null>): void {
	using db = new Database(node.db.read.filename, { strict: true });
	const names = Object.keys(fields);
	db.query(`UPDATE service SET ${names.map((name) => `${name} = $${name}`).join(", ")}`).run(fields);
}

test("an engine outlives its agent's kill -9 and is adopted: same process, no second one, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	expect(isAlive(engine)).toBe(true);
	const node = open(path);
	await node.services.recover();
	expect(node.services.get(SERVICE)).toMatchObject({ state: "ready", pid: engine.pid, restarts: 0 });
	expect(node.services.get(SERVICE).ready_s).toBeGreaterThan(0);
	expect(node.held).toHaveLength(1);
	expect(await (await chat(node.url, "still there")).text()).toContain("echo: still there");
	expect((await node.start()).pid).toBe(engine.pid);
	await node.services.stop(SERVICE, { timeoutMs: 1000 });
	expect(isAlive(engine)).toBe(false);
});

test("an engine that was still loading is adopted and waited for, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path, { switches: { loadMs: 700 }, phase: "loading" });
	const node = open(path);
	await node.services.recover();
	expect(await node.start()).toMatchObject({ state: "ready", pid: engine.pid, restarts: 0 });
});

test("the end of an adopted engine is noticed, and it is started again, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path);
	await node.services.recover();
	process.kill(engine.pid, "SIGKILL");
	await until("another one is ready", () => {
		const { state, pid } = node.services.get(SERVICE);
		return state === "ready" && pid !== engine.pid;
	});
	expect(node.services.get(SERVICE).restarts).toBe(1);
});

test("an engine that died with its agent is started again, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	process.kill(-engine.pid, "SIGKILL");
	await until("it is gone", () => !isAlive(engine));
	const node = open(path);
	await node.services.recover();
	expect(await node.start()).toMatchObject({ state: "ready", restarts: 1 });
});

test("a process that got the engine's old pid is neither adopted nor killed, with the fixture engine", async () => {
	const { path } = workDir();
	const before = open(path);
	await before.start();
	const engine = identityOf(before);
	await before.leave();
	const stranger = spawnDetached({
		argv: ["sleep", "60"],
		environment: { PATH: process.env["PATH"] ?? "" },
		logPath: join(path, "stranger"),
	});
	cleanUps.push(() => process.kill(stranger.identity.pid, "SIGKILL"));
	process.kill(-engine.pid, "SIGKILL");
	await until("the engine is gone", () => !isAlive(engine));
	const events: string[] = [];
	const log: Log = {
		...silentLog,
		info: (event, fields) => events.push(`${event} ${JSON.stringify(fields?.["adopted"])}`),
		with: () => log,
	};
	const node = open(path, { deps: { log } });
	update(node, { pid: stranger.identity.pid });
	await node.services.recover();
	const document = await node.start();
	expect(document.pid).not.toBe(stranger.identity.pid);
	expect(events).toContain("service.recovered false");
	expect(document.state).toBe("ready");
	await node.services.stop(SERVICE, { timeoutMs: 0 });
	expect(isAlive(stranger.identity)).toBe(true);
});

test("an engine of another boot is not looked for among the processes of this one, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path);
	update(node, { boot_id: "0d3e3c5e-0000-4000-8000-000000000000" });
	await node.services.recover();
	const document = await node.start();
	expect(document.pid).not.toBe(engine.pid);
	expect(isAlive(engine)).toBe(true);
});

test("our process that answers under another instance id is ended and replaced, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path);
	update(node, { instance_id: `${SERVICE}.another` });
	await node.services.recover();
	await until("it is gone", () => !isAlive(engine));
	await until("another one is ready", () => node.services.get(SERVICE).state === "ready");
	expect(node.services.get(SERVICE).pid).not.toBe(engine.pid);
});

test("an engine that was started but never recorded is found by its instance id, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path);
	update(node, { pid: null, start_time: null, boot_id: null, base_url: null });
	await node.services.recover();
	expect(await node.start()).toMatchObject({ state: "ready", pid: engine.pid });
});

test("a stop that the agent did not live to finish is finished, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path);
	update(node, { state: "stopping" });
	await node.services.recover();
	expect(isAlive(engine)).toBe(false);
	expect(node.services.list()).toEqual([]);
	expect(node.db.read.query("SELECT * FROM service").all()).toEqual([]);
});

test("detach leaves the engine running and holds nothing; its front comes back with the next agent, with the fixture engine", async () => {
	const { path } = workDir();
	const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	const { port } = listener;
	listener.stop(true);
	const before = open(path);
	await before.start({ port });
	const engine = identityOf(before);
	await chat(before.url, "hi");
	await before.leave();
	expect(isAlive(engine)).toBe(true);
	expect(before.held).toEqual([]);
	expect(chat(`http://127.0.0.1:${port}`, "hi")).rejects.toThrow();
	const node = open(path);
	await node.services.recover();
	expect(await (await chat(`http://127.0.0.1:${port}`, "hi")).text()).toContain("echo: hi");
	expect(node.services.get(SERVICE)).toMatchObject({ pid: engine.pid, requests: 2 });
});

test("an adopted engine whose port is taken serves through the gateway until the port is free, with the fixture engine", async () => {
	const { path } = workDir();
	const other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	const { port } = other;
	other.stop(true);
	const before = open(path);
	await before.start({ port });
	await before.leave();
	const holder = Bun.listen({ hostname: "127.0.0.1", port, socket: { data: () => {} } });
	const node = open(path);
	await node.services.recover();
	expect(node.services.get(SERVICE).state).toBe("ready");
	expect(node.services.get(SERVICE).error).toContain(`Port ${port} is taken by process ${process.pid}`);
	expect((await chat(node.url, "hi")).status).toBe(200);
	holder.stop(true);
	await until("the port is ours", async () => (await chat(`http://127.0.0.1:${port}`, "hi")).status === 200);
	expect(node.services.get(SERVICE).error).toBeNull();
});

test("an agent that ends drains its engines, and the next one starts them again, with the fixture engine", async () => {
	const { path } = workDir();
	const before = openNode(path);
	await before.start();
	const engine = identityOf(before);
	await before[Symbol.asyncDispose]();
	expect(isAlive(engine)).toBe(false);
	const node = open(path);
	await node.services.recover();
	expect(node.services.list()).toHaveLength(1);
	expect(await node.start()).toMatchObject({ state: "ready" });
	expect(identityOf(node).pid).not.toBe(engine.pid);
});

test("a copy that is gone after the restart fails the service and ends its engine, with the fixture engine", async () => {
	const { path } = workDir();
	const engine = await killedOwner(path);
	const node = open(path, {
		deps: {
			hold: () => {
				throw new Error("no such copy");
			},
		},
	});
	await node.services.recover();
	expect(node.services.get(SERVICE).state).toBe("failed");
	expect(isAlive(engine)).toBe(false);
});

test("nothing to recover is nothing to do", async () => {
	const node = open(workDir().path);
	await node.services.recover();
	expect(node.services.list()).toEqual([]);
});
