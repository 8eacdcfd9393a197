/** The program as a child process, and an agent on a socket for it to find. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TempDir, tempDir } from "../../support/temp-dir.ts";
import type { FakeAgent } from "./fake-agent.ts";

export const PROGRAM = new URL("../../../bin/gswarm.ts", import.meta.url).pathname;
/** What a child knows of the environment; nothing of the developer's. */
export const ENVIRONMENT = {
	PATH: process.env.PATH ?? "",
	HOME: "/nonexistent",
	TERM: "xterm",
	LANG: "C.UTF-8",
};
/** Stands in the token's file; must be seen nowhere. */
export const CANARY = "gsw_admin_canary_4711";

export interface SocketAgent extends AsyncDisposable {
	/** The environment with GSWARM_HOME set to its data directory. */
	environment: Record<string, string>;
	dataDir: string;
	url: string;
	authorizations: (string | null)[];
}

/** Serves the scripted agent on a loopback port; its data directory names this process as the agent. */
export function serveAgent(agent: FakeAgent): SocketAgent {
	const dir: TempDir = tempDir();
	const authorizations: (string | null)[] = [];
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch: (request) => {
			authorizations.push(request.headers.get("authorization"));
			return agent.send(request);
		},
	});
	const dataDir = join(dir.path, "home");
	mkdirSync(dataDir, { mode: 0o700 });
	writeFileSync(join(dataDir, "admin.token"), `${CANARY}\n`, { mode: 0o600 });
	const file = { pid: process.pid, role: "host", name: "n", started_at: 1, host_url: server.url.origin };
	writeFileSync(join(dataDir, "agent.json"), JSON.stringify(file));
	return {
		environment: { ...ENVIRONMENT, GSWARM_HOME: dataDir },
		dataDir,
		url: server.url.origin,
		authorizations,
		async [Symbol.asyncDispose]() {
			await server.stop(true);
			dir[Symbol.dispose]();
		},
	};
}

export interface Ended {
	code: number | null;
	signal: Bun.Subprocess["signalCode"];
	stdout: string;
	stderr: string;
}

/** Runs the program to its end. */
export async function gswarm(
	words: readonly string[],
	env: Record<string, string> = ENVIRONMENT,
): Promise<Ended> {
	return await ended(spawnGswarm(words, env));
}

export function spawnGswarm(words: readonly string[], env: Record<string, string>) {
	return Bun.spawn({
		cmd: [process.execPath, PROGRAM, ...words],
		env,
		stdin: "ignore",
		stdout: "pipe",
		stderr: "pipe",
	});
}

export async function ended(child: ReturnType<typeof spawnGswarm>): Promise<Ended> {
	const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
	return { code: child.exitCode, signal: child.signalCode, stdout, stderr };
}

/** A program on a terminal of its own, with all that it has shown. */
export interface OnTerminal extends AsyncDisposable {
	shown(): string;
	type(text: string): void;
	closeTerminal(): void;
	exited: Promise<number>;
	pid: number;
}

export function onTerminal(cmd: readonly string[], env: Record<string, string>): OnTerminal {
	let shown = "";
	const decoder = new TextDecoder();
	const child = Bun.spawn({
		cmd: [...cmd],
		env,
		terminal: {
			cols: 100,
			rows: 30,
			data: (_terminal, bytes) => void (shown += decoder.decode(bytes, { stream: true })),
		},
	});
	return {
		shown: () => shown,
		type: (text) => void child.terminal?.write(text),
		closeTerminal: () => child.terminal?.close(),
		exited: child.exited,
		pid: child.pid,
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await child.exited;
			child.terminal?.close();
		},
	};
}
