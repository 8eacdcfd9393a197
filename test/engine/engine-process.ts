import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const ENTRY = join(import.meta.dir, "../../bin/gswarm.ts");

export interface EngineProcess extends AsyncDisposable {
	pid: number;
	/** Base address; throws before the engine listens. */
	url: string;
	/** The events on its stdout so far. */
	events(): Record<string, unknown>[];
	/** All it said on stderr so far. */
	stderr(): string;
	/** `undefined` before it is ready. */
	state(): "ready" | "ended" | undefined;
	/** Its exit code, or the negative number of the signal that ended it. */
	exited: Promise<number>;
	signal(name: NodeJS.Signals): void;
	get(path: string, headers?: Record<string, string>): Promise<Response>;
	post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
}

/** Starts `bun bin/gswarm.ts __engine ...argv` with stdout and stderr in files, as the agent does. */
export function spawnEngine(...argv: string[]): EngineProcess {
	const dir = tempDir();
	const out = join(dir.path, "stdout");
	const err = join(dir.path, "stderr");
	const fds = [openSync(out, "a"), openSync(err, "a")] as const;
	const child = Bun.spawn(
		[process.execPath, ENTRY, "__engine", "--cache-dir", join(dir.path, "cache"), ...argv],
		{
			stdin: "ignore",
			stdout: fds[0],
			stderr: fds[1],
			env: { PATH: process.env.PATH ?? "", HOME: dir.path },
			detached: true,
		},
	);
	for (const fd of fds) closeSync(fd);
	const events = () =>
		readFileSync(out, "utf8")
			.split("\n")
			.slice(0, -1)
			.map((line) => JSON.parse(line) as Record<string, unknown>);
	const url = () => {
		const listening = events().find((event) => event.event === "listening");
		if (listening === undefined)
			throw new Error(`the engine does not listen yet: ${readFileSync(err, "utf8")}`);
		return `http://127.0.0.1:${Number(listening.port)}`;
	};
	return {
		pid: child.pid,
		get url() {
			return url();
		},
		events,
		stderr: () => readFileSync(err, "utf8"),
		state() {
			if (child.exitCode !== null || child.signalCode !== null) return "ended";
			return events().some((event) => event.event === "ready") ? "ready" : undefined;
		},
		// Bun gives 128 + the number of the signal.
		exited: child.exited.then((code) => (child.signalCode === null ? code : 128 - code)),
		signal: (name) => child.kill(name),
		get: (path, headers = {}) => fetch(url() + path, { headers }),
		post: (path, body, init = {}) =>
			fetch(url() + path, {
				method: "POST",
				headers: { "content-type": "application/json" },
				body: typeof body === "string" ? body : JSON.stringify(body),
				...init,
			}),
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await child.exited;
			dir[Symbol.dispose]();
		},
	};
}

/** The same, ready to answer; asked for its health under its id meanwhile, as an agent does. */
export async function startEngine(...argv: string[]): Promise<EngineProcess> {
	const engine = spawnEngine(...argv);
	const state = await until("the engine is ready or has ended", async () => {
		const [listening] = engine.events();
		if (listening !== undefined && engine.state() === undefined)
			await engine.get(`/health?instance=${String(listening.instance_id)}`).catch(() => {});
		return engine.state();
	});
	if (state !== "ready") throw new Error(`the engine ended with ${await engine.exited}: ${engine.stderr()}`);
	return engine;
}

/** A chat request that runs until its limit of tokens: the grammar wants 300 booleans, some 2,000 tokens. */
export function longRequest(maxTokens: number): Record<string, unknown> {
	const schema = { type: "array", items: { type: "boolean" }, minItems: 300 };
	return {
		messages: [{ role: "user", content: "hi" }],
		max_tokens: maxTokens,
		response_format: { type: "json_schema", json_schema: { name: "booleans", schema } },
	};
}
