/**
 * Logging: events with fields, as JSON lines. Secrets never reach a line, by their name or by their shape, and neither
 * does a character that a terminal would act on.
 */
import type { Clock } from "./clock.ts";
import { MAX_LOGGED_CHARACTERS } from "./limits.ts";
import { isSecretName, redactSecrets } from "./redact.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Record<string, unknown>;

export interface Log {
	debug(event: string, fields?: LogFields): void;
	info(event: string, fields?: LogFields): void;
	warn(event: string, fields?: LogFields): void;
	error(event: string, fields?: LogFields): void;
	/** The same log with fields added to every line. */
	with(fields: LogFields): Log;
}

const LEVELS: Record<LogLevel, number> = { debug: 10, info: 20, warn: 30, error: 40 };

/** A log that writes one JSON line per event through `write`. */
export function createLog(
	{ clock, write }: { clock: Clock; write: (line: string) => void },
	{ level = "info", fields = {} }: { level?: LogLevel; fields?: LogFields } = {},
): Log {
	const emit = (at: LogLevel, event: string, more: LogFields = {}): void => {
		if (LEVELS[at] < LEVELS[level]) return;
		const line = { ts: new Date(clock.nowMs()).toISOString(), level: at, event, ...fields, ...more };
		write(`${visible(redactSecrets(JSON.stringify(line, plain)))}\n`);
	};
	return {
		debug: (event, more) => emit("debug", event, more),
		info: (event, more) => emit("info", event, more),
		warn: (event, more) => emit("warn", event, more),
		error: (event, more) => emit("error", event, more),
		with: (more) => createLog({ clock, write }, { level, fields: { ...fields, ...more } }),
	};
}

/** A log that keeps nothing. */
export const silentLog: Log = {
	debug: () => {},
	info: () => {},
	warn: () => {},
	error: () => {},
	with: () => silentLog,
};

function plain(key: string, value: unknown): unknown {
	if (isSecretName(key) && (typeof value === "string" || (typeof value === "object" && value !== null)))
		return "[redacted]";
	if (value instanceof Error) {
		return { name: value.name, message: value.message, stack: value.stack, cause: value.cause };
	}
	if (typeof value === "bigint") return value.toString();
	if (typeof value === "string" && value.length > MAX_LOGGED_CHARACTERS)
		return `${value.slice(0, MAX_LOGGED_CHARACTERS)}… (${value.length} characters)`;
	return value;
}

/** What JSON lets stand and a terminal acts on: C1 controls, and characters that turn the order of others. */
function visible(line: string): string {
	return line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
		Array.from(
			{ length: character.length },
			(_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
		).join(""),
	);
}
