/** One health check of an engine, bounded in time and size; what its answer means is the engine's to say. */
import type { Clock } from "../../platform/clock.ts";
import { fetchDirectly } from "../../platform/fetch-directly.ts";
import type { Engine, HealthVerdict } from "./engine.ts";

/** Times and limits by which an instance is judged. */
export interface HealthPolicy {
	/** Between checks of an instance that is ready; also keeps the engine's lease. */
	intervalMs: number;
	/** Between checks while it starts, at least; then a twentieth of the time it has taken so far. */
	startIntervalMs: number;
	/** Some engines need more than a second to answer. */
	timeoutMs: number;
	/** Failed checks in a row until a ready instance is unhealthy. */
	failureLimit: number;
	/** How long an instance that starts may say nothing: no port yet, or its event loop is busy with loading. */
	startSilenceMs: number;
}

export const HEALTH_POLICY: HealthPolicy = {
	intervalMs: 2000,
	startIntervalMs: 50,
	timeoutMs: 3000,
	failureLimit: 3,
	startSilenceMs: 60_000,
};

/** The pause before the next check of an instance that has been starting for `elapsedMs`: ready time is exact to 5 %. */
export function startPauseMs(elapsedMs: number, policy: HealthPolicy): number {
	return Math.min(policy.intervalMs, Math.max(policy.startIntervalMs, elapsedMs / 20));
}

const MAX_BODY_BYTES = 64 << 10;

/** Asks once. Never throws: no answer within the time, or before the signal, is `silent`. */
export async function checkHealth(
	{ clock, engine }: { clock: Clock; engine: Engine },
	{ baseUrl, instanceId, timeoutMs }: { baseUrl: string; instanceId: string; timeoutMs: number },
	signal: AbortSignal,
): Promise<HealthVerdict> {
	const call = new AbortController();
	const done = new AbortController();
	void clock.sleep(timeoutMs, AbortSignal.any([signal, done.signal])).then(() => call.abort());
	try {
		const response = await fetchDirectly(`${baseUrl}${engine.healthPath(instanceId)}`, {
			signal: call.signal,
			redirect: "manual",
			// A connection of its own each time: a pooled one may lead to a process that is gone.
			keepalive: false,
		});
		return engine.readHealth(response.status, await readText(response), instanceId);
	} catch {
		return "silent";
	} finally {
		done.abort();
	}
}

async function readText(response: Response): Promise<string> {
	const pieces: Uint8Array[] = [];
	let sizeBytes = 0;
	for await (const piece of response.body ?? []) {
		sizeBytes += piece.length;
		if (sizeBytes > MAX_BODY_BYTES) throw new Error("the answer to a health check is too long");
		pieces.push(piece);
	}
	return Buffer.concat(pieces).toString("utf8");
}
