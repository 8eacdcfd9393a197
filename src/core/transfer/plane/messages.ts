/** What the agent, its data process and the threads in there say to each other: one JSON object a line. */

/** A run of whole parts of one file, from one peer, to one place. */
export interface DataJob {
	/** A literal address. */
	address: string;
	port: number;
	/** The whole text of the request without its Range and the empty line at its end. */
	request: string;
	/** Absolute path of the staged file, which has its length. */
	path: string;
	start: number;
	end: number;
	sizeBytes: number;
	partSizeBytes: number;
	/** Less than `progressBytes` in so long is a stall. */
	stallMs: number;
	progressBytes: number;
	/** Undefined: no tags are made. */
	tagKey: string | undefined;
}

/** From the agent. `passed`: so many bytes more may come. */
export type Order =
	| { kind: "receive"; job: number; what: DataJob }
	| { kind: "passed"; job: number; bytes: number }
	| { kind: "cancel"; job: number };

/**
 * Why a job ended early. `connection`: nobody there, cut, or silent; `answer`: not one that is taken here; `file`:
 * the staged file cannot be written; `cancelled`.
 */
export type Failure = "connection" | "answer" | "file" | "cancelled";

export type JobEvent =
	/** So many more bytes are in the file. */
	| { kind: "bytes"; bytes: number }
	/** All bytes of a part are in the file. */
	| { kind: "part"; part: number; xxh64: string; tag?: string | undefined }
	| { kind: "done" }
	| { kind: "failed"; failure: Failure; message: string; code?: string | undefined };

/** To the agent. `unable`: this system has not what it takes. */
export type Report = { kind: "unable" } | (JobEvent & { job: number });

/** Bytes that may be in the file before the agent has let them pass: a limit on the rate cannot be missed by more. */
export const WINDOW_BYTES = 16 * 1024 * 1024;

/** Threads of the data process; more jobs than that wait. */
export const MAX_STREAMS = 8;

/** No word between the two is longer. */
export const MAX_LINE_CHARS = 64 * 1024;
