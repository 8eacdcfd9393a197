import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isAgentProcess, isAlive } from "../../src/cli/agent-file.ts";
import { version } from "../../src/platform/version.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import {
	CANARY,
	ENVIRONMENT,
	PROGRAM,
	ended,
	gswarm,
	onTerminal,
	serveAgent,
	spawnGswarm,
} from "./support/child.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { DONE, MODEL, NODE, SUBMITTED, sampleTask } from "./support/samples.ts";

const LIMIT_MS = 60_000;
const NODES = { listNodes: { nodes: [NODE], total: 1 } };
const ENDLESS = { downloadModel: SUBMITTED, getTask: sampleTask() };

describe("the program as a process", () => {
	test("--version prints one line and needs no agent", async () => {
		expect(await gswarm(["--version"])).toEqual({
			code: 0,
			signal: null,
			stdout: `gswarm ${version}\n`,
			stderr: "",
		});
	});

	test(
		"it finds the agent by the data directory, and shows its token nowhere",
		async () => {
			await using agent = serveAgent(fakeAgent(NODES));
			const { code, stdout, stderr } = await gswarm(["node", "list", "--debug"], agent.environment);
			expect(code).toBe(0);
			expect(stdout).toContain("node1");
			expect(stderr).toContain("GET /api/v1/nodes 200");
			expect(agent.authorizations).toEqual([`Bearer ${CANARY}`]);
			expect(stdout + stderr).not.toContain("canary");
		},
		LIMIT_MS,
	);

	test(
		"secrets of the environment are in no output, not even in the inside of an error",
		async () => {
			await using agent = serveAgent(fakeAgent({}));
			const env = { ...agent.environment, HF_TOKEN: "hf_canary", AWS_SECRET_ACCESS_KEY: "aws_canary" };
			const { code, stdout, stderr } = await gswarm(["node", "list", "--debug"], env);
			expect(code).toBe(3);
			expect(stderr).toContain(".ts");
			expect(stdout + stderr).not.toContain("canary");
		},
		LIMIT_MS,
	);

	test(
		"a proxy of the environment gets neither the call nor the token",
		async () => {
			await using agent = serveAgent(fakeAgent(NODES));
			let asked = 0;
			await using proxy = serveAgent({
				...fakeAgent({}),
				send: () => {
					asked += 1;
					return Promise.resolve(new Response("proxy"));
				},
			});
			const env = { ...agent.environment, HTTP_PROXY: proxy.url, http_proxy: proxy.url };
			expect((await gswarm(["node", "list"], env)).code).toBe(0);
			expect(asked).toBe(0);
		},
		LIMIT_MS,
	);

	test(
		"a reader that has gone ends it with 141 and without a word",
		async () => {
			const models = Array.from({ length: 200 }, (_, at) => ({
				...MODEL,
				model_name: `m${at}-${"x".repeat(80)}`,
			}));
			const script = {
				listModels: ({ query }: { query: Record<string, string> }) => ({
					models,
					total: 10_000,
					page: Number(query.page),
					per_page: 200,
				}),
			};
			await using agent = serveAgent(fakeAgent(script));
			const line = `"$0" "$1" model list -o name | head -1; exit \${PIPESTATUS[0]}`;
			const child = Bun.spawn({
				cmd: ["bash", "-c", line, process.execPath, PROGRAM],
				env: agent.environment,
				stdout: "pipe",
				stderr: "pipe",
			});
			const { code, stdout, stderr } = await ended(child);
			expect({ code, stderr }).toEqual({ code: 141, stderr: "" });
			expect(stdout).toStartWith("m0-");
		},
		LIMIT_MS,
	);

	test(
		"SIGINT while it waits without a terminal is 130; the task goes on",
		async () => {
			const scripted = fakeAgent(ENDLESS);
			await using agent = serveAgent(scripted);
			const child = spawnGswarm(["pull", "acme/tiny"], agent.environment);
			await until("it waits", () => scripted.seen.some((call) => call.route === "getTask"));
			child.kill("SIGINT");
			const { code, stderr } = await ended(child);
			expect(code).toBe(130);
			expect(stderr).toContain("the task goes on");
			expect(scripted.seen.some((call) => call.route === "cancelTask")).toBe(false);
		},
		LIMIT_MS,
	);

	test(
		"on a terminal it draws a bar, one Ctrl-C leaves and a second one cancels",
		async () => {
			const scripted = fakeAgent({ ...ENDLESS, cancelTask: sampleTask({ status: "cancelled" }) });
			await using agent = serveAgent(scripted);
			await using program = onTerminal([process.execPath, PROGRAM, "pull", "acme/tiny"], agent.environment);
			await until("the bar is drawn", () => program.shown().includes("█"));
			program.type("\u0003");
			await until("it says what a second one does", () => program.shown().includes("Ctrl-C again cancels"));
			program.type("\u0003");
			expect(await program.exited).toBe(130);
			expect(program.shown()).toContain("Cancelled");
			scripted.only("cancelTask");
		},
		LIMIT_MS,
	);

	test(
		"it ends when its terminal is closed",
		async () => {
			const scripted = fakeAgent(ENDLESS);
			await using agent = serveAgent(scripted);
			await using program = onTerminal([process.execPath, PROGRAM, "pull", "acme/tiny"], agent.environment);
			await until("the bar is drawn", () => program.shown().includes("█"));
			program.closeTerminal();
			await program.exited;
			expect(isAlive(program.pid)).toBe(false);
		},
		LIMIT_MS,
	);

	test(
		"on a terminal it asks before it deletes, and takes no for an answer",
		async () => {
			const scripted = fakeAgent({ deleteModel: SUBMITTED, getTask: DONE });
			await using agent = serveAgent(scripted);
			const cmd = [process.execPath, PROGRAM, "model", "delete", "acme/tiny"];
			for (const [answer, code] of [
				["n\n", 1],
				["y\n", 0],
			] as const) {
				await using program = onTerminal(cmd, agent.environment);
				await until("it asks", () => program.shown().includes("[y/N]"));
				program.type(answer);
				expect(await program.exited).toBe(code);
				expect(scripted.seen.some((call) => call.route === "deleteModel")).toBe(code === 0);
			}
		},
		LIMIT_MS,
	);
});

describe("agent stop", () => {
	test(
		"ends the agent of the data directory and waits until it is gone",
		async () => {
			using dir = tempDir();
			const script = "process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);";
			const child = Bun.spawn({
				cmd: [process.execPath, "-e", script, "agent"],
				stdio: ["ignore", "ignore", "ignore"],
			});
			writeFileSync(
				join(dir.path, "agent.json"),
				JSON.stringify({ pid: child.pid, role: "host", name: "n" }),
			);
			await until("it is seen as an agent", () => isAgentProcess(child.pid));
			const { code, stderr } = await gswarm(["agent", "stop", "--data-dir", dir.path]);
			expect(code).toBe(0);
			expect(stderr).toContain(`pid ${child.pid}) has stopped`);
			expect(isAlive(child.pid)).toBe(false);
			const again = await gswarm(["agent", "stop", "--data-dir", dir.path]);
			expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining("No agent runs") });
		},
		LIMIT_MS,
	);

	test(
		"shows that it waits, and ends with its terminal",
		async () => {
			using dir = tempDir();
			const script = "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);";
			const child = Bun.spawn({
				cmd: [process.execPath, "-e", script, "agent"],
				stdio: ["ignore", "ignore", "ignore"],
			});
			try {
				writeFileSync(
					join(dir.path, "agent.json"),
					JSON.stringify({ pid: child.pid, role: "host", name: "n" }),
				);
				await until("it is seen as an agent", () => isAgentProcess(child.pid));
				const cmd = [process.execPath, PROGRAM, "agent", "stop", "--data-dir", dir.path];
				await using program = onTerminal(cmd, ENVIRONMENT);
				await until("the spinner turns", () => program.shown().includes("Stopping the agent"));
				program.closeTerminal();
				await program.exited;
				expect(isAlive(program.pid)).toBe(false);
			} finally {
				child.kill("SIGKILL");
				await child.exited;
			}
		},
		LIMIT_MS,
	);

	test(
		"leaves a process alone that only got the agent's old number",
		async () => {
			using dir = tempDir();
			const child = Bun.spawn({ cmd: ["sleep", "60"], stdio: ["ignore", "ignore", "ignore"] });
			try {
				writeFileSync(
					join(dir.path, "agent.json"),
					JSON.stringify({ pid: child.pid, role: "host", name: "n" }),
				);
				const { code, stderr } = await gswarm(["agent", "stop", "--data-dir", dir.path]);
				expect(code).toBe(0);
				expect(stderr).toContain("No agent runs");
				expect(isAlive(child.pid)).toBe(true);
			} finally {
				child.kill();
				await child.exited;
			}
		},
		LIMIT_MS,
	);
});

describe("agent --detach", () => {
	test(
		"says what a node waits for that an admin has to let in",
		async () => {
			using dir = tempDir();
			const host = Bun.serve({
				hostname: "127.0.0.1",
				port: 0,
				fetch: () => Response.json({ status: "waiting", node: "n1" }),
			});
			const joinFile = join(dir.path, "join.txt");
			writeFileSync(joinFile, `GSW10::k3v9x2ma.${"a".repeat(32)}\n`, { mode: 0o600 });
			const words = ["agent", "--join", host.url.origin, "--join-file", joinFile, "--node", "n1", "--detach"];
			const ports = ["--node-port", "0", "--peer-port", "0", "--data-dir", join(dir.path, "home")];
			const program = spawnGswarm([...words, ...ports], ENVIRONMENT);
			let shown = "";
			const reading = (async () => {
				for await (const text of program.stderr.pipeThrough(new TextDecoderStream())) shown += text;
			})();
			const pid = () => Number(/in the background \(pid (\d+)\)/.exec(shown)?.[1]);
			try {
				await until("it says so", () => pid() > 0, LIMIT_MS);
				expect(shown).toContain("gswarm node approve n1");
			} finally {
				if (pid() > 0) process.kill(pid(), "SIGKILL");
				await program.exited;
				await reading;
				await host.stop(true);
			}
			expect(program.exitCode).not.toBe(0);
		},
		LIMIT_MS,
	);

	test(
		"returns when the agent is ready, prints its banner, and leaves a running agent",
		async () => {
			using dir = tempDir();
			const dataDir = join(dir.path, "home");
			const place = ["--data-dir", dataDir];
			const ports = ["--port", "0", "--node-port", "0", "--peer-port", "0", "--node", "n1"];
			const started = await gswarm(["agent", "--detach", ...ports, ...place]);
			try {
				expect(started).toMatchObject({ code: 0, stdout: expect.stringContaining("is ready") });
				expect(started.stderr).toContain(`gswarm agent stop --data-dir ${dataDir}`);
				const status = await gswarm(["agent", "status", "--json", ...place]);
				expect(JSON.parse(status.stdout)).toMatchObject({ name: "n1", role: "host+node", data_dir: dataDir });
				const nodes = await gswarm(["node", "list", "-o", "name", ...place]);
				expect(nodes).toMatchObject({ code: 0, stdout: "n1\n" });
				const second = await gswarm(["agent", "--detach", ...ports, ...place]);
				expect(second).toMatchObject({ code: 4, stderr: expect.stringContaining("agent stop") });
			} finally {
				const stopped = await gswarm(["agent", "stop", ...place]);
				expect(stopped.code).toBe(0);
				const { node_id: id } = JSON.parse(readFileSync(join(dataDir, "node.json"), "utf8")) as {
					node_id: string;
				};
				rmSync(`/dev/shm/gswarm-${id}`, { recursive: true, force: true });
			}
			expect(existsSync(join(dataDir, "agent.json"))).toBe(false);
			expect((await gswarm(["agent", "status", ...place])).code).toBe(6);
			expect(readFileSync(join(dataDir, "agent.log"), "utf8")).toContain("agent.ready");
		},
		LIMIT_MS * 2,
	);

	test(
		"an agent that cannot start hands on its words and its exit status",
		async () => {
			using dir = tempDir();
			const line = ["agent", "--detach", "--bind", "gpu1.lan", "--data-dir", join(dir.path, "home")];
			const { code, stdout, stderr } = await gswarm(line);
			expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
			expect(stderr).toContain("gpu1.lan");
			// It is the command line that is wrong; the log has nothing to add.
			expect(stderr).not.toContain("agent.log");
		},
		LIMIT_MS,
	);

	test(
		"a directory that others may write to gets no log, a file is none",
		async () => {
			using dir = tempDir();
			const open = join(dir.path, "open");
			mkdirSync(open);
			chmodSync(open, 0o777);
			const refused = await gswarm(["agent", "--detach", "--data-dir", open]);
			expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("by other users") });
			expect(readdirSync(open)).toEqual([]);
			const file = join(dir.path, "file");
			writeFileSync(file, "");
			const none = await gswarm(["agent", "--detach", "--data-dir", file]);
			expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining("is not a directory") });
		},
		LIMIT_MS,
	);

	test(
		"a file that an agent left behind does not stop the next one when its process id is another program's",
		async () => {
			using dir = tempDir();
			using other = sleeper();
			writeFileSync(join(dir.path, "agent.json"), JSON.stringify({ pid: other.pid, name: "gone" }));
			// Refused for another reason, and by the agent itself: it was started.
			const { code, stderr } = await gswarm([
				"agent",
				"--detach",
				"--bind",
				"gpu1.lan",
				"--data-dir",
				dir.path,
			]);
			expect(code).toBe(2);
			expect(stderr).toContain("wanted an address of this machine");
		},
		LIMIT_MS,
	);
});

function sleeper(): { pid: number } & Disposable {
	const child = Bun.spawn(["sleep", "600"]);
	return { pid: child.pid, [Symbol.dispose]: () => child.kill("SIGKILL") };
}
