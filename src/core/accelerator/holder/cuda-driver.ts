/**
 * A GPU through CUDA's driver API. Which one, the environment of this process says (CUDA_VISIBLE_DEVICES): it sees one.
 * All threads of the process work in the device's primary context, so that an address is good in each of them.
 */
import { toArrayBuffer } from "bun:ffi";
import { deviceAt, IPC_HANDLE_BYTES, loadCuda } from "./cuda-library.ts";
import { type DeviceDriver, DeviceError } from "./driver.ts";

/** CU_STREAM_NON_BLOCKING: no lane waits for another. */
const NON_BLOCKING = 1;
/** CU_MEMHOSTALLOC_PORTABLE: page-locked for every context. */
const PORTABLE = 1;

/** @throws DeviceError */
export function openCudaDriver(library: string): DeviceDriver {
	const { call } = loadCuda(library);
	const context = new BigUint64Array(1);
	call("cuDevicePrimaryCtxRetain", context, deviceAt({ call }, 0));
	call("cuCtxSetCurrent", context[0] ?? 0n);
	/** What a call writes to its first argument. */
	const made = (write: (place: BigUint64Array) => void): number => {
		const place = new BigUint64Array(1);
		write(place);
		return Number(place[0]);
	};
	return {
		memory() {
			const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
			call("cuMemGetInfo_v2", free, total);
			return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
		},
		allocate: (bytes) => made((place) => call("cuMemAlloc_v2", place, bytes)),
		free: (address) => call("cuMemFree_v2", address),
		allocateHost(bytes) {
			const address = made((place) => call("cuMemHostAlloc", place, bytes, PORTABLE));
			return { address, bytes: new Uint8Array(toArrayBuffer(address, 0, bytes)) };
		},
		createLane() {
			const stream = made((place) => call("cuStreamCreate", place, NON_BLOCKING));
			return {
				copyIn: (to, from, bytes) => call("cuMemcpyHtoDAsync_v2", to, from, bytes, stream),
				copyOut: (to, from, bytes) => call("cuMemcpyDtoHAsync_v2", to, from, bytes, stream),
				wait: () => call("cuStreamSynchronize", stream),
			};
		},
		handleOf(address) {
			const handle = new Uint8Array(IPC_HANDLE_BYTES);
			try {
				call("cuIpcGetMemHandle", handle, address);
				return handle.toHex();
			} catch (error) {
				// Some systems (WSL, some containers) have none; the model is on the device all the same.
				if (error instanceof DeviceError) return undefined;
				throw error;
			}
		},
	};
}
