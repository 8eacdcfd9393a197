/** What the agent and a holder process say to each other: one JSON object a line. */

/** Which device a holder is for, and by what; on its command line, as JSON. */
export type HolderPlan =
	| { driver: "cuda"; library: string; threads: number }
	| { driver: "sim"; memoryBytes: number; threads: number };

/** A file of a copy: where it lies, and what it must be on the device. */
export interface HeldFile {
	/** Absolute. */
	path: string;
	sizeBytes: number;
	partSizeBytes: number;
	xxh64: readonly string[];
}

/** From the agent; `id` names what is loaded, from its load on. */
export type Order =
	/** `direct`: past the page cache, where the filesystem can. */
	| { kind: "load"; id: number; files: readonly HeldFile[]; direct: boolean }
	| { kind: "verify"; id: number }
	| { kind: "unload"; id: number }
	| { kind: "cancel"; id: number };

/** A part that is not on the device what it should be; `file` is its place in the list. */
export interface BadPart {
	file: number;
	part: number;
}

/**
 * Why an order failed. `memory`: the device has not enough; `file`: it cannot be read, or is shorter than it should be;
 * `device`: the driver says so; `cancelled`.
 */
export type HolderFailure = "memory" | "file" | "device" | "cancelled";

export type Report =
	/** The first word of a holder that can work, and of one that cannot. */
	| { kind: "open"; totalBytes: number; freeBytes: number }
	| { kind: "unable"; message: string; code: string }
	| { kind: "allocated"; id: number; freeBytes: number }
	/** So many bytes of the phase are done. */
	| { kind: "progress"; id: number; phase: "moving" | "verifying"; bytes: number }
	/** Handles by which another process maps the files, null for an empty file or a driver without any. */
	| { kind: "loaded"; id: number; freeBytes: number; handles: (string | null)[]; isDirect: boolean }
	/** `freeBytes` where what was bad has been freed. */
	| { kind: "verified"; id: number; bad: BadPart[]; freeBytes?: number | undefined }
	| { kind: "unloaded"; id: number; freeBytes: number }
	| {
			kind: "failed";
			id: number;
			failure: HolderFailure;
			message: string;
			code?: string | undefined;
			/** Undefined where the driver does not even tell that any more. */
			freeBytes?: number | undefined;
	  };

/** The list of a large model's parts is one line of an order. */
export const MAX_ORDER_CHARS = 64 * 1024 * 1024;
export const MAX_REPORT_CHARS = 4 * 1024 * 1024;
