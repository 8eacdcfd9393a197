/** What the engine tells its agent: one JSON line per event on stdout, which is a file in production. */
import { writeSync } from "node:fs";

export type EngineEvent =
	| { event: "listening"; instance_id: string; host: string; port: number; pid: number }
	| { event: "loading"; progress: number }
	| {
			event: "ready";
			ms: number;
			context_tokens: number;
			parallel: number;
			threads: number;
			model_bytes: number;
	  }
	| { event: "failed"; reason: string; message: string }
	| { event: "stopping"; why: string; in_flight: number }
	| { event: "stopped"; why: string; ms: number };

export type Emit = (event: EngineEvent) => void;

/** Writes an event to stdout; a full disk or a closed reader must not end a serving engine. */
export const emitToStdout: Emit = (event) => {
	const line = Buffer.from(`${JSON.stringify(event)}\n`);
	let written = 0;
	try {
		while (written < line.length) written += writeSync(1, line, written);
	} catch {
		// The agent learns the same from /health and from the exit code.
	}
};
