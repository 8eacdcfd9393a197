/** A cluster for measuring: a host and nodes as processes of the compiled binary in a home of their own. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type ApiClient, createApiClient } from "../src/api/client.ts";
import { processesOf } from "../scripts/demo/processes.ts";

export const BINARY = resolve(import.meta.dir, "../dist/gswarm");

const QUIETLY = 'exec "$@" >/dev/null 2>&1 </dev/null';
const STOP_LIMIT_MS = 15_000;

export interface Cluster extends AsyncDisposable {
	/** Runs a command of the CLI against the host. @throws Error with what it said, when it fails */
	gswarm(...args: string[]): Promise<string>;
	/** The host's API, with the admin's token. */
	client: ApiClient;
	/** Starts the agent of a node again, after its end; it is ready when this resolves. */
	restart(node: string): Promise<void>;
	/** Process ids of a node's agent and of all its children. */
	processes(node: string): number[];
}

export interface ClusterOptions {
	/** A directory that goes with the cluster; every agent's data is in it. */
	home: string;
	nodes: readonly string[];
	/** URLs of this machine that the agents may download from. */
	allow: readonly string[];
	/** A command that runs the command behind it, as strace does: the host's agent is started through it. */
	hostThrough?: readonly string[] | undefined;
	/** TLS everywhere, as between machines; `client` is of no use then, its fetch does not know the CA. */
	tls?: boolean | undefined;
	/** Of the agents and commands, besides what they need. */
	env?: Readonly<Record<string, string>> | undefined;
}

/** Starts a host and its nodes; they are ready when this resolves. */
export async function startCluster({
	home,
	nodes,
	allow,
	hostThrough,
	tls = false,
	env: more = {},
}: ClusterOptions): Promise<Cluster> {
	const bin = join(home, "bin");
	mkdirSync(bin, { recursive: true });
	await Bun.write(join(bin, "gswarm"), Bun.file(BINARY));
	await Bun.$`chmod 755 ${join(bin, "gswarm")}`;
	for (const name of [".gswarm", ...nodes]) {
		mkdirSync(join(home, name), { mode: 0o700 });
		writeFileSync(join(home, name, "config.yaml"), `sources:\n  allow: ${JSON.stringify(allow)}\n`, {
			mode: 0o600,
		});
	}
	const env = { HOME: home, PATH: `${bin}:/usr/bin:/bin`, NO_PROXY: "127.0.0.1", ...more };
	const secure = tls ? ["--tls"] : [];
	const shell = async (command: readonly string[], input = ""): Promise<string> => {
		const child = Bun.spawn([...command], {
			cwd: home,
			env,
			stdin: new Blob([input]),
			stdout: "pipe",
			stderr: "pipe",
		});
		const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
		if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed:\n${err}${out}`);
		return out;
	};
	const stop = async (): Promise<void> => {
		await endProcesses(home);
		for (const name of nodes) removeMemoryTier(join(home, name));
		rmSync(home, { recursive: true, force: true });
	};
	const gswarm: Cluster["gswarm"] = (...args) => shell(["gswarm", ...args]);
	try {
		const hostAgent = ["gswarm", "agent", "--host", "--port", "0", ...secure, "--detach"];
		// What runs beside the agent must not keep our pipes open.
		await shell(
			hostThrough === undefined ? hostAgent : ["sh", "-c", QUIETLY, "sh", ...hostThrough, ...hostAgent],
		);
		const { host_url: host } = agentFile(home, ".gswarm");
		for (const name of nodes) {
			const token = await gswarm("token", "create", "--join");
			const ports = ["--node-port", "0", "--peer-port", "0"];
			const dataDir = join(home, name);
			const words = ["--join", host, "--node", name, "--data-dir", dataDir, ...ports, ...secure, "--detach"];
			await shell(["gswarm", "agent", ...words], token);
		}
		const adminToken = readFileSync(join(home, ".gswarm/admin.token"), "utf8").trim();
		return {
			gswarm,
			client: createApiClient({ baseUrl: host, token: () => adminToken }),
			async restart(node) {
				const words = ["--join", host, "--node", node, "--data-dir", join(home, node)];
				const ports = ["--node-port", "0", "--peer-port", "0"];
				await shell(["gswarm", "agent", ...words, ...ports, ...secure, "--detach"]);
			},
			processes: (node) => treeOf(agentFile(home, node).pid),
			[Symbol.asyncDispose]: stop,
		};
	} catch (error) {
		await stop();
		throw error;
	}
}

function agentFile(home: string, name: string): { pid: number; host_url: string } {
	return JSON.parse(readFileSync(join(home, name, "agent.json"), "utf8")) as {
		pid: number;
		host_url: string;
	};
}

/** Copies in memory outlive their agent; nobody will ask for these again. */
function removeMemoryTier(dataDir: string): void {
	const path = join(dataDir, "node.json");
	if (!existsSync(path)) return;
	const { node_id } = JSON.parse(readFileSync(path, "utf8")) as { node_id: string };
	rmSync(`/dev/shm/gswarm-${node_id}`, { recursive: true, force: true });
}

/** A process and all below it. */
function treeOf(pid: number): number[] {
	let children: string;
	try {
		children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
	} catch {
		return [];
	}
	return [pid, ...children.split(" ").filter(Boolean).map(Number).flatMap(treeOf)];
}

async function endProcesses(home: string): Promise<void> {
	const deadline = performance.now() + STOP_LIMIT_MS;
	for (let alive = processesOf(home); alive.length > 0; alive = processesOf(home)) {
		for (const pid of alive) {
			try {
				process.kill(pid, performance.now() > deadline ? "SIGKILL" : "SIGTERM");
			} catch {
				// It has ended between the look and the signal.
			}
		}
		await Bun.sleep(100);
	}
}
