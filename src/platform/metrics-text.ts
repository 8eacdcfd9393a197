/**
 * Figures as Prometheus reads them: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
 * Names begin with `gswarm_`, units are base units, counters end in `_total`.
 */
import type { CacheFigures } from "./bounded-cache.ts";

/** Of an answer. */
export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function metricsText({
	version,
	caches,
}: {
	version: string;
	caches: readonly CacheFigures[];
}): string {
	const of = (pick: (cache: CacheFigures) => number): Sample[] =>
		caches.map((cache) => [{ cache: cache.name }, pick(cache)]);
	return [
		family("gswarm_build_info", "gauge", "The version that runs.", [[{ version }, 1]]),
		family(
			"gswarm_cache_hits_total",
			"counter",
			"Answers about models that came from memory.",
			of(({ hits }) => hits),
		),
		family(
			"gswarm_cache_misses_total",
			"counter",
			"Answers about models that had to be read.",
			of(({ misses }) => misses),
		),
		family(
			"gswarm_cache_entries",
			"gauge",
			"Answers that are kept in memory.",
			of(({ entries }) => entries),
		),
		family(
			"gswarm_cache_entries_limit",
			"gauge",
			"Answers that are kept at most.",
			of(({ limit }) => limit),
		),
	].join("");
}

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

function family(name: string, type: "counter" | "gauge", help: string, samples: readonly Sample[]): string {
	const lines = samples.map(([labels, value]) => {
		const pairs = Object.entries(labels).map(([key, text]) => `${key}=${JSON.stringify(text)}`);
		return `${name}{${pairs.join(",")}} ${value}`;
	});
	return `${[`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines].join("\n")}\n`;
}
