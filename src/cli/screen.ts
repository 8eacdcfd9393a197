/**
 * The one owner of the lines of the error stream: messages scroll by, live lines (bars) stay below them and are
 * redrawn in place. Without a terminal there are no live lines.
 */
import { cut } from "./render/table.ts";
import type { TextSink } from "./terminal.ts";

export interface Screen {
	/** Whether live lines can be shown. */
	readonly live: boolean;
	/** Columns for a live line. */
	width(): number;
	/** Lines of the terminal. */
	height(): number;
	/** A message, above the live lines. */
	print(text: string): void;
	/** Replaces the live lines. */
	show(lines: readonly string[]): void;
	/** Removes the live lines. */
	clear(): void;
}

const DEFAULT_WIDTH = 80;
const DEFAULT_HEIGHT = 24;

export function createScreen(sink: TextSink): Screen {
	let shown: readonly string[] = [];
	// A line of the terminal's full width would move the cursor to the next one.
	const width = (): number => (sink.columns() ?? DEFAULT_WIDTH) - 1;
	const up = (): string => (shown.length === 0 ? "" : `\r\u001b[${shown.length}A`);
	const draw = (before: string, lines: readonly string[]): void => {
		const body = lines.map((line) => `${cut(line, width())}\u001b[K\n`).join("");
		sink.write(`${up()}${before === "" ? "" : `\u001b[J${before}`}${body}\u001b[J`);
		shown = lines;
	};
	return {
		live: sink.isTty,
		width,
		height: () => sink.rows?.() ?? DEFAULT_HEIGHT,
		print(text) {
			if (shown.length === 0) sink.write(`${text}\n`);
			else draw(`${text}\n`, shown);
		},
		show(lines) {
			if (sink.isTty) draw("", lines);
		},
		clear() {
			if (shown.length > 0) draw("", []);
		},
	};
}
