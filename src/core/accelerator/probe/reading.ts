/** What a look at the machine's GPUs gives. */

/** Null: the driver does not tell. */
export interface GpuReading {
	/** The number that the vendor's own tool shows. */
	index: number;
	vendor: "nvidia" | "amd";
	product: string;
	uuid: string | null;
	totalBytes: number | null;
	usedBytes: number | null;
	usagePercent: number | null;
	temperatureC: number | null;
	powerW: number | null;
	powerLimitW: number | null;
	clockMhz: number | null;
	memoryClockMhz: number | null;
	processes: { pid: number; usedBytes: number | null }[];
	/** Why no model can be loaded to it; null: one can. */
	problem: string | null;
}

export interface MachineReading {
	gpus: GpuReading[];
	/** Where the figures of NVIDIA's GPUs come from; null: from nowhere. */
	by: "nvml" | "nvidia-smi" | null;
}

/** Where things are; tests put others in their places. */
export interface ProbePlaces {
	nvml: string;
	cuda: string;
	/** A program's name or path. */
	smi: string;
	/** Of /dev, /proc and /sys. */
	root: string;
}

export const PLACES: ProbePlaces = {
	nvml: "libnvidia-ml.so.1",
	cuda: "libcuda.so.1",
	smi: "nvidia-smi",
	root: "/",
};

/** A GPU of which nothing but its being there is known. */
export function blankReading(
	about: Pick<GpuReading, "index" | "vendor" | "product" | "problem">,
): GpuReading {
	return {
		uuid: null,
		totalBytes: null,
		usedBytes: null,
		usagePercent: null,
		temperatureC: null,
		powerW: null,
		powerLimitW: null,
		clockMhz: null,
		memoryClockMhz: null,
		processes: [],
		...about,
	};
}
