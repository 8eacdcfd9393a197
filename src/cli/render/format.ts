/** Quantities as people read and write them. Decimal units are shown; binary ones are understood too. */
import { parseSize } from "../../schema/byte-size.ts";

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;
const SECONDS: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 };

/** `512 B`, `1.2 GB`, `64 MB`: two digits at least, one after the point where it tells something. */
export function formatBytes(bytes: number): string {
	const { factor, name } = unitOf(bytes);
	return `${inUnit(bytes, factor)} ${name}`;
}

/** `37/64 MB`: the part in the unit of the whole. */
export function formatBytesOf(part: number, whole: number): string {
	const { factor, name } = unitOf(whole);
	return `${inUnit(part, factor)}/${inUnit(whole, factor)} ${name}`;
}

function unitOf(bytes: number): { factor: number; name: string } {
	let [factor, unit] = [1, 0];
	// 999.5 would be shown as "1000": it belongs to the next unit.
	while (bytes / factor >= 999.5 && unit < UNITS.length - 1) {
		factor *= 1000;
		unit += 1;
	}
	return { factor, name: UNITS[unit] ?? "B" };
}

function inUnit(bytes: number, factor: number): string {
	const value = Math.max(0, bytes) / factor;
	return factor === 1 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, "");
}

/** `112 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
	return `${formatBytes(bytesPerSecond)}/s`;
}

/** `40 ms`, `0.4 s`, `12 s`, `3m04s`, `2h05m`, `3d04h`. */
export function formatDuration(seconds: number): string {
	const value = Math.max(0, seconds);
	if (value > 0 && value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
	if (value < 9.95) return `${value.toFixed(1)} s`;
	const whole = Math.round(value);
	if (whole < 60) return `${whole} s`;
	const two = (n: number): string => String(Math.floor(n)).padStart(2, "0");
	if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
	if (whole < 86_400) return `${Math.floor(whole / 3600)}h${two((whole % 3600) / 60)}m`;
	return `${Math.floor(whole / 86_400)}d${two((whole % 86_400) / 3600)}h`;
}

/** `12 s ago`, `3h ago`; for a time in seconds since the epoch. */
export function formatAge(thenS: number, nowMs: number): string {
	const seconds = Math.max(0, Math.round(nowMs / 1000 - thenS));
	if (seconds < 2) return "just now";
	if (seconds < 120) return `${seconds} s ago`;
	if (seconds < 7200) return `${Math.floor(seconds / 60)} min ago`;
	if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
	return `${Math.floor(seconds / 86_400)} days ago`;
}

/** `2026-03-01 12:00:05` in the zone of the reader. */
export function formatTime(seconds: number): string {
	const date = new Date(seconds * 1000);
	const two = (n: number): string => String(n).padStart(2, "0");
	return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Bytes per second of `100MB/s` or `100MB`. */
export function parseRate(text: string): number | undefined {
	return parseSize(text.trim().replace(/ ?\/ ?s(ec)?$/, ""));
}

/** Milliseconds of `500ms`, `90s`, `10m`, `1h30m`, `2d`; a bare number is seconds. */
export function parseDuration(text: string): number | undefined {
	const compact = text.trim();
	if (/^\d{1,9}$/.test(compact)) return Number(compact) * 1000;
	if (!/^(\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h|d))+$/.test(compact)) return undefined;
	let seconds = 0;
	for (const [, amount = "", unit = ""] of compact.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
		seconds += Number(amount) * (SECONDS[unit] ?? 0);
	}
	const ms = Math.round(seconds * 1000);
	return ms <= 10 * 365 * 86_400_000 ? ms : undefined;
}

/** `8.03 billion`, `135 million`. */
export function formatCount(count: number): string {
	const [unit, word] = count >= 1e9 ? [1e9, " billion"] : count >= 1e6 ? [1e6, " million"] : [1, ""];
	const value = count / unit;
	return `${unit === 1 ? count : value >= 100 ? value.toFixed(0) : value.toFixed(2)}${word}`;
}
