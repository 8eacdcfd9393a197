/** The last resort against an engine that hangs with its event loop blocked: the kernel ends it. */
import { dlopen } from "bun:ffi";

/**
 * Returns a function that asks the kernel to end this process unless it is called again within `seconds`
 * (alarm(2), whose default action is to terminate). Where libc has another name, it does nothing: the
 * embedded engine exists for glibc only.
 */
export function createWatchdog(seconds: number): () => void {
	try {
		const { symbols } = dlopen("libc.so.6", {
			alarm: { args: ["u32"], returns: "u32" },
			signal: { args: ["i32", "ptr"], returns: "ptr" },
		});
		return () => {
			// A library that is loaded later catches SIGALRM in JavaScript, which a blocked loop never runs.
			symbols.signal(SIGALRM, SIG_DFL);
			symbols.alarm(seconds);
		};
	} catch {
		return () => {};
	}
}

const SIGALRM = 14;
const SIG_DFL = null;
