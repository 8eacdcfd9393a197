/** Starts agents for tests, and looks at what they leave on the disk. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { AgentFile, NodeFile } from "../../src/agent/data-dir.ts";
import type { AgentOptions } from "../../src/agent/options.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { until } from "../support/until.ts";

const REFUSAL_LIMIT_MS = 20_000;
const AGENT = new URL("./agent-process.ts", import.meta.url).pathname;

export interface Refusal {
	code: string;
	reason: string;
	message: string;
	hint: string;
	error: string;
}

export interface RunningAgent extends AsyncDisposable {
	file: AgentFile;
	pid: number;
	/** Standard output so far. */
	output(): string;
	/** The exit status. */
	stop(signal?: "SIGTERM" | "SIGKILL"): Promise<number>;
}

export type Change = Partial<AgentOptions> & { dataDir: string };

function spawn(change: Change) {
	const options: AgentOptions = {
		role: { host: true, node: false },
		hostPort: 0,
		nodePort: 0,
		peerPort: 0,
		disks: [],
		dramBytes: 1_000_000,
		logLevel: "warn",
		...change,
	};
	return Bun.spawn([process.execPath, AGENT, JSON.stringify(options)], { stdout: "pipe", stderr: "pipe" });
}

/** An agent that is ready. Its directory stays, what it made in memory goes with it. */
export async function startAgent(change: Change): Promise<RunningAgent> {
	const child = spawn(change);
	const path = join(change.dataDir, "agent.json");
	let output = "";
	const reading = (async () => {
		for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) output += piece;
	})();
	const ready = until("the agent is ready", () => {
		if (child.exitCode !== null) return "ended";
		if (!output.includes("is ready") || !existsSync(path)) return undefined;
		const file = JSON.parse(readFileSync(path, "utf8")) as AgentFile;
		return file.pid === child.pid ? file : undefined;
	});
	const file = await ready.catch((error: unknown) => {
		child.kill("SIGKILL");
		throw error;
	});
	if (file === "ended")
		throw new Error(`the agent ended: ${output} ${await new Response(child.stderr).text()}`);
	return {
		file,
		pid: child.pid,
		output: () => output,
		async stop(signal = "SIGTERM") {
			child.kill(signal);
			await reading;
			return child.exited;
		},
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await child.exited;
			forgetMemory(change.dataDir);
		},
	};
}

/** How an agent that cannot start says so. */
export async function refusedAgent(change: Change): Promise<Refusal> {
	const child = spawn(change);
	// One that starts after all does not outlive the test.
	using late = killAfter(child, REFUSAL_LIMIT_MS);
	void late;
	const [output, errors, status] = await Promise.all([
		new Response(child.stdout).text(),
		new Response(child.stderr).text(),
		child.exited,
	]);
	forgetMemory(change.dataDir);
	if (status !== 1) throw new Error(`exit ${status}: ${output}${errors}`);
	return JSON.parse(output) as Refusal;
}

function killAfter(child: { kill(signal: "SIGKILL"): void }, ms: number): Disposable {
	const timer = setTimeout(() => child.kill("SIGKILL"), ms);
	return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Every file and directory below `root`: mode, and for files their content and when they were last written. */
export function tree(root: string): Record<string, string> {
	const found: Record<string, string> = {};
	for (const path of ["", ...(readdirSync(root, { recursive: true }) as string[])]) {
		const stat = statSync(join(root, path));
		const mode = (stat.mode & 0o777).toString(8);
		found[path] = stat.isDirectory()
			? `directory ${mode} ${stat.mtimeMs}`
			: `file ${mode} ${stat.mtimeMs} ${sha256Hex(readFileSync(join(root, path)))}`;
	}
	return found;
}

function forgetMemory(dataDir: string): void {
	const path = join(dataDir, "node.json");
	if (!existsSync(path)) return;
	const { node_id } = JSON.parse(readFileSync(path, "utf8")) as NodeFile;
	rmSync(`/dev/shm/gswarm-${node_id}`, { recursive: true, force: true });
}
