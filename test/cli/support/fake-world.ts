/** A world for the command line: streams in memory, time that passes only in sleeps, Ctrl-C on demand. */
import { runCli } from "../../../src/cli/root.ts";
import type { World } from "../../../src/cli/context.ts";
import type { Clock } from "../../../src/platform/clock.ts";
import type { FakeAgent } from "./fake-agent.ts";

export interface WorldOptions {
	agent?: FakeAgent;
	/** Both output streams are a terminal of this many columns. */
	columns?: number;
	/** What is typed or piped; undefined: end of input. */
	input?: string;
	stdinIsTty?: boolean;
	environment?: Partial<World["environment"]>;
	/** Runs in every sleep, with the milliseconds since the start. */
	onSleep?: (elapsedMs: number, controls: Controls) => void;
	/** Where real processes take their time: the system's. */
	clock?: Clock;
}

export interface Controls {
	interrupt(): void;
}

export interface Outcome {
	code: number;
	stdout: string;
	stderr: string;
	elapsedMs: number;
}

/** 2026-03-01 12:00:00 UTC. */
export const NOW_MS = Date.UTC(2026, 2, 1, 12);

/** Runs a command line, given as words. */
export async function run(words: readonly string[], options: WorldOptions = {}): Promise<Outcome> {
	const { columns, input, environment, onSleep, agent } = options;
	let [stdout, stderr, elapsedMs] = ["", "", 0];
	const listeners = new Set<() => void>();
	const controls: Controls = {
		interrupt: () => {
			for (const listener of listeners) listener();
		},
	};
	const world: World = {
		environment: {
			dataDir: "/nonexistent/gswarm-home",
			hostUrl: undefined,
			tokenFile: undefined,
			caFile: undefined,
			noColor: true,
			...environment,
		},
		clock: options.clock ?? {
			nowMs: () => NOW_MS + elapsedMs,
			monotonicMs: () => elapsedMs,
			bootMs: () => elapsedMs,
			sleep: (ms, signal) =>
				new Promise((resolve) => {
					setImmediate(() => {
						if (signal?.aborted === true) return resolve();
						elapsedMs += ms;
						onSleep?.(elapsedMs, controls);
						resolve();
					});
				}),
		},
		terminal: {
			stdin: {
				isTty: options.stdinIsTty ?? false,
				readLine: () => Promise.resolve(input),
				readAll: () => Promise.resolve(input ?? ""),
				readHidden: (_limit, ask) => {
					ask();
					return Promise.resolve(input);
				},
			},
			stdout: {
				isTty: columns !== undefined,
				columns: () => columns,
				write: (text) => void (stdout += text),
			},
			stderr: {
				isTty: columns !== undefined,
				columns: () => columns,
				write: (text) => void (stderr += text),
			},
			onInterrupt(listener) {
				listeners.add(listener);
				return { [Symbol.dispose]: () => void listeners.delete(listener) };
			},
		},
		...(agent === undefined ? {} : { send: agent.send }),
	};
	const code = await runCli(words, world);
	if (listeners.size > 0) throw new Error("a listener for Ctrl-C was left behind");
	return { code, stdout, stderr, elapsedMs };
}
