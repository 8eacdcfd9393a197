/** The entry of an io thread: takes jobs one after the other, answers each. A build must make it an entry point. */
import { createXxh64Factory } from "./hash.ts";
import { type HashSession, runIoJob } from "./io-jobs.ts";
import { GswarmError } from "../schema/errors.ts";
import { type IoReply, type IoRequest, STOP_FLAG } from "./io-messages.ts";

const BLOCK_BYTES = 4 * 1024 * 1024;
const REPORT_EVERY_BYTES = 4 * BLOCK_BYTES;

const scope = globalThis as unknown as {
	postMessage(message: IoReply, transfer?: ArrayBuffer[]): void;
	onmessage: (event: MessageEvent<IoRequest>) => void;
};
// A message that comes while a top-level await waits would be lost: the handler is there from the first moment.
const ready = createXxh64Factory().then((newXxh64) => ({
	newXxh64,
	buffer: new Uint8Array(BLOCK_BYTES),
	sessions: new Map<number, HashSession>(),
}));

scope.onmessage = (event) => {
	void answer(event.data);
};

async function answer({ id, job, control }: IoRequest): Promise<void> {
	const state = new Int32Array(control);
	let reported = 0;
	const step = (bytesDone: number): void => {
		if (Atomics.load(state, 0) === STOP_FLAG) throw new Error("stopped");
		if (bytesDone - reported < REPORT_EVERY_BYTES) return;
		reported = bytesDone;
		scope.postMessage({ id, bytesDone });
	};
	try {
		const result = runIoJob(job, { ...(await ready), step });
		scope.postMessage({ id, result }, result instanceof Uint8Array ? [result.buffer] : []);
	} catch (error) {
		const { message, code } = error as NodeJS.ErrnoException;
		const reason = error instanceof GswarmError ? error.reason : undefined;
		scope.postMessage({ id, failed: { message, code, reason } });
	}
}
