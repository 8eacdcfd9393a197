/**
 * A small pool of threads for work that would hold up the event loop: hashing whole files and copying big ranges.
 * A job is one synchronous loop over blocks of 4 MiB in `io-worker.ts`; it ends early when its signal aborts. Errors
 * of the filesystem come back with their `code`, as from node:fs.
 */
import type { FileDigests, IoJob } from "./io-jobs.ts";
import { type IoReply, type IoRequest, STOP_FLAG } from "./io-messages.ts";

export interface IoPool extends AsyncDisposable {
	/** Reads a whole file. `gitSha1` needs the size that the file is meant to have. */
	hashFile(
		input: { path: string; partSizeBytes: number; sizeBytes: number; gitSha1: boolean },
		signal: AbortSignal,
		onBytes?: OnBytes,
	): Promise<FileDigests>;
	/** XXH64 of the named parts. */
	hashParts(
		input: { path: string; partSizeBytes: number; parts: readonly number[] },
		signal: AbortSignal,
		onBytes?: OnBytes,
	): Promise<string[]>;
	/**
	 * Copies a byte range to the same offset of an existing file; XXH64 of each part in it (`start` is a part's start).
	 * A source that ends early fails with code SHORT_FILE.
	 */
	copyRange(
		input: { from: string; to: string; start: number; end: number; partSizeBytes: number },
		signal: AbortSignal,
		onBytes?: OnBytes,
	): Promise<string[]>;
}

/** Hears now and then how many bytes of a job are done. */
export type OnBytes = (bytesDone: number) => void;

export interface IoPoolOptions {
	/** Threads; each is started when there is work for it. */
	threads?: number;
}

const DEFAULT_THREADS = 2;

interface Call {
	job: IoJob;
	control: SharedArrayBuffer;
	onBytes: OnBytes | undefined;
	resolve: (result: FileDigests | string[]) => void;
	reject: (error: unknown) => void;
}

interface Thread {
	worker: Worker;
	current: { id: number; call: Call } | undefined;
}

export function createIoPool({ threads: limit = DEFAULT_THREADS }: IoPoolOptions = {}): IoPool {
	const threads = new Set<Thread>();
	const waiting: Call[] = [];
	let nextId = 0;
	let closed = false;

	const settle = (thread: Thread, reply: IoReply): void => {
		const { current } = thread;
		if (current === undefined || current.id !== reply.id) return;
		if (reply.bytesDone !== undefined) {
			current.call.onBytes?.(reply.bytesDone);
			return;
		}
		thread.current = undefined;
		thread.worker.unref();
		if (reply.failed === undefined) current.call.resolve(reply.result ?? []);
		else current.call.reject(Object.assign(new Error(reply.failed.message), { code: reply.failed.code }));
		next();
	};
	const start = (): Thread => {
		const worker = new Worker(new URL("./io-worker.ts", import.meta.url));
		const thread: Thread = { worker, current: undefined };
		worker.onmessage = (event: MessageEvent<IoReply>) => settle(thread, event.data);
		worker.onerror = (event) => {
			threads.delete(thread);
			thread.worker.terminate();
			thread.current?.call.reject(new Error(`an io thread failed: ${event.message}`));
			next();
		};
		threads.add(thread);
		return thread;
	};
	const next = (): void => {
		while (waiting.length > 0) {
			const idle = [...threads].find((thread) => thread.current === undefined);
			const thread = idle ?? (threads.size < limit ? start() : undefined);
			const call = thread === undefined ? undefined : waiting.shift();
			if (thread === undefined || call === undefined) return;
			thread.current = { id: nextId++, call };
			// Only a thread with a job keeps the process alive.
			thread.worker.ref();
			thread.worker.postMessage({
				id: thread.current.id,
				job: call.job,
				control: call.control,
			} satisfies IoRequest);
		}
	};
	const run = async (job: IoJob, signal: AbortSignal, onBytes?: OnBytes): Promise<unknown> => {
		signal.throwIfAborted();
		if (closed) throw new Error("the io pool is closed");
		const control = new SharedArrayBuffer(4);
		const state = new Int32Array(control);
		const { promise, resolve, reject } = Promise.withResolvers<FileDigests | string[]>();
		const call: Call = { job, control, onBytes, resolve, reject };
		const stop = (): void => {
			Atomics.store(state, 0, STOP_FLAG);
			const at = waiting.indexOf(call);
			if (at >= 0) {
				waiting.splice(at, 1);
				reject(new Error("stopped"));
			}
		};
		signal.addEventListener("abort", stop, { once: true });
		waiting.push(call);
		next();
		try {
			return await promise;
		} catch (error) {
			// A job that was stopped answers only after its last block, so that nobody writes behind our back.
			signal.throwIfAborted();
			throw error;
		} finally {
			signal.removeEventListener("abort", stop);
		}
	};

	return {
		hashFile: (input, signal, onBytes) =>
			run({ kind: "hash-file", ...input }, signal, onBytes) as Promise<FileDigests>,
		hashParts: (input, signal, onBytes) =>
			run({ kind: "hash-parts", ...input }, signal, onBytes) as Promise<string[]>,
		copyRange: (input, signal, onBytes) =>
			run({ kind: "copy-range", ...input }, signal, onBytes) as Promise<string[]>,
		[Symbol.asyncDispose]() {
			closed = true;
			for (const call of waiting.splice(0)) call.reject(new Error("the io pool is closed"));
			for (const thread of threads) {
				thread.worker.terminate();
				thread.current?.call.reject(new Error("the io pool is closed"));
			}
			threads.clear();
			return Promise.resolve();
		},
	};
}
