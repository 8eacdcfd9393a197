/**
 * The entry of `gswarm __data`: receives parts for the agent that started it, in threads of its own.
 * Orders come as lines on stdin, reports go as lines to stdout. It decides nothing: which parts, from whom, whether
 * they are right and what is written down about them is the agent's. It ends with its agent: when stdin ends, and
 * where the kernel can be asked, with the agent's process.
 */
import {
	type BlockingSockets,
	dieWithParent,
	loadBlockingSockets,
} from "../../../platform/blocking-socket.ts";
import { type Director, directorOf, newControl } from "./control.ts";
import { createLineReader } from "../../../platform/line-reader.ts";
import {
	type DataJob,
	type JobEvent,
	MAX_LINE_CHARS,
	MAX_STREAMS,
	type Order,
	type Report,
} from "./messages.ts";
import type { StreamOrder } from "./stream-worker.ts";

/** Runs until stdin ends; the process is to end with it. */
export async function runDataProcess(): Promise<void> {
	dieWithParent();
	const out = Bun.stdout.writer();
	const tell = (report: Report): void => {
		void out.write(`${JSON.stringify(report)}\n`);
		void out.flush();
	};
	const sockets = loadBlockingSockets();
	if (sockets === undefined) {
		tell({ kind: "unable" });
		return;
	}
	const streams = createStreams(sockets, tell);
	const read = createLineReader((line) => streams.follow(JSON.parse(line) as Order), {
		maxChars: MAX_LINE_CHARS,
	});
	for await (const piece of Bun.stdin.stream()) read(piece);
	// A thread that is blocked would hold the end up.
	streams.cancelAll();
}

interface Thread {
	worker: Worker;
	memory: SharedArrayBuffer;
	director: Director;
	/** The job in it. */
	job: number | undefined;
	/** Whom it has a connection to, probably. */
	peer: string;
}

interface Streams {
	follow(order: Order): void;
	cancelAll(): void;
}

function createStreams(sockets: BlockingSockets, tell: (report: Report) => void): Streams {
	const threads: Thread[] = [];
	const waiting: { job: number; what: DataJob }[] = [];

	const start = (): Thread => {
		const worker = new Worker(new URL("./stream-worker.ts", import.meta.url));
		const memory = newControl();
		const thread: Thread = { worker, memory, director: directorOf(memory), job: undefined, peer: "" };
		worker.onmessage = ({ data }: MessageEvent<{ job: number; event: JobEvent }>) => {
			tell({ ...data.event, job: data.job });
			if (data.event.kind !== "done" && data.event.kind !== "failed") return;
			thread.job = undefined;
			next();
		};
		worker.onerror = ({ message }) => {
			// What is wrong with one is wrong with all; the agent starts another process.
			process.stderr.write(`a receiving thread failed: ${message}\n`);
			process.exit(1);
		};
		threads.push(thread);
		return thread;
	};
	const next = (): void => {
		for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
			const peer = `${first.what.address} ${first.what.port}`;
			const idle = threads.filter((thread) => thread.job === undefined);
			const thread =
				idle.find((one) => one.peer === peer) ??
				(threads.length < MAX_STREAMS ? start() : undefined) ??
				idle[0];
			if (thread === undefined) return;
			waiting.shift();
			thread.job = first.job;
			thread.peer = peer;
			thread.director.reset();
			thread.worker.postMessage({ ...first, control: thread.memory } satisfies StreamOrder);
		}
	};
	return {
		cancelAll() {
			for (const { director } of threads) director.cancel((fd) => sockets.shutdown(fd));
		},
		follow(order) {
			const thread = threads.find(({ job }) => job === order.job);
			switch (order.kind) {
				case "receive":
					waiting.push(order);
					next();
					return;
				case "passed":
					thread?.director.passed(order.bytes);
					return;
				case "cancel": {
					thread?.director.cancel((fd) => sockets.shutdown(fd));
					const at = waiting.findIndex(({ job }) => job === order.job);
					if (at < 0) return;
					waiting.splice(at, 1);
					tell({ kind: "failed", failure: "cancelled", message: "cancelled", job: order.job });
				}
			}
		},
	};
}
