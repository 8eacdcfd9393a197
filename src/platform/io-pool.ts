/**
 * A small pool of threads for work that would hold up the event loop: hashing whole files and copying big ranges.
 * A job is one synchronous loop over blocks of 4 MiB in `io-worker.ts`; it ends early when its signal aborts. Errors
 * of the filesystem come back with their `code`, as from node:fs.
 */
import {
	type FileDigests,
	type FileEntry,
	fileList,
	type IoJob,
	type IoResult,
	type SmallFileDigests,
	smallFileDigests,
	type Tagging,
} from "./io-jobs.ts";
import { GswarmError } from "../schema/errors.ts";
import { type IoReply, type IoRequest, STOP_FLAG } from "./io-messages.ts";
import type { WeightsFormat, WeightsHeader } from "./weights-header.ts";

export interface IoPool extends AsyncDisposable {
	/** Reads a whole file. `gitSha1` needs the size that the file is meant to have; `tagKey` is the file's. */
	hashFile(
		input: {
			path: string;
			partSizeBytes: number;
			sizeBytes: number;
			gitSha1: boolean;
			tagKey?: string | undefined;
		},
		signal: AbortSignal,
		onBytes?: OnBytes,
	): Promise<FileDigests>;
	/** XXH64 of the named parts. */
	hashParts(
		input: { path: string; partSizeBytes: number; parts: readonly number[] },
		signal: AbortSignal,
		onBytes?: OnBytes,
	): Promise<string[]>;
	/** Tags of the named parts, under the key of their file; `wanted` are their XXH64, and other bytes fail. */
	tagParts(
		input: {
			path: string;
			partSizeBytes: number;
			parts: readonly number[];
			wanted: readonly string[];
			key: string;
		},
		signal: AbortSignal,
	): Promise<string[]>;
	/** Bytes of whole small files, one after the other. A file that ends early fails with code SHORT_FILE. */
	readFiles(files: readonly FileEntry[], signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
	/**
	 * Writes small files from their bytes, one after the other; the directories are there, a file that is there is
	 * replaced. `bytes` belongs to the thread afterwards.
	 */
	writeFiles(
		input: { entries: readonly FileEntry[]; bytes: Uint8Array<ArrayBuffer>; sha256: boolean },
		signal: AbortSignal,
	): Promise<SmallFileDigests[]>;
	/** The header of a file of weights. @throws {not,truncated,unsupported,corrupt}_{gguf,safetensors} */
	readHeader(input: { path: string; format: WeightsFormat }, signal: AbortSignal): Promise<WeightsHeader>;
	/** Brings all that was written to the filesystem of a directory to the device; false where that is not possible. */
	syncFilesystem(directory: string, signal: AbortSignal): Promise<boolean>;
	/** Hashes a file while it is written, from its start on; dispose it when it is not ended. */
	followFile(input: FollowedFile): FollowedHash;
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

export interface FollowedFile {
	path: string;
	/** Undefined: no sha1 of the git blob; else the size that the file is meant to have. */
	gitSha1Of: number | undefined;
	/** Undefined: no XXH64 of parts. */
	partSizeBytes: number | undefined;
	/** Undefined: no tags of parts. */
	tagging?: Tagging | undefined;
}

/** One job at a time; its thread stays the same, because the hashes are there. */
export interface FollowedHash extends Disposable {
	/** Reads on, up to bytes that are in the file. After a failure nothing more can be had of it. */
	readTo(end: number, signal: AbortSignal): Promise<void>;
	/** Of what was read. */
	end(signal: AbortSignal): Promise<FileDigests>;
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
	/** Of a session that has begun: the thread that has its hashes. */
	affinity: Affinity | undefined;
	control: SharedArrayBuffer;
	onBytes: OnBytes | undefined;
	resolve: (result: IoResult) => void;
	reject: (error: unknown) => void;
}

interface Affinity {
	thread: Thread | undefined;
}

interface Thread {
	worker: Worker;
	current: { id: number; call: Call } | undefined;
}

export function createIoPool({ threads: limit = DEFAULT_THREADS }: IoPoolOptions = {}): IoPool {
	const threads = new Set<Thread>();
	const waiting: Call[] = [];
	let nextId = 0;
	let nextSession = 0;
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
		else current.call.reject(toError(reply.failed));
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
	/** A thread for the call that is idle now, or can be started. */
	const threadFor = ({ affinity }: Call): Thread | undefined => {
		const bound = affinity?.thread;
		// A thread that failed took its hashes with it; another one will say that they are not there.
		if (bound !== undefined && threads.has(bound)) return bound.current === undefined ? bound : undefined;
		const idle = [...threads].find((thread) => thread.current === undefined);
		return idle ?? (threads.size < limit ? start() : undefined);
	};
	const next = (): void => {
		for (let at = 0; at < waiting.length; ) {
			const call = waiting[at];
			const thread = call === undefined ? undefined : threadFor(call);
			if (call === undefined || thread === undefined) {
				at++;
				continue;
			}
			waiting.splice(at, 1);
			if (call.affinity !== undefined) call.affinity.thread = thread;
			thread.current = { id: nextId++, call };
			// Only a thread with a job keeps the process alive.
			thread.worker.ref();
			const { job, control } = call;
			const message: IoRequest = { id: thread.current.id, job, control };
			thread.worker.postMessage(message, job.kind === "write-files" ? [job.bytes.buffer] : []);
		}
	};
	const run = async (
		job: IoJob,
		signal: AbortSignal,
		onBytes?: OnBytes,
		affinity?: Affinity,
	): Promise<unknown> => {
		signal.throwIfAborted();
		if (closed) throw new Error("the io pool is closed");
		const control = new SharedArrayBuffer(4);
		const state = new Int32Array(control);
		const { promise, resolve, reject } = Promise.withResolvers<IoResult>();
		const call: Call = { job, affinity, control, onBytes, resolve, reject };
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
		tagParts: (input, signal) => run({ kind: "tag-parts", ...input }, signal) as Promise<string[]>,
		readFiles: (files, signal) =>
			run({ kind: "read-files", ...fileList(files) }, signal) as Promise<Uint8Array<ArrayBuffer>>,
		writeFiles: ({ entries, bytes, sha256 }, signal) =>
			run({ kind: "write-files", ...fileList(entries), bytes, sha256 }, signal).then((text) =>
				entries.length === 0 ? [] : smallFileDigests(text as string),
			),
		readHeader: (input, signal) => run({ kind: "read-header", ...input }, signal) as Promise<WeightsHeader>,
		syncFilesystem: (path, signal) => run({ kind: "sync-filesystem", path }, signal) as Promise<boolean>,
		followFile(input) {
			const session = nextSession++;
			const affinity: Affinity = { thread: undefined };
			let position = 0;
			return {
				async readTo(end, signal) {
					const job = { kind: "hash-on" as const, session, ...input, start: position, end };
					position = end;
					await run(job, signal, undefined, affinity);
				},
				end: (signal) =>
					run({ kind: "hash-end", session }, signal, undefined, affinity) as Promise<FileDigests>,
				[Symbol.dispose]() {
					if (affinity.thread === undefined || closed) return;
					run({ kind: "hash-end", session }, new AbortController().signal, undefined, affinity).catch(
						() => {},
					);
				},
			};
		},
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

function toError({ message, code, reason }: NonNullable<IoReply["failed"]>): Error {
	return reason === undefined
		? Object.assign(new Error(message), { code })
		: new GswarmError("INVALID_REQUEST", message, { reason });
}
