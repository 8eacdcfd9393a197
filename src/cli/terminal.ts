/** The three standard streams and Ctrl-C, behind an interface that tests replace. */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";

export interface TextSink {
	isTty: boolean;
	/** Columns of the terminal now; undefined where there is none. */
	columns(): number | undefined;
	/** Its lines. */
	rows?(): number | undefined;
	/** @throws BrokenPipe when the reader has gone */
	write(text: string): void;
}

export interface Terminal {
	stdin: {
		isTty: boolean;
		/** The first line, at most `limit` characters; undefined at the end of input. */
		readLine(limit: number, signal?: AbortSignal): Promise<string | undefined>;
		/** Everything up to its end, or the first `limit` characters and a few more. */
		readAll(limit: number): Promise<string>;
		/**
		 * A line typed at a terminal without being shown; undefined when nothing was. Only where `isTty`.
		 * `ask` is called when nothing is echoed any more.
		 */
		readHidden(limit: number, ask: () => void): Promise<string | undefined>;
	};
	stdout: TextSink;
	stderr: TextSink;
	/** While the listener is there it gets Ctrl-C; without any the program ends with 130. */
	onInterrupt(listener: () => void): Disposable;
}

/** The reader of our output has gone (`gswarm … | head`): nobody is left to tell. */
export class BrokenPipe extends Error {
	constructor() {
		super("the reader of the output has gone");
		this.name = "BrokenPipe";
	}
}

export function systemTerminal(): Terminal {
	return {
		stdin: { isTty: isatty(0), readLine, readAll, readHidden },
		stdout: sink(1),
		stderr: sink(2),
		onInterrupt(listener) {
			process.on("SIGINT", listener);
			return { [Symbol.dispose]: () => void process.off("SIGINT", listener) };
		},
	};
}

/** Writes at once and whole, so that nothing is lost when the process ends and an error is met where it happens. */
function sink(fd: 1 | 2): TextSink {
	const stream = fd === 1 ? () => process.stdout : () => process.stderr;
	const isTty = isatty(fd);
	return {
		isTty,
		columns: () => (isTty ? stream().columns : undefined),
		rows: () => (isTty ? stream().rows : undefined),
		write(text) {
			let rest = Buffer.from(text);
			while (rest.length > 0) rest = rest.subarray(writeSome(fd, rest));
		},
	};
}

function writeSome(fd: number, bytes: Uint8Array): number {
	try {
		return writeSync(fd, bytes);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "EPIPE") throw new BrokenPipe();
		if (code !== "EAGAIN") throw error;
		// A pipe that its maker set to non-blocking is full: the reader needs a moment.
		Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
		return 0;
	}
}

async function readLine(limit: number, signal?: AbortSignal): Promise<string | undefined> {
	const reader = Bun.stdin.stream().getReader();
	const stop = (): void => void reader.cancel();
	signal?.addEventListener("abort", stop, { once: true });
	const decoder = new TextDecoder();
	let text = "";
	try {
		for (;;) {
			const { done, value } = await reader.read();
			text += decoder.decode(value, { stream: !done });
			const end = text.indexOf("\n");
			if (end >= 0) return text.slice(0, end).replace(/\r$/, "");
			if (done) return text === "" ? undefined : text;
			if (text.length > limit) return text;
		}
	} finally {
		signal?.removeEventListener("abort", stop);
		reader.releaseLock();
	}
}

async function readAll(limit: number): Promise<string> {
	const decoder = new TextDecoder();
	let text = "";
	for await (const piece of Bun.stdin.stream()) {
		text += decoder.decode(piece, { stream: true });
		if (text.length > limit) break;
	}
	return text;
}

/** Raw, so that the terminal echoes nothing; the few keys of a line are done here. */
async function readHidden(limit: number, ask: () => void): Promise<string | undefined> {
	const reader = Bun.stdin.stream().getReader();
	const decoder = new TextDecoder();
	let line: HiddenLine = { text: "", end: undefined };
	process.stdin.setRawMode(true);
	try {
		ask();
		while (line.end === undefined) {
			const { done, value } = await reader.read();
			line = typed(line.text, decoder.decode(value, { stream: !done }), limit);
			if (done) break;
		}
	} finally {
		process.stdin.setRawMode(false);
		reader.releaseLock();
	}
	if (line.end === "interrupted") process.kill(process.pid, "SIGINT");
	return line.end === "entered" && line.text !== "" ? line.text : undefined;
}

export interface HiddenLine {
	text: string;
	/** Undefined: more is to come. */
	end: "entered" | "interrupted" | undefined;
}

/** What a line is after these keys: Enter, Ctrl-C, Ctrl-D, Backspace and Ctrl-U mean what they mean elsewhere. */
export function typed(before: string, keys: string, limit: number): HiddenLine {
	let text = before;
	for (const key of keys) {
		if (key === "\r" || key === "\n" || key === "\u0004") return { text, end: "entered" };
		if (key === "\u0003") return { text: "", end: "interrupted" };
		if (key === "\u007f" || key === "\b") text = text.slice(0, -1);
		else if (key === "\u0015") text = "";
		else if (text.length < limit) text += key;
	}
	return { text, end: undefined };
}
