import { expect, test } from "bun:test";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { linesFrom, tailLines } from "../../src/core/service/log-tail.ts";
import { logSize, trimLog } from "../../src/platform/log-file.ts";
import { tempDir } from "../support/temp-dir.ts";

test("the tail is the last whole lines, however long the file and its lines are", () => {
	using dir = tempDir();
	const path = join(dir.path, "log");
	const lines = Array.from({ length: 5000 }, (_, i) => `${i} ${"é".repeat(i % 97)}`);
	writeFileSync(path, `${lines.join("\n")}\n`);
	for (const count of [1, 2, 100, 4999, 5000, 9999])
		expect(tailLines(path, count)).toEqual(lines.slice(-count));
});

test("the tail can begin where a process began to write", () => {
	using dir = tempDir();
	const path = join(dir.path, "log");
	writeFileSync(path, "of the first\nof the first too\n");
	const fromByte = logSize(path);
	appendFileSync(path, "of the second\n");
	expect(tailLines(path, 20, { fromByte })).toEqual(["of the second"]);
});

test("no file and an empty file have no lines", () => {
	using dir = tempDir();
	const path = join(dir.path, "log");
	expect(tailLines(path, 5)).toEqual([]);
	expect(linesFrom(path, 0)).toEqual({ lines: [], nextByte: 0 });
	writeFileSync(path, "");
	expect(tailLines(path, 5)).toEqual([]);
});

test("a line that is still being written is read when it is whole", () => {
	using dir = tempDir();
	const path = join(dir.path, "log");
	writeFileSync(path, "one\ntw");
	const first = linesFrom(path, 0);
	expect(first).toEqual({ lines: ["one"], nextByte: 4 });
	appendFileSync(path, "o\n");
	expect(linesFrom(path, first.nextByte).lines).toEqual(["two"]);
});

test("a log past its limit is set aside and goes on empty", () => {
	using dir = tempDir();
	const path = join(dir.path, "log");
	writeFileSync(path, "12345678\n");
	expect(trimLog(path, 9)).toBe(false);
	expect(trimLog(path, 8)).toBe(true);
	expect(logSize(path)).toBe(0);
	expect(readFileSync(`${path}.1`, "utf8")).toBe("12345678\n");
	appendFileSync(path, "new\n");
	// A reader that was further on than the file is now begins again.
	expect(linesFrom(path, 9).lines).toEqual(["new"]);
});
