/**
 * A device that is not there: its memory is the machine's. For trying out and testing what a GPU would take part in.
 * It counts against the size it was given, and copies for real, so that what is verified was really copied.
 */
import { toArrayBuffer } from "bun:ffi";
import { loadAnonymousMemory } from "../../../platform/anonymous-memory.ts";
import { type DeviceDriver, DeviceError, type DeviceMemory } from "./driver.ts";

/** @param memoryBytes how much the device has; a thread that only copies needs not say it */
export function openSimDriver(memoryBytes: number): DeviceDriver {
	const memory = loadAnonymousMemory();
	if (memory === undefined) throw new DeviceError("mmap", "SIM_ERROR_NO_SUCH_CALL");
	const sizes = new Map<number, number>();
	const usedBytes = (): number => [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
	const map = (bytes: number): number => {
		const address = memory.map(bytes);
		if (address === undefined)
			throw new DeviceError("mmap", "SIM_ERROR_NO_MEMORY_IN_MACHINE", { isOutOfMemory: true });
		return address;
	};
	const copy = (to: number, from: number, bytes: number): void => viewOf(to, bytes).set(viewOf(from, bytes));
	return {
		memory: (): DeviceMemory => ({ totalBytes: memoryBytes, freeBytes: memoryBytes - usedBytes() }),
		allocate(bytes) {
			if (bytes > memoryBytes - usedBytes())
				throw new DeviceError("allocate", "SIM_ERROR_OUT_OF_MEMORY", { isOutOfMemory: true });
			const address = map(bytes);
			sizes.set(address, bytes);
			return address;
		},
		free(address) {
			memory.unmap(address, sizes.get(address) ?? 0);
			sizes.delete(address);
		},
		allocateHost(bytes) {
			const address = map(bytes);
			return { address, bytes: viewOf(address, bytes) };
		},
		createLane: () => ({ copyIn: copy, copyOut: copy, wait: () => {} }),
		handleOf: () => undefined,
	};
}

function viewOf(address: number, bytes: number): Uint8Array {
	return new Uint8Array(toArrayBuffer(address, 0, bytes));
}
