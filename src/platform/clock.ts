/** Time behind an interface: the only file that reads it, so that tests can own it. */
import { dlopen } from "bun:ffi";

export interface Clock {
	/** Milliseconds since the epoch, for display and for rows; never for durations. */
	nowMs(): number;
	/** Milliseconds that never jump; for durations, leases and deadlines. */
	monotonicMs(): number;
	/**
	 * As monotonicMs, and the time that the machine slept counts: for what others hold us to. Not to be compared with it.
	 */
	bootMs(): number;
	/** Resolves after `ms`, or at once when the signal aborts (without throwing; check the signal). */
	sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
	nowMs: () => Date.now(),
	monotonicMs: () => performance.now(),
	bootMs: lazily(openBootTime),
	sleep: (ms, signal) =>
		new Promise((resolve) => {
			if (signal?.aborted === true) {
				resolve();
				return;
			}
			const done = (): void => {
				clearTimeout(timer);
				signal?.removeEventListener("abort", done);
				resolve();
			};
			const timer = setTimeout(done, ms);
			signal?.addEventListener("abort", done, { once: true });
		}),
};

/** Of clock_gettime(2) on Linux. */
const CLOCK_BOOTTIME = 7;
const SYMBOLS = { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } } as const;

/** CLOCK_BOOTTIME; where the system has none, what does not count sleep. */
function openBootTime(): () => number {
	const clockGettime = findClockGettime();
	/** struct timespec: seconds and nanoseconds. */
	const time = new BigInt64Array(2);
	if (clockGettime?.(CLOCK_BOOTTIME, time) !== 0) return () => performance.now();
	return () => {
		clockGettime(CLOCK_BOOTTIME, time);
		return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
	};
}

function findClockGettime(): ((clock: number, time: BigInt64Array) => number) | undefined {
	if (process.platform !== "linux") return undefined;
	for (const name of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
		try {
			return dlopen(name, SYMBOLS).symbols.clock_gettime;
		} catch {
			// Not this library.
		}
	}
	return undefined;
}

/** Opened by who first asks for it. */
function lazily(open: () => () => number): () => number {
	let read: (() => number) | undefined;
	return () => (read ??= open())();
}
