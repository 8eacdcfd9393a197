/** What the HTTP handlers share: the state of this one engine process. */
import type { Clock } from "../../../../platform/clock.ts";
import type { EngineArguments } from "./arguments.ts";
import type { Lease } from "./lease.ts";
import type { EngineMetrics } from "./metrics.ts";
import type { LlamaRuntime } from "./runtime.ts";

export type EngineState =
	| { phase: "loading"; progress: number }
	| { phase: "ready"; runtime: LlamaRuntime }
	| { phase: "stopping"; runtime: LlamaRuntime | undefined };

export interface Engine {
	readonly clock: Clock;
	readonly args: EngineArguments;
	readonly metrics: EngineMetrics;
	readonly lease: Lease;
	/** Wall clock at the start, for display. */
	readonly createdMs: number;
	/** Monotonic clock at the start. */
	readonly startedMs: number;
	readonly model: { sizeBytes: number; parameterCount: number; fileType: string | undefined };
	state: EngineState;
	/** Requests to the model that are not answered yet. */
	inFlight: number;
	/** Numbers the answers; with the instance id it makes their ids. */
	lastAnswer: number;
	/** Aborts at the end of the drain. */
	readonly stop: AbortController;
}
