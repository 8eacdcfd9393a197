import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { identify } from "../../src/platform/process.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { parseRevision, parseServiceId } from "../../src/schema/names.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import {
	chat,
	identityOf,
	isAlive,
	MODEL,
	type Node,
	type NodeOptions,
	openNode,
	reportOf,
	SERVICE,
} from "./harness.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
	for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function workDir(): TempDir {
	const dir = tempDir();
	cleanUps.push(() => dir[Symbol.dispose]());
	return dir;
}

function node(options: NodeOptions = {}, directory = workDir().path): Node {
	const opened = openNode(directory, options);
	cleanUps.push(() => opened[Symbol.asyncDispose]());
	return opened;
}

async function failureOf(work: Promise<unknown>): Promise<GswarmError> {
	const error = await work.then(
		() => undefined,
		(reason: unknown) => reason,
	);
	if (!(error instanceof GswarmError)) throw new Error(`wanted a GswarmError, got ${String(error)}`);
	return error;
}

test("a started service is ready, and answers through the gateway, with the fixture engine", async () => {
	const { start, services, url, held } = node({ switches: { loadMs: 30 } });
	const phases: string[] = [];
	const document = await start({ onPhase: (phase) => phases.push(phase) });
	expect(document).toMatchObject({
		service_id: SERVICE,
		model_name: MODEL,
		device: "node1:disk",
		node: "node1",
		framework: "llama",
		state: "ready",
		url: "http://node1:8001",
		port: null,
		restarts: 0,
		requests: 0,
		error: null,
	});
	expect(document.ready_s).toBeGreaterThanOrEqual(0.03);
	expect(phases).toEqual(["starting", "ready"]);
	expect(held).toEqual([`${MODEL}@main disk service ${SERVICE}`]);
	expect(await (await chat(url, "hello")).json()).toMatchObject({
		choices: [{ message: { content: "echo: hello" } }],
	});
	expect(services.get(SERVICE).requests).toBe(1);
	expect(await (await fetch(`${url}/v1/models`)).json()).toMatchObject({ data: [{ id: MODEL }] });
});

test("a streamed answer comes through whole, with the fixture engine", async () => {
	const { start, url } = node({ switches: { pieces: 3, gapMs: 20 } });
	await start();
	const response = await chat(url, "hi", { stream: true });
	expect(response.headers.get("content-type")).toBe("text/event-stream");
	const text = await response.text();
	expect(text.match(/echo: hi \d/g)).toEqual(["echo: hi 0", "echo: hi 1", "echo: hi 2"]);
	expect(text).toEndWith("data: [DONE]\n\n");
});

test("a client gets the first piece at once, and when it leaves in mid-stream that cancels the request in the engine, with the fixture engine", async () => {
	const own = node({ switches: { pieces: 1000, gapMs: 20 } });
	await own.start();
	const client = new AbortController();
	const response = await chat(own.url, "hi", { stream: true }, { signal: client.signal });
	await response.body?.getReader().read();
	client.abort();
	await until("the engine noticed", async () => (await reportOf(own)).cancelled === 1);
});

test("two starts of one service are one process, with the fixture engine", async () => {
	const { start, services } = node({ switches: { loadMs: 50 } });
	const [one, other] = await Promise.all([start(), start()]);
	expect(one.pid).toBe(other.pid);
	expect((await start()).pid).toBe(one.pid);
	expect(services.list()).toHaveLength(1);
});

test("a service id that serves something else is refused, with the fixture engine", async () => {
	const { start } = node();
	await start();
	const error = await failureOf(start({ revision: parseRevision("other") }));
	expect([error.code, error.reason]).toEqual(["CONFLICT", "service_exists"]);
});

test("the engine gets nothing of the agent's environment but what it needs, with the fixture engine", async () => {
	const own = node({ environment: { ...process.env, CANARY: "seen", HF_TOKEN: "secret", HOME: "/home/x" } });
	await own.start();
	const { environment } = await reportOf(own);
	expect(environment["HOME"]).toBe("/home/x");
	expect(
		Object.keys(environment).filter((name) => !["PATH", "HOME", "LANG", "TMPDIR", "PWD"].includes(name)),
	).toEqual([]);
});

test("requests carry the instance id, and no credentials, to the engine, with the fixture engine", async () => {
	const own = node();
	await own.start();
	await chat(own.url, "hi", {}, { headers: { authorization: "Bearer secret" } });
	const { requests } = await reportOf(own);
	expect(requests[0]?.headers["x-gswarm-instance"]).toStartWith(`${SERVICE}.`);
	expect(requests[0]?.headers["authorization"]).toBeUndefined();
});

test("a killed engine is started again, and the gateway says 503 meanwhile, with the fixture engine", async () => {
	const own = node({ switches: { loadMs: 100 } });
	await own.start();
	const first = identityOf(own);
	process.kill(first.pid, "SIGKILL");
	await until("the end was noticed", () => own.services.get(SERVICE).state === "starting");
	const refused = await chat(own.url, "hi");
	expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "2"]);
	expect(own.services.get(SERVICE).error).toContain("ended by SIGKILL");
	await until("it is ready again", () => own.services.get(SERVICE).state === "ready");
	expect(own.services.get(SERVICE)).toMatchObject({ restarts: 1, error: null });
	expect(identityOf(own).pid).not.toBe(first.pid);
	expect((await chat(own.url, "hi")).status).toBe(200);
});

test("five crashes are the end: failed, with the last log lines and nothing held, with the fixture engine", async () => {
	const own = node({ switches: { crashAfterMs: 1 } });
	void own.start().catch(() => {});
	await until("it gave up", () => own.services.get(SERVICE).state === "failed");
	const document = own.services.get(SERVICE);
	expect(document).toMatchObject({ restarts: 4, pid: null });
	expect(document.error).toContain("exit code 1");
	expect(document.error).toContain("segmentation fault, as asked");
	expect(own.held).toEqual([]);
	expect(await (await chat(own.url, "hi")).json()).toMatchObject({ error: { code: "service_failed" } });
	expect((await own.services.logs(SERVICE, 1000)).match(/segmentation fault/g)).toHaveLength(5);
});

test("a model that cannot be loaded fails at once, with the engine's words and no path, with the fixture engine", async () => {
	const path = "/models/acme%2Ftiny/@main";
	const message = `Cannot load the model: ${path}/tiny.gguf ends 12 bytes early`;
	const own = node({ switches: { exitCode: 3, message } });
	const error = await failureOf(own.start());
	expect([error.code, error.reason, error.retryable]).toEqual(["TASK_FAILED", "model_load_failed", false]);
	expect(error.message).toBe(
		`The engine could not load ${MODEL} on disk: Cannot load the model: tiny.gguf ends 12 bytes early`,
	);
	expect(JSON.stringify([error.message, error.details])).not.toContain("/models/");
	expect(error.details).toMatchObject({
		exit_code: 3,
		engine_reason: "bad_model",
		device: "disk",
		model: MODEL,
	});
	expect(own.services.get(SERVICE)).toMatchObject({ state: "failed", restarts: 0 });
	expect(await own.services.logs(SERVICE, 10)).toContain("ends 12 bytes early");
	expect(own.held).toEqual([]);
});

test("a failed service can be started again, with the fixture engine", async () => {
	const directory = workDir().path;
	const broken = node({ switches: { exitCode: 3, message: "no" } }, directory);
	await failureOf(broken.start());
	await broken.leave();
	const fixed = node({}, directory);
	await fixed.services.recover();
	expect(fixed.services.get(SERVICE)).toMatchObject({ state: "failed", pid: null });
	expect(fixed.services.get(SERVICE).error).toContain("could not load");
	expect(await fixed.start()).toMatchObject({ state: "ready", error: null });
});

test("an engine that hangs is killed and replaced, with the fixture engine", async () => {
	// The third engine would hang as the first does; the test ends at the second launch.
	const own = node({
		switches: { hang: true },
		policy: {
			health: { intervalMs: 5, startIntervalMs: 5, timeoutMs: 30, failureLimit: 3, startSilenceMs: 100 },
		},
	});
	void own.start().catch(() => {});
	await until("there is a process", () => own.services.list()[0]?.pid);
	const first = identityOf(own);
	await until("another one runs", () => {
		const { pid, restarts } = own.services.get(SERVICE);
		return restarts > 0 && pid !== null && pid !== first.pid;
	});
	expect(isAlive(first)).toBe(false);
	expect(own.services.get(SERVICE).error).toContain("stopped answering its health checks");
});

test("a process that answers under another name is not our engine and is ended, with the fixture engine", async () => {
	const own = node({ switches: { lie: true } });
	const error = await failureOf(own.start());
	expect(error.message).toContain("stopped answering");
	expect(own.services.get(SERVICE)).toMatchObject({ state: "failed", pid: null });
});

test("the health checks keep an engine's lease, with the fixture engine", async () => {
	const own = node({ orphanTimeoutS: 1 });
	const { pid } = await own.start();
	const startedMs = performance.now();
	await until("the lease would be over", () => performance.now() - startedMs > 1300);
	expect(own.services.get(SERVICE)).toMatchObject({ pid, restarts: 0, state: "ready" });
});

test("stop lets the request under way finish, takes no new ones, and leaves nothing, with the fixture engine", async () => {
	const directory = workDir().path;
	const own = node({ switches: { dropAtSigterm: true } }, directory);
	await own.start();
	const identity = identityOf(own);
	const answer = chat(own.url, "last words", { wait_ms: 150 });
	await until("it is under way", async () => (await reportOf(own)).requests.length === 1);
	const stopped = own.services.stop(SERVICE, { timeoutMs: 20_000 });
	expect(own.services.get(SERVICE).state).toBe("stopping");
	expect((await chat(own.url, "too late")).status).toBe(404);
	expect(isAlive(identity)).toBe(true);
	// So that an agent that dies now is followed by one that goes on with the stop.
	await until(
		"the row says so",
		() => own.db.read.query("SELECT 1 FROM service WHERE state = 'stopping'").all().length,
	);
	expect(await (await answer).json()).toMatchObject({
		choices: [{ message: { content: "echo: last words" } }],
	});
	await stopped;
	expect(isAlive(identity)).toBe(false);
	expect(own.services.list()).toEqual([]);
	expect(own.held).toEqual([]);
	expect(own.db.read.query("SELECT * FROM service").all()).toEqual([]);
	expect(readdirSync(join(directory, "services"))).toEqual([]);
	for (const call of [() => own.services.get(SERVICE), () => own.services.logs(SERVICE, 1)])
		expect((await failureOf((async () => call())())).reason).toBe("service_not_found");
	expect((await failureOf(own.services.stop(SERVICE, { timeoutMs: 0 }))).code).toBe("NOT_FOUND");
});

test("stop waits no longer than it was told, and kills what ignores SIGTERM, with the fixture engine", async () => {
	const own = node({ switches: { ignoreSigterm: true }, policy: { killGraceMs: 50 } });
	await own.start();
	const identity = identityOf(own);
	const answer = chat(own.url, "never", { wait_ms: 600_000 });
	await until("it is under way", async () => (await reportOf(own)).requests.length === 1);
	await Promise.all([
		own.services.stop(SERVICE, { timeoutMs: 20 }),
		own.services.stop(SERVICE, { timeoutMs: 20 }),
	]);
	expect(isAlive(identity)).toBe(false);
	expect((await answer).status).toBe(502);
});

test("a stop during the start ends it, and the start says so, with the fixture engine", async () => {
	const own = node({ switches: { loadMs: 600_000 } });
	const started = failureOf(own.start());
	await until("there is a process", () => own.services.list()[0]?.pid);
	const identity = identityOf(own);
	await own.services.stop(SERVICE, { timeoutMs: 20_000 });
	expect((await started).reason).toBe("service_stopped");
	expect(isAlive(identity)).toBe(false);
});

test("a cancelled start ends its engine only when nobody else waits for it, with the fixture engine", async () => {
	const own = node({ switches: { loadMs: 600_000 } });
	const [one, other] = [new AbortController(), new AbortController()];
	const starts = [one, other].map((each) => failureOfAbort(own.start({ signal: each.signal })));
	await until("there is a process", () => own.services.list()[0]?.pid);
	const identity = identityOf(own);
	one.abort();
	await starts[0];
	expect(isAlive(identity)).toBe(true);
	other.abort();
	await starts[1];
	expect(isAlive(identity)).toBe(false);
	expect(own.services.list()).toEqual([]);
});

test("a cancelled start does not end a service that was ready before, with the fixture engine", async () => {
	const own = node({ switches: { loadMs: 100 } });
	await own.start();
	process.kill(identityOf(own).pid, "SIGKILL");
	await until("it restarts", () => own.services.get(SERVICE).state === "starting");
	const caller = new AbortController();
	const joined = failureOfAbort(own.start({ signal: caller.signal }));
	caller.abort();
	await joined;
	await until("it is back", () => own.services.get(SERVICE).state === "ready");
});

test("changes are told to listeners until they leave, with the fixture engine", async () => {
	const own = node();
	const states: (string | undefined)[] = [];
	const listening = own.services.onChange(() => states.push(own.services.list()[0]?.state));
	await own.start();
	expect(states).toContain("ready");
	listening[Symbol.dispose]();
	const count = states.length;
	await own.services.stop(SERVICE, { timeoutMs: 0 });
	expect(states).toHaveLength(count);
});

test("logs are private files, and the last lines are told across a trim, with the fixture engine", async () => {
	const directory = workDir().path;
	const own = node({ policy: { logLimitBytes: 100 } }, directory);
	await own.start();
	const path = join(directory, "services", `${SERVICE}.log`);
	expect(statSync(path).mode & 0o777).toBe(0o600);
	expect(statSync(join(directory, "services")).mode & 0o777).toBe(0o700);
	await until("it was trimmed", () => existsSync(`${path}.1`));
	expect(await own.services.logs(SERVICE, 5)).toContain('"event":"listening"');
	expect((await own.services.logs(SERVICE, 1)).trim().split("\n")).toHaveLength(1);
});

test("a service with a port of its own answers there while it is ready, with the fixture engine", async () => {
	const own = node({ switches: { loadMs: 100 } });
	const port = freePort();
	const started = own.start({ port });
	const front = `http://127.0.0.1:${port}`;
	await until("the port answers", async () => (await fetch(`${front}/health`)).status === 503);
	expect((await chat(front, "hi")).status).toBe(503);
	expect(await started).toMatchObject({ port, url: `http://node1:${port}` });
	expect(await (await fetch(`${front}/health`)).json()).toEqual({ status: "ok" });
	expect(await (await chat(front, "hi")).text()).toContain("echo: hi");
	expect((await chat(front, "hi", { model: "other" })).status).toBe(404);
	await own.services.stop(SERVICE, { timeoutMs: 0 });
	expect(fetch(`${front}/health`)).rejects.toThrow();
});

test("a taken port is refused before anything is started, naming its holder, with the fixture engine", async () => {
	using holder = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	const own = node();
	const error = await failureOf(own.start({ port: holder.port }));
	expect([error.code, error.status, error.reason]).toEqual(["CONFLICT", 409, "port_in_use"]);
	expect(error.message).toContain(`process ${process.pid} (`);
	expect(own.services.list()).toEqual([]);
	expect(own.held).toEqual([]);
	expect(own.db.read.query("SELECT * FROM service").all()).toEqual([]);
});

test("a model that is not there is refused before anything is started", async () => {
	const own = node({
		deps: {
			hold: () => {
				throw new GswarmError("MODEL_NOT_FOUND", "There is no such copy.");
			},
		},
	});
	expect((await failureOf(own.start())).code).toBe("MODEL_NOT_FOUND");
	expect(own.services.list()).toEqual([]);
});

test("a configuration that the engine cannot meet is refused", async () => {
	const own = node();
	const error = await failureOf(own.start({ config: { max_sequence_length: 16 } }));
	expect([error.code, error.details["field"]]).toEqual(["INVALID_REQUEST", "config.max_sequence_length"]);
	expect(own.services.list()).toEqual([]);
});

test("two services of one model share its requests, with the fixture engine", async () => {
	const own = node();
	const other = parseServiceId("serve-tiny-2");
	await Promise.all([own.start(), own.start({ serviceId: other, tier: "dram" })]);
	for (let i = 0; i < 4; i++) await (await chat(own.url, "hi")).text();
	expect(own.services.list().map(({ requests }) => requests)).toEqual([2, 2]);
	await own.services.stop(SERVICE, { timeoutMs: 0 });
	expect((await chat(own.url, "hi")).status).toBe(200);
	expect(own.services.get(other).requests).toBe(3);
	expect(identify(own.services.get(other).pid ?? 0)).toBeDefined();
});

/** Waits for an abort to come back as a rejection. */
async function failureOfAbort(work: Promise<unknown>): Promise<void> {
	const outcome = await work.then(
		() => "resolved",
		() => "rejected",
	);
	expect(outcome).toBe("rejected");
}

function freePort(): number {
	const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	const { port } = listener;
	listener.stop(true);
	return port;
}
