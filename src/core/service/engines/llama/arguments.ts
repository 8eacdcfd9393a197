/** The flags of `gswarm __engine`: a contract between the agent and its child, checked like any input. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { invalid } from "../../../../schema/errors.ts";

export interface EngineArguments {
	/** A .gguf file, or a directory that holds one model in GGUF. */
	modelPath: string;
	/** The name that `/v1/models` shows and requests ask for. */
	alias: string;
	host: string;
	/** 0 lets the system choose; the `listening` event tells. */
	port: number;
	/** Tokens per sequence; `undefined`: the trained length, at most DEFAULT_CONTEXT_TOKENS. */
	contextTokens: number | undefined;
	/** Requests that are computed at the same time. */
	parallel: number;
	threads: number;
	/** Names this process to its agent; a health check under another name is refused. */
	instanceId: string;
	/** Where the engine's libraries are unpacked; `undefined`: chosen by the caller of the engine. */
	cacheDir: string | undefined;
	orphanTimeoutMs: number;
	drainTimeoutMs: number;
	/** Requests that may wait for a sequence; more are refused with 503. */
	queueLimit: number;
}

export const USAGE = `usage: gswarm __engine --model PATH [--alias NAME] [--host 127.0.0.1] [--port 0]
  [--ctx-size TOKENS] [--parallel N] [--threads N] [--instance-id ID] [--cache-dir DIR]
  [--orphan-timeout-s 120] [--drain-timeout-s 5] [--queue-limit 64]`;

/** Parses argv without program and subcommand. Throws GswarmError `bad_engine_arguments` naming the flag. */
export function parseEngineArguments(argv: readonly string[]): EngineArguments {
	const values = readFlags(argv);
	const modelPath = values.model;
	if (modelPath === undefined || modelPath === "") throw bad("--model", "is missing");
	const alias = values.alias ?? defaultAlias(modelPath);
	if (alias === "" || alias.length > MAX_NAME_LENGTH)
		throw bad("--alias", `wants 1 to ${MAX_NAME_LENGTH} characters`);
	const host = values.host ?? "127.0.0.1";
	if (!LOOPBACK.has(host))
		throw bad("--host", `is ${host}; the engine asks for no token, so it listens on 127.0.0.1 or ::1 only`);
	const instanceId = values["instance-id"] ?? `pid-${process.pid}`;
	if (!INSTANCE_ID.test(instanceId)) throw bad("--instance-id", `wants ${INSTANCE_ID.source}`);
	const contextTokens = integer("--ctx-size", values["ctx-size"], 0, 0, MAX_CONTEXT_TOKENS);
	if (contextTokens !== 0 && contextTokens < MIN_CONTEXT_TOKENS)
		throw bad("--ctx-size", `wants at least ${MIN_CONTEXT_TOKENS} tokens`);
	return {
		modelPath,
		alias,
		host,
		port: integer("--port", values.port, 0, 0, 65_535),
		contextTokens: contextTokens === 0 ? undefined : contextTokens,
		parallel: integer("--parallel", values.parallel, 2, 1, MAX_PARALLEL),
		threads: integer("--threads", values.threads, defaultThreads(availableParallelism()), 1, MAX_THREADS),
		instanceId,
		cacheDir: values["cache-dir"],
		orphanTimeoutMs: 1000 * integer("--orphan-timeout-s", values["orphan-timeout-s"], 120, 1, 86_400),
		drainTimeoutMs: 1000 * integer("--drain-timeout-s", values["drain-timeout-s"], 5, 0, 3600),
		queueLimit: integer("--queue-limit", values["queue-limit"], 64, 0, 4096),
	};
}

/** One core stays free: threads that wait for a busy core make every token slower by a multiple. */
export function defaultThreads(cores: number): number {
	return Math.max(1, Math.min(cores - 1, MAX_DEFAULT_THREADS));
}

const LOOPBACK: ReadonlySet<string> = new Set(["127.0.0.1", "::1", "localhost"]);
const INSTANCE_ID = /^[A-Za-z0-9._-]{1,200}$/;
const MAX_NAME_LENGTH = 512;
const MIN_CONTEXT_TOKENS = 64;
const MAX_CONTEXT_TOKENS = 16 << 20;
const MAX_PARALLEL = 256;
const MAX_THREADS = 1024;
/** Token generation is bound by memory bandwidth; more threads than this rarely help. */
const MAX_DEFAULT_THREADS = 16;

const FLAGS = [
	"model",
	"alias",
	"host",
	"port",
	"ctx-size",
	"parallel",
	"threads",
	"instance-id",
	"cache-dir",
	"orphan-timeout-s",
	"drain-timeout-s",
	"queue-limit",
] as const;

function readFlags(argv: readonly string[]): Partial<Record<(typeof FLAGS)[number], string>> {
	const options = Object.fromEntries(FLAGS.map((flag) => [flag, { type: "string" as const }]));
	try {
		return parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
	} catch (cause) {
		throw invalid("bad_engine_arguments", (cause as Error).message);
	}
}

function integer(flag: string, text: string | undefined, fallback: number, min: number, max: number): number {
	if (text === undefined) return fallback;
	const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
	if (!(value >= min && value <= max))
		throw bad(flag, `wants a whole number from ${min} to ${max}, got ${text}`);
	return value;
}

function defaultAlias(modelPath: string): string {
	const last =
		modelPath
			.split("/")
			.filter((part) => part !== "")
			.at(-1) ?? modelPath;
	return last.replace(/\.gguf$/i, "");
}

function bad(flag: string, what: string) {
	return invalid("bad_engine_arguments", `${flag} ${what}.`, { flag });
}
