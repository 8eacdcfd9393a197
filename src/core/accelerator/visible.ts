/** Which of the machine's GPUs this agent was given: CUDA_VISIBLE_DEVICES, as CUDA itself reads it. */
import type { GpuReading } from "./probe/reading.ts";

/**
 * The GPUs that the text leaves visible, under their own numbers. Numbers and UUIDs (their beginnings too) are known;
 * the first entry that is neither ends the list, as it does for CUDA.
 */
export function visibleGpus(gpus: readonly GpuReading[], text: string | undefined): GpuReading[] {
	if (text === undefined) return [...gpus];
	const seen = new Set<GpuReading>();
	for (const entry of text.split(",").map((part) => part.trim())) {
		const gpu = gpus.find(({ index, uuid, vendor }) =>
			vendor !== "nvidia"
				? false
				: /^\d+$/.test(entry)
					? index === Number(entry)
					: entry.startsWith("GPU-") && entry.length > 4 && uuid?.startsWith(entry) === true,
		);
		if (gpu === undefined) break;
		seen.add(gpu);
	}
	return gpus.filter((gpu) => gpu.vendor !== "nvidia" || seen.has(gpu));
}
