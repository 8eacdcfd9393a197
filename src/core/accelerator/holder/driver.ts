/**
 * Memory of one device as the holder's threads use it. Addresses are plain numbers that are good in every thread of
 * the process. Every call may block; none of them is made in the agent.
 */

/** What the driver says went wrong. */
export class DeviceError extends Error {
	/** The driver's name for it, e.g. `CUDA_ERROR_OUT_OF_MEMORY`. */
	readonly code: string;
	readonly isOutOfMemory: boolean;

	constructor(call: string, code: string, { isOutOfMemory = false } = {}) {
		super(`${call} failed: ${code}`);
		this.name = "DeviceError";
		this.code = code;
		this.isOutOfMemory = isOutOfMemory;
	}
}

export interface DeviceMemory {
	totalBytes: number;
	freeBytes: number;
}

/** Page-locked memory of the machine, from which and to which the device copies by itself. */
export interface HostBuffer {
	address: number;
	bytes: Uint8Array;
}

/** Copies of one lane go one after the other; those of two lanes at the same time. */
export interface Lane {
	copyIn(to: number, from: number, bytes: number): void;
	copyOut(to: number, from: number, bytes: number): void;
	/** Until all copies of this lane are done. */
	wait(): void;
}

export interface DeviceDriver {
	memory(): DeviceMemory;
	/** @throws DeviceError isOutOfMemory */
	allocate(bytes: number): number;
	free(address: number): void;
	allocateHost(bytes: number): HostBuffer;
	createLane(): Lane;
	/** By which another process maps the memory, in hex; undefined where the driver has no such thing. */
	handleOf(address: number): string | undefined;
}
