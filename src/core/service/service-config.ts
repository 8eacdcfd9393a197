/** What a caller may ask of a service; the fields of the API, on the wire and in rows alike. */
import type { BalancePolicy, Framework } from "../../schema/service.ts";

export interface ServiceConfig {
	framework?: Framework | undefined;
	port?: number | undefined;
	/** Of the whole cluster; a node runs one instance per service. */
	replicas?: number | undefined;
	load_balancing?: BalancePolicy | undefined;
	/** Requests that are computed at the same time. */
	max_batch_size?: number | undefined;
	/** Tokens per request, prompt and answer together. */
	max_sequence_length?: number | undefined;
	gpu_memory_fraction?: number | undefined;
	/** Seconds per request. */
	timeout?: number | undefined;
}

/** Long enough for a long answer on a slow machine; a request that takes longer is cancelled. */
const DEFAULT_TIMEOUT_S = 3600;

export function requestTimeoutMs(config: ServiceConfig): number {
	return 1000 * (config.timeout ?? DEFAULT_TIMEOUT_S);
}
