/** A child of ours that takes orders and reports in lines of JSON: told, heard and ended, never waited for without a limit. */
import type { Clock } from "./clock.ts";
import { createLineReader } from "./line-reader.ts";

export type LineChild = Bun.Subprocess<"pipe", "pipe", "pipe">;

/** Between the end of its stdin and SIGKILL. */
const END_MS = 2000;
const MAX_STDERR_CHARS = 2000;

/** Says one line. A child that has ended hears nothing: whoever waits for its answer learns that from its end. */
export function tellChild({ stdin }: LineChild, what: unknown): void {
	try {
		for (const step of [stdin.write(`${JSON.stringify(what)}\n`), stdin.flush()])
			Promise.resolve(step).catch(() => {});
	} catch {
		// It has ended.
	}
}

/**
 * Reads what it says until it ends; resolves to the last of its stderr. A line that is longer than `maxChars`, no JSON,
 * or not what `onReport` takes ends it.
 */
export async function hearChild(
	child: LineChild,
	onReport: (report: unknown) => void,
	{ maxChars }: { maxChars: number },
): Promise<string> {
	let stderr = "";
	const hearErrors = async (): Promise<void> => {
		const decoder = new TextDecoder();
		for await (const piece of child.stderr)
			stderr = (stderr + decoder.decode(piece, { stream: true })).slice(-MAX_STDERR_CHARS);
	};
	const hearReports = async (): Promise<void> => {
		const read = createLineReader((line) => onReport(JSON.parse(line)), { maxChars });
		try {
			for await (const piece of child.stdout) read(piece);
		} catch (error) {
			stderr += String(error);
			child.kill("SIGKILL");
		}
	};
	await Promise.all([hearErrors(), hearReports()]);
	return stderr;
}

/** Its stdin ends, and so does it; if not, it is ended. */
export async function endChild({ clock }: { clock: Clock }, child: LineChild): Promise<void> {
	try {
		await child.stdin.end();
	} catch {
		// It has ended already.
	}
	const ended = new AbortController();
	void child.exited.then(() => ended.abort());
	await clock.sleep(END_MS, ended.signal);
	if (!ended.signal.aborted) child.kill("SIGKILL");
	await child.exited;
}
