/** Agents of the compiled binary as real processes, each with a data directory of its own, and the CLI beside them. */
import {
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

export const BINARY = resolve(import.meta.dir, "../../dist/gswarm");

export interface CliResult {
	code: number;
	stdout: string;
	stderr: string;
}

export interface Answer {
	status: number;
	headers: Headers;
	// oxlint-disable-next-line typescript/no-explicit-any -- bodies of the API, read by tests field by field
	body: any;
}

export interface TestAgent {
	dir: string;
	pid: number;
	hostUrl: string;
	nodeUrl: string;
	/** Everything it wrote to stderr so far. */
	log(): string;
	/** `kill -9`, and waits until it is gone. */
	kill(): Promise<void>;
	/** SIGTERM; resolves to the exit code. */
	stop(): Promise<number>;
	/** A request with the agent's own token, to the host API where there is one. */
	api(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

export interface AgentPlan {
	args: readonly string[];
	environment?: Record<string, string>;
	/** The join string. */
	input?: string;
}

/** A place for several agents, ended and removed with everything in it. */
export class TestCluster implements AsyncDisposable {
	readonly home = tempDir();
	readonly #running = new Map<string, Bun.Subprocess>();
	readonly environment: Record<string, string>;

	constructor({ environment = {} }: { environment?: Record<string, string> } = {}) {
		if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: run \`bun run build\` first`);
		this.environment = {
			PATH: process.env.PATH ?? "/usr/bin:/bin",
			HOME: this.home.path,
			NO_PROXY: "*",
			...environment,
		};
	}

	dir(name: string): string {
		return join(this.home.path, name);
	}

	/** Writes `config.yaml` of a data directory that is not there yet. */
	configure(name: string, config: string): void {
		mkdirSync(this.dir(name), { recursive: true, mode: 0o700 });
		writeFileSync(join(this.dir(name), "config.yaml"), config);
	}

	/** Runs a command line with the agent `name` as the one it talks to. */
	async cli(name: string, args: readonly string[], input = ""): Promise<CliResult> {
		const child = Bun.spawn([BINARY, ...args, "--data-dir", this.dir(name)], {
			env: this.environment,
			cwd: this.home.path,
			stdin: new Blob([input]),
			stdout: "pipe",
			stderr: "pipe",
		});
		const [stdout, stderr, code] = await Promise.all([
			new Response(child.stdout).text(),
			new Response(child.stderr).text(),
			child.exited,
		]);
		return { code, stdout, stderr };
	}

	/** As cli, and fails the test when the command does. */
	async run(name: string, ...args: string[]): Promise<string> {
		const { code, stdout, stderr } = await this.cli(name, args);
		if (code !== 0) throw new Error(`gswarm ${args.join(" ")} exited ${code}:\n${stdout}${stderr}`);
		return stdout;
	}

	/** Starts an agent in the foreground of its own process and waits until it is ready. */
	async start(name: string, { args, environment = {}, input = "" }: AgentPlan): Promise<TestAgent> {
		const dir = this.dir(name);
		rmSync(join(dir, "agent.json"), { force: true });
		mkdirSync(dir, { recursive: true, mode: 0o700 });
		const logPath = join(this.home.path, `${name}.log`);
		const child = Bun.spawn([BINARY, "agent", ...args, "--data-dir", dir], {
			env: { ...this.environment, ...environment },
			cwd: this.home.path,
			stdin: new Blob([input]),
			stdout: Bun.file(join(this.home.path, `${name}.out`)),
			stderr: Bun.file(logPath),
		});
		this.#running.set(name, child);
		const log = (): string => (existsSync(logPath) ? readFileSync(logPath, "utf8") : "");
		const file = await until(`the agent ${name} is ready`, () => {
			if (child.exitCode !== null) throw new Error(`it exited ${child.exitCode}: ${log().slice(-2000)}`);
			return existsSync(join(dir, "agent.json")) && JSON.parse(readFileSync(join(dir, "agent.json"), "utf8"));
		});
		const token = readFileSync(join(dir, "admin.token"), "utf8").trim();
		const base: string = file.host_url ?? file.node_url;
		return {
			dir,
			pid: child.pid,
			hostUrl: file.host_url ?? "",
			nodeUrl: file.node_url ?? "",
			log,
			async kill() {
				child.kill("SIGKILL");
				await child.exited;
			},
			async stop() {
				child.kill("SIGTERM");
				return child.exited;
			},
			async api(method, path, body, headers = {}) {
				const response = await fetch(`${base}${path}`, {
					method,
					headers: {
						authorization: `Bearer ${token}`,
						...(body === undefined ? {} : { "content-type": "application/json" }),
						...headers,
					},
					...(body === undefined ? {} : { body: JSON.stringify(body) }),
				});
				const text = await response.text();
				return {
					status: response.status,
					headers: response.headers,
					body: text.startsWith("{") ? JSON.parse(text) : text,
				};
			},
		};
	}

	/** A host and client nodes that have joined it and are alive. */
	async startHostAndNodes(nodes: readonly string[]): Promise<{ host: TestAgent; nodes: TestAgent[] }> {
		const host = await this.start("host", { args: ["--host", "--port", "0"] });
		const started: TestAgent[] = [];
		for (const name of nodes) {
			const input = await this.run("host", "token", "create", "--join");
			started.push(await this.start(name, { args: this.nodeArgs(host, name), input }));
		}
		await this.allAlive(host, nodes.length);
		return { host, nodes: started };
	}

	/** Resolves when so many nodes report to this very host process. */
	async allAlive(host: TestAgent, count: number): Promise<void> {
		await until("all nodes are alive", async () => {
			const { body } = await host.api("GET", "/api/v1/nodes");
			const alive = body.nodes.filter(
				(n: { status: string; last_seen_s: unknown }) => n.status === "alive" && n.last_seen_s !== null,
			);
			return alive.length === count;
		});
	}

	nodeArgs(host: TestAgent, name: string): string[] {
		return ["--join", host.hostUrl, "--node", name, "--node-port", "0", "--peer-port", "0"];
	}

	/** Processes whose program is our binary and whose command line or working directory lies in this home. */
	processes(): { pid: number; argv: string[] }[] {
		const found: { pid: number; argv: string[] }[] = [];
		for (const pid of readdirSync("/proc").filter((n) => /^\d+$/.test(n))) {
			try {
				const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
				const isOurs = readlinkSync(`/proc/${pid}/exe`) === BINARY;
				if (isOurs && argv.some((a) => a.includes(this.home.path))) found.push({ pid: Number(pid), argv });
			} catch {
				// Ended while we looked, or not ours to read.
			}
		}
		return found;
	}

	engines(): { pid: number; argv: string[] }[] {
		return this.processes().filter(({ argv }) => argv.includes("__engine"));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const child of this.#running.values()) child.kill("SIGKILL");
		await Promise.all([...this.#running.values()].map((child) => child.exited));
		for (const { pid } of this.processes()) process.kill(pid, "SIGKILL");
		for (const name of readdirSync(this.home.path)) {
			const path = join(this.home.path, name, "node.json");
			if (!existsSync(path)) continue;
			const { node_id: id } = JSON.parse(readFileSync(path, "utf8"));
			rmSync(`/dev/shm/gswarm-${id}`, { recursive: true, force: true });
		}
		this.home[Symbol.dispose]();
	}
}
