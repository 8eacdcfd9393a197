/**
 * The GPUs of one node: which there are, what of their memory is free, and models held in it.
 * A model on a GPU is a residency: loading → verified → ready → gone. It lives in the memory of a holder process, one per
 * device, and is gone when that ends, however it ends; nothing of it is on a disk, and the next start knows none.
 * What is loaded is read back and compared with the manifest before it counts. A simulated device is the same over the
 * machine's own memory, there only where the configuration says so, and says of itself everywhere that it is simulated.
 * It moves no files, asks no host, chooses no victims and starts no engines: the agent composes those.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import type { Accelerator, AcceleratorOptions } from "./contract.ts";
import { createRoom } from "./room.ts";

export type { Accelerator, AcceleratorOptions, LoadInput, Occupied } from "./contract.ts";
export type { DeviceReading } from "./device.ts";

/** Opens the room once it knows what the machine has, or that its driver does not answer in time. */
export async function openAccelerator(
	dependencies: { clock: Clock; log: Log },
	options: AcceleratorOptions,
): Promise<Accelerator> {
	const { room, looked } = createRoom(dependencies, options);
	await looked;
	return room;
}
