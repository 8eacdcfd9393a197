/**
 * The entry of `gswarm __engine`: one model, one process, the OpenAI API on a loopback port.
 *
 * Life: arguments and model header are checked, the port opens (`listening`), the weights are mapped, requests
 * are answered (`ready`), SIGTERM drains. It deliberately knows no token, no cluster and no other engine: the
 * agent is its only client and its owner, and without the agent it ends by itself (lease.ts).
 * Exit codes: 0 stopped, 1 failed, 2 wrong arguments, 3 the model cannot be loaded, 4 port taken,
 * 6 this build has no engine.
 */
import { systemClock } from "../../../../platform/clock.ts";
import { GswarmError } from "../../../../schema/errors.ts";
import { type EngineArguments, parseEngineArguments, USAGE } from "./arguments.ts";
import type { Engine } from "./engine.ts";
import { emitToStdout } from "./events.ts";
import { startLease } from "./lease.ts";
import { engineLibraries } from "./libraries.ts";
import { createMetrics } from "./metrics.ts";
import { findModelFiles, type ModelFiles } from "./model-files.ts";
import { loadRuntime } from "./runtime.ts";
import { startServer } from "./server.ts";
import { unpackLibraries } from "./unpack.ts";
import { createWatchdog } from "./watchdog.ts";

export interface EngineSurroundings {
	/** Where the libraries are unpacked unless --cache-dir says otherwise. */
	defaultCacheDir: string;
}

/** Runs the engine; ends the process. `argv` is without program and subcommand. */
export async function runEngine(argv: readonly string[], surroundings: EngineSurroundings): Promise<void> {
	const libraries = engineLibraries;
	if (libraries.kind === "absent")
		end(
			6,
			`This build of gswarm (${libraries.target}) has no embedded engine; serve with an engine of another kind.`,
		);
	const args = orEnd(2, () => parseEngineArguments(argv));
	const files = orEnd(3, () => findModelFiles(args.modelPath));
	const engine = createEngine(args, files, (why) => void drain(engine, server, why));
	const server = orEnd(4, () => startServer(engine));
	for (const signal of ["SIGTERM", "SIGINT"] as const)
		process.on(signal, () => {
			if (engine.state.phase === "stopping") process.exit(0);
			void drain(engine, server, signal);
		});
	emitToStdout({
		event: "listening",
		instance_id: args.instanceId,
		host: args.host,
		port: server.port ?? 0,
		pid: process.pid,
	});
	try {
		if (libraries.kind === "embedded")
			setEngineDirectory(await unpackLibraries(libraries, args.cacheDir ?? surroundings.defaultCacheDir));
		await becomeReady(engine, files);
	} catch (error) {
		refuse(3, error);
	}
}

/** How long after the lease's end the kernel ends a process whose event loop is blocked. */
const WATCHDOG_MARGIN_S = 5;
/** After the drain: for aborted requests to let go of the model. */
const ABORT_GRACE_MS = 2000;
/** For answers to reach their sockets. */
const FLUSH_MS = 500;
const PROGRESS_STEPS = 10;

function createEngine(args: EngineArguments, files: ModelFiles, stop: (why: string) => void): Engine {
	const clock = systemClock;
	const lease = startLease(
		{ clock },
		{
			timeoutMs: args.orphanTimeoutMs,
			onExpired: () => stop("orphaned"),
			onTick: createWatchdog(args.orphanTimeoutMs / 1000 + WATCHDOG_MARGIN_S),
		},
	);
	return {
		clock,
		args,
		lease,
		metrics: createMetrics(),
		createdMs: clock.nowMs(),
		startedMs: clock.monotonicMs(),
		model: {
			sizeBytes: files.sizeBytes,
			parameterCount: files.parameterCount,
			fileType: files.header.fileType,
		},
		state: { phase: "loading", progress: 0 },
		inFlight: 0,
		lastAnswer: 0,
		stop: new AbortController(),
	};
}

async function becomeReady(engine: Engine, files: ModelFiles): Promise<void> {
	const { args } = engine;
	let step = 0;
	const runtime = await loadRuntime(files, {
		contextTokens: args.contextTokens,
		parallel: args.parallel,
		threads: args.threads,
		queueLimit: args.queueLimit,
		onProgress(fraction) {
			if (engine.state.phase === "loading") engine.state = { phase: "loading", progress: fraction };
			if (Math.floor(fraction * PROGRESS_STEPS) <= step) return;
			step = Math.floor(fraction * PROGRESS_STEPS);
			emitToStdout({ event: "loading", progress: fraction });
		},
		onLog: (level, message) => process.stderr.write(`llama.cpp ${level}: ${message.trimEnd()}\n`),
	});
	// Told to stop while loading: the drain ends the process.
	if (engine.state.phase === "stopping") return;
	engine.state = { phase: "ready", runtime };
	engine.metrics.loadMs = engine.clock.monotonicMs() - engine.startedMs;
	emitToStdout({
		event: "ready",
		ms: Math.round(engine.metrics.loadMs),
		context_tokens: runtime.contextTokens,
		parallel: args.parallel,
		threads: args.threads,
		model_bytes: files.sizeBytes,
	});
}

/** No new work, time for the work in flight, then the end. */
async function drain(engine: Engine, server: Bun.Server<undefined>, why: string): Promise<void> {
	if (engine.state.phase === "stopping") return;
	const { clock } = engine;
	const startMs = clock.monotonicMs();
	engine.state = {
		phase: "stopping",
		runtime: engine.state.phase === "ready" ? engine.state.runtime : undefined,
	};
	emitToStdout({ event: "stopping", why, in_flight: engine.inFlight });
	await idle(engine, engine.args.drainTimeoutMs);
	engine.stop.abort(
		new GswarmError("RESOURCE_UNAVAILABLE", "The engine stopped before the answer was complete.", {
			reason: "engine_stopping",
			retryable: true,
		}),
	);
	await idle(engine, ABORT_GRACE_MS);
	await Promise.race([server.stop(), clock.sleep(FLUSH_MS)]);
	emitToStdout({ event: "stopped", why, ms: Math.round(clock.monotonicMs() - startMs) });
	process.exit(0);
}

async function idle(engine: Engine, limitMs: number): Promise<void> {
	const endMs = engine.clock.monotonicMs() + limitMs;
	while (engine.inFlight > 0 && engine.clock.monotonicMs() < endMs) await engine.clock.sleep(20);
}

/** The built node-llama-cpp looks for its files here; the build's text replacements say so. */
function setEngineDirectory(directory: string): void {
	Object.assign(globalThis, { gswarmEngineDirectory: directory });
}

function orEnd<T>(code: number, work: () => T): T {
	try {
		return work();
	} catch (error) {
		return code === 2 ? end(2, `${(error as Error).message}\n${USAGE}`) : refuse(code, error);
	}
}

function refuse(code: number, error: unknown): never {
	const message = error instanceof Error ? error.message : String(error);
	const known = error instanceof GswarmError ? error : undefined;
	emitToStdout({ event: "failed", reason: known?.reason ?? "failed", message });
	return end(code, known?.hint === undefined ? message : `${message}\n${known.hint}`);
}

function end(code: number, message: string): never {
	process.stderr.write(`gswarm engine: ${message}\n`);
	process.exit(code);
}
