/** The last resort against an engine that hangs with its event loop blocked: the kernel ends it. */
import { dlopen } from "bun:ffi";

/**
 * Returns a function that asks the kernel to end this process unless it is called again within `seconds`
 * (alarm(2), whose default action is to terminate). Where libc has another name, it does nothing: the
 * embedded engine exists for glibc only.
 */
export function createWatchdog(seconds: number): () => void {
	try {
		const { symbols } = dlopen("libc.so.6", { alarm: { args: ["u32"], returns: "u32" } });
		return () => {
			symbols.alarm(seconds);
		};
	} catch {
		return () => {};
	}
}
