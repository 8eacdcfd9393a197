import { describe, expect, test } from "bun:test";
import { fileSetProblem, MAX_FILES } from "../../src/core/source/description.ts";

describe("files that cannot stand side by side on every system", () => {
	test.each([
		["the same name", ["a", "a"]],
		["capitals", ["weights/A.bin", "weights/a.bin"]],
		["folders in capitals", ["Weights/a.bin", "weights/a.bin"]],
		["a letter of two forms", ["straße.bin", "STRASSE.bin"]],
		["a final sigma", ["λόγος", "ΛΌΓΟΣ"]],
		["an invisible character", ["model.bin", "mod\u200cel.bin"]],
		["a file where a folder is", ["a", "a/b"]],
		["a file where a folder is in capitals", ["Onnx/model.onnx", "onnx"]],
		["a file where a deep folder is", ["a/b/c", "a/b/c/d"]],
	])("%s", (_what, paths) => {
		expect(fileSetProblem(paths)).toBeString();
		expect(fileSetProblem(paths.toReversed())).toBeString();
	});

	test("names that are merely alike, and the largest number of files, are fine", () => {
		expect(fileSetProblem(["a", "aa", "a.b", "b/a", "b/aa", "ab"])).toBeUndefined();
		expect(fileSetProblem(Array.from({ length: MAX_FILES }, (_, index) => `f${index}`))).toBeUndefined();
		expect(fileSetProblem(Array.from({ length: MAX_FILES + 1 }, (_, index) => `f${index}`))).toBeString();
	});
});
