/**
 * A small pool of threads for work that would hold up the event loop: hashing whole files and copying big ranges.
 * A job is one synchronous loop of 4 MiB reads in `io-worker.ts`; it ends early when its signal aborts.
 */

export interface FileDigests {
	sizeBytes: number;
	sha256: string;
	/** sha1 of the git blob; only when asked. */
	gitSha1: string | undefined;
	/** XXH64 per part. */
	xxh64: string[];
}

export interface IoPool extends AsyncDisposable {
	/** Reads a whole file. */
	hashFile(
		input: { path: string; partSizeBytes: number; gitSha1?: boolean },
		signal: AbortSignal,
	): Promise<FileDigests>;
	/** XXH64 of the named parts. */
	hashParts(
		input: { path: string; partSizeBytes: number; parts: readonly number[] },
		signal: AbortSignal,
	): Promise<string[]>;
	/** Copies a byte range to the same offset of an existing file; XXH64 of each part in it (`start` is a part's start). */
	copyRange(
		input: { from: string; to: string; start: number; end: number; partSizeBytes: number },
		signal: AbortSignal,
		onBytes?: (bytes: number) => void,
	): Promise<string[]>;
}

export interface IoPoolOptions {
	/** Threads; each is started when there is work for it. */
	threads?: number;
	/** How a thread is made; a test may make another. */
	spawn?: () => Worker;
}

export function createIoPool(_options: IoPoolOptions = {}): IoPool {
	throw new Error("not built yet");
}
