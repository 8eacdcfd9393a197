/** Logging: events with fields, as JSON lines. Values under a secret's name never reach a line. */
import type { Clock } from "./clock.ts";

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
const SECRET = /authorization|token|secret|password|cookie|api_key/i;

/** A log that writes one JSON line per event through `write`. */
export function createLog(
	{ clock, write }: { clock: Clock; write: (line: string) => void },
	{ level = "info", fields = {} }: { level?: LogLevel; fields?: LogFields } = {},
): Log {
	const emit = (at: LogLevel, event: string, more: LogFields = {}): void => {
		if (LEVELS[at] < LEVELS[level]) return;
		const line = { ts: new Date(clock.nowMs()).toISOString(), level: at, event, ...fields, ...more };
		write(`${JSON.stringify(line, redact)}\n`);
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

function redact(key: string, value: unknown): unknown {
	if (SECRET.test(key) && typeof value === "string") return "[redacted]";
	if (value instanceof Error) {
		return { name: value.name, message: value.message, stack: value.stack, cause: value.cause };
	}
	if (typeof value === "bigint") return value.toString();
	return value;
}
