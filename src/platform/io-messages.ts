/** What the io pool and its threads say to each other. */
import type { IoJob, IoResult } from "./io-jobs.ts";

/** In `control`: stop at the next block. */
export const STOP_FLAG = 1;

export interface IoRequest {
	id: number;
	job: IoJob;
	/** One 32-bit slot that both sides see. */
	control: SharedArrayBuffer;
}

export interface IoReply {
	id: number;
	/** Only while it goes on. */
	bytesDone?: number;
	result?: IoResult;
	/** `reason` of a GswarmError, whose code is INVALID_REQUEST then. */
	failed?: { message: string; code: string | undefined; reason?: string | undefined };
}
