/** The entry of a receiving thread: takes jobs one after the other, each to its end. A build must make it an entry point. */
import { loadBlockingSockets } from "../../../platform/blocking-socket.ts";
import { systemClock } from "../../../platform/clock.ts";
import { createXxh64Factory } from "../../../platform/hash.ts";
import { performerOf } from "./control.ts";
import type { DataJob, JobEvent } from "./messages.ts";
import { createStream } from "./stream.ts";

export interface StreamOrder {
	job: number;
	what: DataJob;
	control: SharedArrayBuffer;
}

const scope = globalThis as unknown as {
	postMessage(message: { job: number; event: JobEvent }): void;
	onmessage: (event: MessageEvent<StreamOrder>) => void;
};
// A message that comes while a top-level await waits would be lost: the handler is there from the first moment.
const newXxh64 = createXxh64Factory();
let current = 0;
let stream: ReturnType<typeof createStream> | undefined;

scope.onmessage = (event) => {
	void run(event.data);
};

async function run({ job, what, control }: StreamOrder): Promise<void> {
	const hashes = await newXxh64;
	const sockets = loadBlockingSockets();
	if (sockets === undefined) throw new Error("there are no blocking sockets on this system");
	current = job;
	stream ??= createStream({
		sockets,
		clock: systemClock,
		control: performerOf(control),
		newXxh64: hashes,
		tell: (told) => scope.postMessage({ job: current, event: told }),
	});
	stream.run(what);
}
