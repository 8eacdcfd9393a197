import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	formatAge,
	formatBytes,
	formatDuration,
	formatRate,
	parseDuration,
	parseRate,
} from "../../src/cli/render/format.ts";
import { parseSize } from "../../src/schema/byte-size.ts";

test("bytes are short, in decimal units, and never read 1000", () => {
	const shown = [0, 1, 999, 1000, 1500, 99_949, 99_950, 999_499, 999_500, 64e6, 1.234e9, 7.77e12, 5e18].map(
		formatBytes,
	);
	expect(shown).toEqual([
		"0 B",
		"1 B",
		"999 B",
		"1 kB",
		"1.5 kB",
		"99.9 kB",
		"100 kB",
		"999 kB",
		"1 MB",
		"64 MB",
		"1.2 GB",
		"7.8 TB",
		"5000 PB",
	]);
	fc.assert(
		fc.property(fc.nat({ max: 999_000_000_000_000 }), (bytes) => {
			const text = formatBytes(bytes);
			expect(text).toMatch(/^(\d{1,3}|\d{1,2}\.\d) (B|kB|MB|GB|TB|PB)$/);
			const back = parseSize(text) ?? -1;
			expect(Math.abs(back - bytes)).toBeLessThanOrEqual(bytes * 0.05 + 0.5);
		}),
	);
});

test("rates, durations and ages read like a person writes them", () => {
	expect(formatRate(112_300_000)).toBe("112 MB/s");
	const durations = [0, 0.0001, 0.04, 0.0996, 0.44, 9.94, 9.96, 59.4, 59.6, 184, 3599.6, 7500, 90_000, 1e6];
	expect(durations.map(formatDuration)).toEqual([
		"0.0 s",
		"1 ms",
		"40 ms",
		"0.1 s",
		"0.4 s",
		"9.9 s",
		"10 s",
		"59 s",
		"1m00s",
		"3m04s",
		"1h00m",
		"2h05m",
		"1d01h",
		"11d13h",
	]);
	const ages = [0, 60, 119, 120, 7199, 7200, 172_799, 172_800].map((age) =>
		formatAge(1000, (1000 + age) * 1000),
	);
	expect(ages).toEqual([
		"just now",
		"60 s ago",
		"119 s ago",
		"2 min ago",
		"119 min ago",
		"2 h ago",
		"47 h ago",
		"2 days ago",
	]);
	// A clock that runs behind shows no age below zero.
	expect(formatAge(2000, 1000)).toBe("just now");
});

test("sizes are understood in decimal and binary units", () => {
	const cases: Record<string, number | undefined> = {
		"0": 0,
		"4096": 4096,
		"64MB": 64e6,
		"64 MB": 64e6,
		"64mb": 64e6,
		"1.5GB": 1.5e9,
		"1GiB": 2 ** 30,
		"2g": 2e9,
		"1Ti": 2 ** 40,
		"1kB": 1000,
		"0.5B": 1,
		"1Mb": undefined,
		"1Gib": undefined,
		"": undefined,
		MB: undefined,
		"-1": undefined,
		"1e9": undefined,
		"0x10": undefined,
		"1,5GB": undefined,
		"999999999999999PB": undefined,
		NaN: undefined,
		"1 GB ": 1e9,
		"1GB/s": undefined,
	};
	for (const [text, bytes] of Object.entries(cases)) expect([text, parseSize(text)]).toEqual([text, bytes]);
	expect([parseRate("100MB/s"), parseRate("100 MB / s"), parseRate("1GB"), parseRate("/s")]).toEqual([
		100e6,
		100e6,
		1e9,
		undefined,
	]);
});

test("durations are understood, alone and in a row", () => {
	const cases: Record<string, number | undefined> = {
		"90": 90_000,
		"90s": 90_000,
		"500ms": 500,
		"10m": 600_000,
		"1h30m": 5_400_000,
		"1.5h": 5_400_000,
		"2d": 172_800_000,
		"": undefined,
		h: undefined,
		"1h 30m": undefined,
		"-1s": undefined,
		"1y": undefined,
		"999999999d": undefined,
		"1e3s": undefined,
	};
	for (const [text, ms] of Object.entries(cases)) expect([text, parseDuration(text)]).toEqual([text, ms]);
});

test("no text makes a parser throw or answer something that is no whole number", () => {
	fc.assert(
		fc.property(fc.string(), (text) => {
			for (const value of [parseSize(text), parseRate(text), parseDuration(text)]) {
				expect(value === undefined || (Number.isSafeInteger(value) && value >= 0)).toBe(true);
			}
		}),
	);
});
