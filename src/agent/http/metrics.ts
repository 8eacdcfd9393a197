/** The agent's figures, for Prometheus. */
import type { CacheFigures } from "../../platform/bounded-cache.ts";
import { METRICS_TYPE, metricsText } from "../../platform/metrics-text.ts";
import { version } from "../../platform/version.ts";

export function metricsResponse(caches: readonly CacheFigures[]): Response {
	return new Response(metricsText({ version, caches }), { headers: { "content-type": METRICS_TYPE } });
}
