/** How to run the embedded engine: a child of this binary, `gswarm __engine …`. */
import { z } from "zod";
import { invalid } from "../../../schema/errors.ts";
import type { Engine, ExitMeaning, HealthVerdict } from "../engine.ts";

export interface LlamaOptions {
	/** Up to and including the subcommand, e.g. `["/usr/bin/gswarm", "__engine"]`. */
	command: readonly string[];
	/** Where the engine unpacks its libraries. */
	cacheDir: string;
	/** Threads per instance; left out: the engine leaves one core free. */
	threads?: number;
	/** The engine ends itself when no agent has asked for its health for this long. Default 120. */
	orphanTimeoutS?: number;
}

export function createLlamaEngine({
	command,
	cacheDir,
	threads,
	orphanTimeoutS = 120,
}: LlamaOptions): Engine {
	return {
		name: "llama",
		launch({ instanceId, modelPath, modelName, config }) {
			const { max_sequence_length: contextTokens, max_batch_size: parallel } = config;
			if (contextTokens !== undefined && contextTokens < MIN_CONTEXT_TOKENS) {
				throw invalid(
					"bad_config",
					`max_sequence_length is ${contextTokens}; the embedded engine wants at least ${MIN_CONTEXT_TOKENS}.`,
					{ field: "config.max_sequence_length" },
				);
			}
			const flags: Record<string, string | number | undefined> = {
				"--model": modelPath,
				"--alias": modelName,
				"--host": "127.0.0.1",
				// The system chooses, the `listening` line tells: no port is picked that another takes meanwhile.
				"--port": 0,
				"--ctx-size": contextTokens,
				"--parallel": parallel,
				"--threads": threads,
				"--instance-id": instanceId,
				"--cache-dir": cacheDir,
				"--orphan-timeout-s": orphanTimeoutS,
			};
			const given = Object.entries(flags).filter(([, value]) => value !== undefined);
			return {
				argv: [...command, ...given.flatMap(([flag, value]) => [flag, String(value)])],
				environment: {},
			};
		},
		readEndpoint(line, instanceId) {
			const event = parseLine(listening, line);
			if (event === undefined || event.instance_id !== instanceId) return undefined;
			return { baseUrl: `http://${event.host.includes(":") ? `[${event.host}]` : event.host}:${event.port}` };
		},
		// Naming the instance makes the check renew the engine's lease, so that it knows its agent lives.
		healthPath: (instanceId) => `/health?instance=${encodeURIComponent(instanceId)}`,
		readHealth(status, body, instanceId): HealthVerdict {
			const health = parseLine(healthBody, body);
			if (health === undefined) return "silent";
			if (health.instance_id !== instanceId) return "foreign";
			if (status === 200 && health.status === "ok") return "ready";
			return health.status === "loading" ? "loading" : "silent";
		},
		readExit: (code) => EXITS[code ?? -1] ?? { reason: "engine_crashed", isPermanent: false },
		readFailure(lines) {
			return lines.map((line) => parseLine(failed, line)).findLast((event) => event !== undefined);
		},
		requestHeaders: (instanceId) => ({ "x-gswarm-instance": instanceId }),
	};
}

/** The engine's own lower bound; below it a template alone would not fit. */
const MIN_CONTEXT_TOKENS = 64;

const EXITS: Record<number, ExitMeaning> = {
	2: { reason: "bad_engine_arguments", isPermanent: true },
	3: { reason: "model_load_failed", isPermanent: true },
	6: { reason: "engine_absent", isPermanent: true },
};

const listening = z.object({
	event: z.literal("listening"),
	instance_id: z.string(),
	host: z.enum(["127.0.0.1", "::1", "localhost"]),
	port: z.int().min(1).max(65_535),
});
const failed = z.object({ event: z.literal("failed"), reason: z.string(), message: z.string() });
const healthBody = z.object({ status: z.string(), instance_id: z.string() });

/** A line of the log that is this event; most lines are not JSON at all. */
function parseLine<T extends z.ZodType>(schema: T, line: string): z.infer<T> | undefined {
	if (!line.startsWith("{")) return undefined;
	try {
		const result = schema.safeParse(JSON.parse(line));
		return result.success ? result.data : undefined;
	} catch {
		return undefined;
	}
}
