/** Which GPUs this machine's node has: its own, or simulated ones where flags or the configuration say so. */
import type { Config } from "../platform/config.ts";
import type { NodeFile } from "./data-dir.ts";
import type { AgentOptions } from "./options.ts";

export interface GpuChoice {
	/** Sizes of simulated GPUs; with one of them the machine's own are left alone. */
	simulatedBytes: readonly number[];
	/** No GPU is looked for. */
	none: boolean;
	/** Names of those that the configuration says are there. */
	named: readonly string[];
}

export function gpusOf(
	{ simulatedGpus = [] }: Pick<AgentOptions, "simulatedGpus">,
	{ config, nodeFile }: { config: Config; nodeFile: NodeFile },
): GpuChoice {
	const { driver, memory, count } = config.accelerator;
	const named = config.nodes.find(({ name }) => name === nodeFile.name)?.capabilities?.gpus ?? [];
	if (simulatedGpus.length > 0) return { simulatedBytes: simulatedGpus, none: false, named };
	const simulated = driver === "sim" ? (count ?? Math.max(1, named.length)) : 0;
	const simulatedBytes = Array.from({ length: simulated }, () => memory ?? 0);
	return { simulatedBytes, none: driver === "none", named };
}
