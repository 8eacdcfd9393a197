/**
 * The calls of the CUDA driver API (libcuda.so.1) that are used here, by their names and numbers in cuda.h. A call that
 * fails throws with the driver's own name for it.
 */
import { CString, dlopen, FFIType } from "bun:ffi";
import { DeviceError } from "./driver.ts";

const OUT_OF_MEMORY = 2;
/** Bytes of CUipcMemHandle. */
export const IPC_HANDLE_BYTES = 64;

const { i32, u32, u64, ptr } = FFIType;
const SYMBOLS = {
	cuInit: { args: [u32], returns: i32 },
	cuDeviceGet: { args: [ptr, i32], returns: i32 },
	cuDevicePrimaryCtxRetain: { args: [ptr, i32], returns: i32 },
	cuCtxSetCurrent: { args: [u64], returns: i32 },
	cuMemGetInfo_v2: { args: [ptr, ptr], returns: i32 },
	cuMemAlloc_v2: { args: [ptr, u64], returns: i32 },
	cuMemFree_v2: { args: [u64], returns: i32 },
	cuMemHostAlloc: { args: [ptr, u64, u32], returns: i32 },
	cuMemcpyHtoDAsync_v2: { args: [u64, u64, u64, u64], returns: i32 },
	cuMemcpyDtoHAsync_v2: { args: [u64, u64, u64, u64], returns: i32 },
	cuStreamCreate: { args: [ptr, u32], returns: i32 },
	cuStreamSynchronize: { args: [u64], returns: i32 },
	cuIpcGetMemHandle: { args: [ptr, u64], returns: i32 },
	cuGetErrorName: { args: [i32, ptr], returns: i32 },
} as const;

export type CudaCall = Exclude<keyof typeof SYMBOLS, "cuGetErrorName">;

export interface Cuda {
	/** Makes a call. @throws DeviceError */
	call(name: CudaCall, ...args: (number | bigint | NodeJS.TypedArray)[]): void;
}

/** Loads the library and initialises it; each thread loads its own. @throws DeviceError */
export function loadCuda(path: string): Cuda {
	const library = open(path);
	const call: Cuda["call"] = (name, ...args) => {
		// The table above has the types of each call; here they are all one.
		const result = (library[name] as (...all: unknown[]) => number)(...args);
		if (result === 0) return;
		throw new DeviceError(name, errorName(library, result), { isOutOfMemory: result === OUT_OF_MEMORY });
	};
	call("cuInit", 0);
	return { call };
}

function open(path: string) {
	try {
		return dlopen(path, SYMBOLS).symbols;
	} catch (cause) {
		const error = new DeviceError(`loading ${path}`, "LIBRARY_NOT_USABLE");
		error.cause = cause;
		throw error;
	}
}

function errorName(library: ReturnType<typeof open>, result: number): string {
	const place = new BigUint64Array(1);
	if (library.cuGetErrorName(result, place) !== 0) return `CUDA_ERROR_${result}`;
	const address = Number(place[0]);
	return address === 0 ? `CUDA_ERROR_${result}` : new CString(address).slice();
}

/** The number that CUDA has for the device at a place of its list. */
export function deviceAt(cuda: Cuda, ordinal: number): number {
	const device = new Int32Array(1);
	cuda.call("cuDeviceGet", device, ordinal);
	return device[0] ?? 0;
}
