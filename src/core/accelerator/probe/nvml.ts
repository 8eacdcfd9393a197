/**
 * NVIDIA's management library (libnvidia-ml.so.1) by its names and numbers in nvml.h. Figures that a device does not
 * have are null; only the count and the handles of the devices must be had.
 */
import { CString, dlopen, FFIType } from "bun:ffi";
import { blankReading, type GpuReading } from "./reading.ts";

const { i32, u32, ptr, u64 } = FFIType;
const SYMBOLS = {
	nvmlInit_v2: { args: [], returns: i32 },
	nvmlErrorString: { args: [i32], returns: u64 },
	nvmlDeviceGetCount_v2: { args: [ptr], returns: i32 },
	nvmlDeviceGetHandleByIndex_v2: { args: [u32, ptr], returns: i32 },
	nvmlDeviceGetName: { args: [u64, ptr, u32], returns: i32 },
	nvmlDeviceGetUUID: { args: [u64, ptr, u32], returns: i32 },
	nvmlDeviceGetMemoryInfo: { args: [u64, ptr], returns: i32 },
	nvmlDeviceGetUtilizationRates: { args: [u64, ptr], returns: i32 },
	nvmlDeviceGetTemperature: { args: [u64, u32, ptr], returns: i32 },
	nvmlDeviceGetPowerUsage: { args: [u64, ptr], returns: i32 },
	nvmlDeviceGetEnforcedPowerLimit: { args: [u64, ptr], returns: i32 },
	nvmlDeviceGetClockInfo: { args: [u64, u32, ptr], returns: i32 },
} as const;
/** Younger than the rest: a driver without it tells no processes. */
const PROCESSES = {
	nvmlDeviceGetComputeRunningProcesses_v3: { args: [u64, ptr, ptr], returns: i32 },
} as const;

const NAME_BYTES = 96;
const TEMPERATURE_GPU = 0;
const CLOCK_SM = 1;
const CLOCK_MEMORY = 2;
/** nvmlProcessInfo_t: pid, padding, used bytes, two instance ids. */
const PROCESS_BYTES = 24;
const MOST_PROCESSES = 64;
/** NVML_VALUE_NOT_AVAILABLE. */
const NOT_AVAILABLE = 0xffff_ffff_ffff_ffffn;

export interface Nvml {
	/** @throws NvmlError when the devices cannot be counted any more */
	read(): GpuReading[];
}

export class NvmlError extends Error {}

/** Loads and initialises the library. @throws NvmlError */
export function loadNvml(path: string): Nvml {
	const library = open(path);
	const check = (call: string, result: number): void => {
		if (result !== 0) throw new NvmlError(`${call} failed: ${errorText(library, result)}`);
	};
	check("nvmlInit", library.nvmlInit_v2());
	const processesOf = findProcesses(path);
	const readOne = (index: number): GpuReading => {
		const place = new BigUint64Array(1);
		check("nvmlDeviceGetHandleByIndex", library.nvmlDeviceGetHandleByIndex_v2(index, place));
		const device = place[0] ?? 0n;
		const number = (call: (to: Uint32Array) => number): number | null => {
			const to = new Uint32Array(1);
			return call(to) === 0 ? (to[0] ?? null) : null;
		};
		const text = (call: (to: Uint8Array) => number): string | null => {
			const to = new Uint8Array(NAME_BYTES);
			return call(to) === 0 ? textOf(to) : null;
		};
		const memory = new BigUint64Array(3);
		const hasMemory = library.nvmlDeviceGetMemoryInfo(device, memory) === 0;
		const rates = new Uint32Array(2);
		const hasRates = library.nvmlDeviceGetUtilizationRates(device, rates) === 0;
		const milliwatts = number((to) => library.nvmlDeviceGetPowerUsage(device, to));
		const limit = number((to) => library.nvmlDeviceGetEnforcedPowerLimit(device, to));
		return {
			...blankReading({
				index,
				vendor: "nvidia",
				product: text((to) => library.nvmlDeviceGetName(device, to, NAME_BYTES)) ?? "NVIDIA GPU",
				problem: null,
			}),
			uuid: text((to) => library.nvmlDeviceGetUUID(device, to, NAME_BYTES)),
			// total, free, used
			totalBytes: hasMemory ? Number(memory[0]) : null,
			usedBytes: hasMemory ? Number(memory[2]) : null,
			usagePercent: hasRates ? (rates[0] ?? null) : null,
			temperatureC: number((to) => library.nvmlDeviceGetTemperature(device, TEMPERATURE_GPU, to)),
			powerW: milliwatts === null ? null : milliwatts / 1000,
			powerLimitW: limit === null ? null : limit / 1000,
			clockMhz: number((to) => library.nvmlDeviceGetClockInfo(device, CLOCK_SM, to)),
			memoryClockMhz: number((to) => library.nvmlDeviceGetClockInfo(device, CLOCK_MEMORY, to)),
			processes: processesOf(device),
		};
	};
	return {
		read() {
			const count = new Uint32Array(1);
			check("nvmlDeviceGetCount", library.nvmlDeviceGetCount_v2(count));
			return Array.from({ length: count[0] ?? 0 }, (_, index) => readOne(index));
		},
	};
}

function open(path: string) {
	try {
		return dlopen(path, SYMBOLS).symbols;
	} catch (cause) {
		throw new NvmlError(`${path} cannot be loaded`, { cause });
	}
}

function findProcesses(path: string): (device: bigint) => GpuReading["processes"] {
	let call: (device: bigint, count: Uint32Array, list: Uint8Array) => number;
	try {
		call = dlopen(path, PROCESSES).symbols.nvmlDeviceGetComputeRunningProcesses_v3;
	} catch {
		return () => [];
	}
	return (device) => {
		const count = Uint32Array.of(MOST_PROCESSES);
		const list = new Uint8Array(MOST_PROCESSES * PROCESS_BYTES);
		if (call(device, count, list) !== 0) return [];
		const view = new DataView(list.buffer);
		return Array.from({ length: Math.min(count[0] ?? 0, MOST_PROCESSES) }, (_, at) => {
			const used = view.getBigUint64(at * PROCESS_BYTES + 8, true);
			return {
				pid: view.getUint32(at * PROCESS_BYTES, true),
				usedBytes: used === NOT_AVAILABLE ? null : Number(used),
			};
		});
	};
}

function errorText(library: ReturnType<typeof open>, result: number): string {
	const address = Number(library.nvmlErrorString(result));
	return address === 0 ? String(result) : new CString(address).slice();
}

/** A text that ends with a zero. */
function textOf(bytes: Uint8Array): string {
	const end = bytes.indexOf(0);
	return new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.byteLength : end));
}
