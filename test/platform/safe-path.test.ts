import { describe, expect, test } from "bun:test";
import { resolve, sep } from "node:path";
import fc from "fast-check";
import { foldPath, joinSafe, parseSafePath, pathProblem } from "../../src/platform/safe-path.ts";

describe("paths that are refused", () => {
	test.each([
		"",
		".",
		"..",
		"../x",
		"../../.bashrc",
		"a/../../b",
		"a/..",
		"./a",
		"a/./b",
		"/abs",
		"//srv/x",
		"a//b",
		"a/",
		"C:\\x",
		"C:x",
		"\\\\srv\\x",
		"a\\..\\b",
		"a\u0000b",
		"a\nb",
		"a\u007fb",
		"a:stream",
		"what?",
		"*",
		'"',
		"<x>",
		"a|b",
		"con",
		"CON",
		"con.txt",
		"a/nul",
		"aux.tar.gz",
		"COM1",
		"lpt9.x",
		"name.",
		"name ",
		"folder./x",
		"con .txt",
		"CONIN$",
		"conout$.log",
		"com¹",
		".gswarm-manifest.json",
		"a/.gswarm",
		".GSWARM-manifest.json",
		".gsw\u200carm",
		"\u200c",
		"a/.\u00ad./b",
		"a\u0085b",
		"a\u009b31mb",
		"a\u2028b",
		"invoice\u202efdp.exe",
		"a\u2066b",
		"a\ud800b",
		"e\u0301.txt",
		"x".repeat(256),
		"é".repeat(128),
		`${"a/".repeat(32)}a`,
		Array.from({ length: 5 }, () => "x".repeat(250)).join("/"),
	])("%j", (path) => {
		expect(pathProblem(path)).toBeString();
		expect(() => parseSafePath(path)).toThrow(
			expect.objectContaining({ status: 400, reason: "unsafe_filename" }),
		);
	});
});

describe("paths that are fine", () => {
	test.each([
		"config.json",
		"onnx/model.onnx",
		".gitattributes",
		"model-00001-of-00002.safetensors",
		"with space.txt",
		"é.txt",
		"模型/权重.bin",
		"console.log",
		"com10",
		"nulls",
		"..a",
		"a..b",
		"...x",
		"con-fig.json",
		"ab\u200dc",
		"👩‍🚀.bin",
		"x".repeat(255),
		`${"a/".repeat(31)}a`,
	])("%j", (path) => {
		expect(pathProblem(path)).toBeUndefined();
		expect(parseSafePath(path) as string).toBe(path);
	});
});

test("whatever is accepted lies below its directory, and is not the directory itself", () => {
	const piece = fc.constantFrom(
		"..",
		".",
		"a",
		"b c",
		"/",
		"\\",
		"",
		"C:",
		"\u0000",
		"con",
		"é",
		"e\u0301",
		"~",
		"%2e%2e",
	);
	const hostile = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
	fc.assert(
		fc.property(fc.oneof(fc.string(), hostile), (text) => {
			if (pathProblem(text) !== undefined) return;
			const joined = joinSafe("/data/models", parseSafePath(text));
			expect(resolve(joined).startsWith(`/data/models${sep}`)).toBe(true);
			expect(joined).toBe(resolve(joined));
		}),
		{ numRuns: 500 },
	);
});

test.each([
	["Model.bin", "model.BIN"],
	["straße", "STRASSE"],
	["λόγος", "ΛΌΓΟΣ"],
	["ﬁle", "file"],
	["ſet", "set"],
	["\u212aelvin", "kelvin"],
	["zero\u200cwidth", "zerowidth"],
	["soft\u00adhyphen", "softhyphen"],
])("%j and %j are one name where case is folded", (one, other) => {
	expect(foldPath(one)).toBe(foldPath(other));
	expect(foldPath(one)).not.toBe(foldPath(`${other}2`));
});
