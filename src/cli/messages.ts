/** What the program says to people, on the error stream; the data goes to the other one. */
import { LogLevels, createConsola } from "consola/core";
import type { Style } from "./render/style.ts";
import { safeText } from "./render/safe-text.ts";
import { shellWord } from "./render/shell-word.ts";
import type { Screen } from "./screen.ts";

export interface Messages {
	info(text: string): void;
	success(text: string): void;
	warn(text: string): void;
	error(text: string): void;
	/** What to do about an error; shown even with --quiet. */
	hint(text: string): void;
	/** Commands, without `gswarm`, that usually come next. */
	next(commands: readonly string[]): void;
	debug(text: string): void;
	/** What a command needs to reach the same agent: empty, ` --data-dir DIR` or ` --context NAME`. */
	readonly place: string;
}

/** Commands about this machine or about contexts themselves, to which `--context` would say the opposite. */
const LOCAL = /^(agent|context|login)\b/;

export function createMessages(
	{ screen, style }: { screen: Screen; style: Style },
	{
		quiet,
		debug,
		dataDir,
		context,
	}: { quiet: boolean; debug: boolean; dataDir: string | undefined; context: string | undefined },
): Messages {
	const named = context === undefined ? "" : ` --context ${shellWord(context)}`;
	const place = dataDir === undefined ? named : ` --data-dir ${shellWord(dataDir)}`;
	const prefix: Partial<Record<string, string>> = {
		success: style.good("✓ "),
		warn: style.busy("warning: "),
		error: style.bad("error: "),
		debug: style.dim("debug: "),
	};
	const consola = createConsola({
		level: debug ? LogLevels.debug : quiet ? LogLevels.error : LogLevels.info,
		reporters: [
			{
				log: ({ type, args }) => {
					const mark = type === "success" && !screen.live ? "" : (prefix[type] ?? "");
					screen.print(`${mark}${args.join(" ")}`);
				},
			},
		],
		// Each message counts: nothing is folded into "repeated 5 times".
		throttle: 0,
	});
	return {
		info: (text) => consola.info(safeText(text)),
		success: (text) => consola.success(safeText(text)),
		warn: (text) => consola.warn(safeText(text)),
		error: (text) => consola.error(safeText(text)),
		hint: (text) => screen.print(`${style.accent("hint: ")}${safeText(text)}`),
		next: (commands) => {
			if (quiet) return;
			const lines = commands.map(
				(line, at) =>
					`${at === 0 ? "next: " : "      "}gswarm ${safeText(line)}${LOCAL.test(line) && dataDir === undefined ? "" : place}`,
			);
			if (lines.length > 0) screen.print(style.dim(lines.join("\n")));
		},
		debug: (text) => consola.debug(safeText(text)),
		place,
	};
}
