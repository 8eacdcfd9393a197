import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { matchesPattern } from "../../src/core/source/fnmatch.ts";
import { chooseFiles, type FileChoice, quantisationOf } from "../../src/core/source/hub-files.ts";
import { GswarmError } from "../../src/schema/errors.ts";

const files = (...paths: string[]) =>
	paths.map((path, index) => ({ path, sizeBytes: (index + 1) * 1_000_000_000 }));
const chosen = (paths: string[], choice: FileChoice = {}) =>
	chooseFiles(files(...paths), choice).map(({ path }) => path);
const refused = (paths: string[], choice: FileChoice = {}): GswarmError => {
	try {
		chosen(paths, choice);
	} catch (error) {
		if (error instanceof GswarmError) return error;
		throw error;
	}
	throw new Error("the choice was accepted");
};

describe("a repository with safetensors", () => {
	const PATHS = [
		"README.md",
		"config.json",
		"model-00001-of-00002.safetensors",
		"model-00002-of-00002.safetensors",
		"original/consolidated.00.pth",
		"original/params.json",
		"pytorch_model.bin",
		"tf_model.h5",
		"flax_model.msgpack",
		"onnx/model.onnx",
		"onnx/config.json",
		"tiny-q8_0.gguf",
	];

	test("leaves other formats of the same weights out", () => {
		expect(chosen(PATHS)).toEqual([
			"README.md",
			"config.json",
			"model-00001-of-00002.safetensors",
			"model-00002-of-00002.safetensors",
			"onnx/config.json",
		]);
	});

	test("comes whole with all files", () => {
		expect(chosen(PATHS, { allFiles: true })).toEqual(PATHS);
	});

	test("gives what is included, though it is left out by default, minus what is excluded", () => {
		expect(chosen(PATHS, { include: ["*.bin", "onnx/"] })).toEqual([
			"pytorch_model.bin",
			"onnx/model.onnx",
			"onnx/config.json",
		]);
		expect(chosen(PATHS, { include: ["onnx/*"], exclude: ["*.json"] })).toEqual(["onnx/model.onnx"]);
		expect(chosen(PATHS, { exclude: ["README*", "onnx/*", "model-00002*"] })).toEqual([
			"config.json",
			"model-00001-of-00002.safetensors",
		]);
	});

	test("refuses patterns that nothing matches", () => {
		expect(refused(PATHS, { include: ["*.gguff"] })).toMatchObject({ status: 400, reason: "no_files_match" });
	});

	test("gives one file alone, and says when it is not there", () => {
		expect(chosen(PATHS, { path: "pytorch_model.bin" })).toEqual(["pytorch_model.bin"]);
		expect(refused(PATHS, { path: "nothing.bin" })).toMatchObject({
			code: "TASK_FAILED",
			reason: "not_found",
		});
	});
});

describe("a repository without safetensors", () => {
	test("comes with its other weights", () => {
		expect(chosen(["config.json", "pytorch_model.bin"])).toEqual(["config.json", "pytorch_model.bin"]);
	});
});

describe("a GGUF repository", () => {
	const PATHS = [
		"README.md",
		"tiny-Q4_K_M.gguf",
		"tiny-Q8_0-00001-of-00002.gguf",
		"tiny-Q8_0-00002-of-00002.gguf",
		"mmproj-F16.gguf",
		"imatrix.gguf",
		"config.json",
	];

	test("with several quantisations is refused with their sizes, a split set counting as one", () => {
		const error = refused(PATHS);
		expect([error.status, error.reason]).toEqual([400, "ambiguous_quantisation"]);
		expect(error.message).toContain("Q4_K_M (2.0 GB), Q8_0 (7.0 GB)");
		expect(error.details.quantisations).toEqual({ Q4_K_M: 2_000_000_000, Q8_0: 7_000_000_000 });
		expect(error.hint).toContain(":Q4_K_M");
	});

	test("gives the quantisation that was chosen, in any case, with what is no weights", () => {
		expect(chosen(PATHS, { quantisation: "q8_0" })).toEqual([
			"README.md",
			"tiny-Q8_0-00001-of-00002.gguf",
			"tiny-Q8_0-00002-of-00002.gguf",
			"config.json",
		]);
	});

	test("refuses a quantisation it does not have and lists those it has", () => {
		const error = refused(PATHS, { quantisation: "Q2_K" });
		expect([error.status, error.reason]).toEqual([400, "unknown_quantisation"]);
		expect(error.message).toContain("Q4_K_M");
		expect(refused(["model.safetensors"], { quantisation: "Q2_K" }).message).toContain("no GGUF files");
	});

	test("with one quantisation needs no choice", () => {
		expect(chosen(["tiny-Q4_K_M.gguf", "mmproj-F16.gguf", "README.md"])).toEqual([
			"tiny-Q4_K_M.gguf",
			"README.md",
		]);
		expect(chosen(["tiny-00001-of-00002.gguf", "tiny-00002-of-00002.gguf"]).length).toBe(2);
	});

	test("comes whole with all files or an include", () => {
		expect(chosen(PATHS, { allFiles: true })).toEqual(PATHS);
		expect(chosen(PATHS, { include: ["*.gguf"] }).length).toBe(5);
	});
});

test.each([
	["Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"],
	["llama.q4_k_m.gguf", "Q4_K_M"],
	["Qwen-IQ2_XXS.gguf", "IQ2_XXS"],
	["m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"],
	["m-Q4_0_4_4.gguf", "Q4_0_4_4"],
	["m-BF16-00001-of-00004.gguf", "BF16"],
	["gpt-oss-MXFP4.gguf", "MXFP4"],
	["Q6_K/model-00001-of-00003.gguf", "Q6_K"],
	["m-f16.gguf", "F16"],
	["m-TQ1_0.gguf", "TQ1_0"],
	["plain.gguf", undefined],
	["Q-model.gguf", undefined],
])("the quantisation of %s is %s", (path, quantisation) => {
	expect(quantisationOf(path)).toBe(quantisation as string);
});

describe("patterns", () => {
	test.each([
		["*.json", "config.json", true],
		["*.json", "onnx/config.json", true],
		["onnx/*", "onnx/a/b", true],
		["onnx/", "onnx/a/b", true],
		["onnx", "onnx/a", false],
		["model-0000?-of-*", "model-00001-of-00002.safetensors", true],
		["model-0000?-of-*", "model-00011-of-00002.safetensors", false],
		["[a-c]*.txt", "b.txt", true],
		["[!a-c]*.txt", "b.txt", false],
		["[]x]", "]", true],
		["a[", "a[", true],
		["a.b", "aXb", false],
		["", "", true],
		["*", "", true],
		["?", "", false],
		["*a*b*c", "xxaxxbxxc", true],
		["*a*b*c", "xxaxxcxxb", false],
	])("%j on %j is %p", (pattern, path, matches) => {
		expect(matchesPattern(path, pattern)).toBe(matches);
	});

	test("a pattern that makes regular expressions run for ages takes no time", () => {
		expect(matchesPattern("a".repeat(1000), `${"*a".repeat(40)}b`)).toBe(false);
	});

	test("a path matches itself when nothing in it is special, and itself with any piece starred", () => {
		const path = fc.string({ unit: fc.constantFrom(..."abc/._-".split("")), maxLength: 30 });
		fc.assert(
			fc.property(path, fc.nat(30), fc.nat(30), (text, from, length) => {
				expect(matchesPattern(text, text.endsWith("/") ? `${text}*` : text)).toBe(true);
				const starred = `${text.slice(0, from)}*${text.slice(from + length)}`;
				if (!starred.endsWith("/")) expect(matchesPattern(text, starred)).toBe(true);
			}),
		);
	});
});
