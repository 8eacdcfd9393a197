import { describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { findModelFiles, shardNames } from "../../src/core/service/engines/llama/model-files.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";

describe("the files of a model", () => {
	test("are found in a directory below the one that is named; a projector is not a model", () => {
		using dir = tempDir();
		const folder = join(dir.path, "Q8_0");
		mkdirSync(folder);
		const { sizeBytes } = writeGguf(join(folder, "model.gguf"));
		copyFileSync(join(folder, "model.gguf"), join(folder, "mmproj-model.gguf"));
		expect(findModelFiles(dir.path)).toMatchObject({
			entryPath: join(folder, "model.gguf"),
			paths: [join(folder, "model.gguf")],
			sizeBytes,
		});
	});

	test("of a split model are named by its first file, which alone may be asked for", () => {
		expect(shardNames("m-00001-of-00003.gguf")).toEqual([
			"m-00001-of-00003.gguf",
			"m-00002-of-00003.gguf",
			"m-00003-of-00003.gguf",
		]);
		expect(shardNames("m.gguf")).toEqual(["m.gguf"]);
		using dir = tempDir();
		writeGguf(join(dir.path, "m-00002-of-00002.gguf"));
		expect(() => findModelFiles(join(dir.path, "m-00002-of-00002.gguf"))).toThrow(
			"is not the first file of its model",
		);
	});

	test("must be as many by their names as by their header", () => {
		using dir = tempDir();
		for (const name of shardNames("m-00001-of-00002.gguf")) writeGguf(join(dir.path, name));
		expect(() => findModelFiles(dir.path)).toThrow("one of 1 files by its header, 2 by its name");
	});
});
