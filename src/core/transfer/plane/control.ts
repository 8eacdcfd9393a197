/**
 * Four words of memory that a receiving thread shares with the thread that directs it: a thread that is blocked in a
 * socket hears no messages.
 */
import { WINDOW_BYTES } from "./messages.ts";

const CANCELLED = 0;
/** The socket that the thread may be blocked in; -1: none. */
const SOCKET = 1;
const LOCK = 2;
/** Bytes that are in the file and were not let pass yet. */
const AHEAD = 3;
const WORDS = 4;

export function newControl(): SharedArrayBuffer {
	const memory = new SharedArrayBuffer(WORDS * 4);
	new Int32Array(memory)[SOCKET] = -1;
	return memory;
}

/** The directing side. */
export interface Director {
	/** Before each job. */
	reset(): void;
	/** The thread stops at its next look, and `shutdown` is called on the socket it is blocked in. */
	cancel(shutdown: (fd: number) => void): void;
	passed(bytes: number): void;
}

export function directorOf(memory: SharedArrayBuffer): Director {
	const words = new Int32Array(memory);
	return {
		reset() {
			Atomics.store(words, CANCELLED, 0);
			Atomics.store(words, AHEAD, 0);
		},
		cancel(shutdown) {
			Atomics.store(words, CANCELLED, 1);
			Atomics.notify(words, AHEAD);
			locked(words, () => {
				const fd = Atomics.load(words, SOCKET);
				if (fd >= 0) shutdown(fd);
			});
		},
		passed(bytes) {
			Atomics.sub(words, AHEAD, bytes);
			Atomics.notify(words, AHEAD);
		},
	};
}

/** The receiving side. */
export interface Performer {
	isCancelled(): boolean;
	/** From now on a cancel shuts this socket down. */
	holds(fd: number): void;
	/** The number may be another file's as soon as it is closed: nobody shuts it down meanwhile. */
	close(close: (fd: number) => void): void;
	/** Counts bytes, and waits while too many have not been let pass. False: cancelled. */
	received(bytes: number): boolean;
}

const LOOK_EVERY_MS = 250;

export function performerOf(memory: SharedArrayBuffer): Performer {
	const words = new Int32Array(memory);
	const isCancelled = (): boolean => Atomics.load(words, CANCELLED) === 1;
	return {
		isCancelled,
		holds: (fd) => void Atomics.store(words, SOCKET, fd),
		close: (close) =>
			locked(words, () => {
				const fd = Atomics.exchange(words, SOCKET, -1);
				if (fd >= 0) close(fd);
			}),
		received(bytes) {
			for (let ahead = Atomics.add(words, AHEAD, bytes) + bytes; ahead > WINDOW_BYTES && !isCancelled(); ) {
				Atomics.wait(words, AHEAD, ahead, LOOK_EVERY_MS);
				ahead = Atomics.load(words, AHEAD);
			}
			return !isCancelled();
		},
	};
}

/** Held for the time of one system call. */
function locked(words: Int32Array, work: () => void): void {
	while (Atomics.compareExchange(words, LOCK, 0, 1) !== 0);
	try {
		work();
	} finally {
		Atomics.store(words, LOCK, 0);
	}
}
