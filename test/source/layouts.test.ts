import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findModel, findModels } from "../../src/core/source/source.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { hubSnapshot, ollamaModel } from "../support/layouts.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let folder: string;
beforeEach(() => {
	dir = tempDir();
	folder = join(dir.path, "import");
	mkdirSync(folder);
});
afterEach(() => dir[Symbol.dispose]());

const signal = () => new AbortController().signal;
const find = (path: string) => findModels(path, { importDirectories: [folder] }, signal());
const reasonOf = (run: Promise<unknown>): Promise<string | undefined> =>
	run.then(
		() => "accepted",
		(error: unknown) => asGswarmError(error).reason,
	);
const weights = (letter: string): string => letter.repeat(5000);

describe("a Hugging Face cache", () => {
	test("has a model per snapshot, each with its commit, and of a repository main comes last", async () => {
		const cache = join(folder, "hub");
		hubSnapshot(cache, "acme/tiny", "b", { "config.json": "{}", "model.safetensors": weights("b") });
		hubSnapshot(cache, "acme/tiny", "a", { "sub/model.safetensors": weights("a") }, ["v1"]);
		hubSnapshot(cache, "gpt2", "c", { "model.safetensors": weights("c") });
		mkdirSync(join(cache, "datasets--acme--words/snapshots"), { recursive: true });
		const found = await find(cache);
		expect(found.map((one) => [one.modelName as string, one.revision?.[0], one.refs])).toEqual([
			["acme/tiny", "a", ["v1"]],
			["acme/tiny", "b", ["main"]],
			["gpt2", "c", ["main"]],
		]);
		expect(found[1]).toMatchObject({
			kind: "hub",
			problem: undefined,
			sourceUrl: `hf:acme/tiny@${"b".repeat(40)}`,
		});
		const files = found[1]?.files.map((file) => [String(file.path), file.sizeBytes, file.digest?.algorithm]);
		expect(files).toEqual([
			["config.json", 2, "git-sha1"],
			["model.safetensors", 5000, "sha256"],
		]);
		expect(found[1]?.files[1]?.realPath).toStartWith(join(cache, "models--acme--tiny/blobs/"));
		// HF_HOME, a repository and a snapshot are named as well as the cache.
		expect(await find(folder)).toEqual(found);
		expect((await find(join(cache, "models--acme--tiny"))).length).toBe(2);
		expect((await findModel(found[1]?.path ?? "", { importDirectories: [folder] }, signal())).path).toBe(
			found[1]?.path ?? "",
		);
	});

	test("with a link that leads anywhere but to a blob of its repository gives up that snapshot alone", async () => {
		const cache = join(folder, "hub");
		const good = hubSnapshot(cache, "acme/good", "a", { "model.safetensors": weights("a") });
		writeFileSync(join(dir.path, "secret"), "secret");
		const targets = [
			join(dir.path, "secret"),
			"../../../../../secret",
			"../../blobs/../../../../secret",
			"../../../models--acme--good/blobs/x",
			"../../snapshots",
			"../../blobs/missing",
		];
		for (const [at, target] of targets.entries()) {
			const snapshot = hubSnapshot(cache, `acme/bad${at}`, "b", { "model.safetensors": weights("b") });
			symlinkSync(target, join(snapshot, "tokenizer.json"));
		}
		// A blob that is itself a link is none.
		const snapshot = hubSnapshot(cache, "acme/twice", "b", {});
		mkdirSync(snapshot, { recursive: true });
		symlinkSync(join(dir.path, "secret"), join(snapshot, "../../blobs/abc"));
		symlinkSync("../../blobs/abc", join(snapshot, "tokenizer.json"));
		const found = await find(cache);
		expect(found.length).toBe(targets.length + 2);
		expect(found.filter((one) => one.problem === undefined).map((one) => one.path)).toEqual([good]);
		expect(found.every((one) => one.problem === undefined || one.files.length === 0)).toBe(true);
	});
});

describe("an Ollama store", () => {
	test("has a model per manifest, by its name and tag, with the files of its layers", async () => {
		const store = join(folder, "ollama");
		ollamaModel(store, "tiny", "8b", { model: weights("m"), template: "{{ .Prompt }}", params: "{}" });
		ollamaModel(store, "tiny", "latest", { model: weights("m") });
		const found = await find(store);
		expect(found.map((one) => [one.modelName as string, one.sourceUrl, one.problem])).toEqual([
			["tiny-8b", "ollama:tiny:8b", undefined],
			["tiny", "ollama:tiny", undefined],
		]);
		expect(found[0]?.files.map((file) => file.path as string).sort()).toEqual([
			"ollama-config.json",
			"params.json",
			"template",
			"tiny.gguf",
		]);
		expect(found[0]?.revision as string).toMatch(/^sha256-[0-9a-f]{64}$/);
		expect((await find(found[1]?.path ?? "")).map((one) => one.sourceUrl)).toEqual(["ollama:tiny"]);
	});

	test("tells of a blob that is missing, of the wrong size or a link, and of what is no model", async () => {
		const store = join(folder, "ollama");
		const blob = async (tag: string): Promise<string> => {
			const manifest = await Bun.file(ollamaModel(store, "bad", tag, { model: weights(tag) })).json();
			return join(store, "blobs", manifest.layers[0].digest.replace(":", "-"));
		};
		rmSync(await blob("1"));
		writeFileSync(await blob("2"), "short");
		const third = await blob("3");
		unlinkSync(third);
		symlinkSync("/etc/passwd", third);
		ollamaModel(store, "bad", "4", { "application/vnd.oci.image.layer.v1.tar+gzip": "layer" });
		writeFileSync(join(store, "manifests/registry.ollama.ai/library/bad/5"), "no json");
		const found = await find(store);
		expect(found.map((one) => one.problem !== undefined && one.files.length === 0)).toEqual([
			true,
			true,
			true,
			true,
			true,
		]);
	});
});

test("a folder is one model without its hidden files, and a file one of its own", async () => {
	const model = join(folder, "my model");
	mkdirSync(join(model, ".cache"), { recursive: true });
	mkdirSync(join(model, "sub"));
	writeFileSync(join(model, ".cache/lock"), "");
	writeFileSync(join(model, "config.json"), "{}");
	writeFileSync(join(model, "sub/a.gguf"), "GGUF");
	const [one] = await find(`${model}/`);
	expect(one).toMatchObject({ kind: "folder", modelName: "my-model", revision: undefined, path: model });
	expect(one?.files.map((file) => file.path as string).sort()).toEqual(["config.json", "sub/a.gguf"]);
	const [file] = await find(join(model, "sub/a.gguf"));
	expect(file).toMatchObject({ kind: "file", modelName: "a", problem: undefined });
	expect((await find(join(model, "config.json")))[0]?.problem).toContain(".gguf");
	symlinkSync("/etc/passwd", join(model, "sub/link.bin"));
	expect((await find(model))[0]).toMatchObject({
		files: [],
		problem: expect.stringContaining("sub/link.bin"),
	});
});

test("only what is in an import folder is looked at, and no link leads there", async () => {
	const outside = join(dir.path, "outside");
	mkdirSync(join(outside, "m"), { recursive: true });
	writeFileSync(join(outside, "m/a.gguf"), "GGUF");
	mkdirSync(join(folder, "real"));
	writeFileSync(join(folder, "real/a.gguf"), "GGUF");
	symlinkSync(outside, join(folder, "out"));
	symlinkSync(join(folder, "real"), join(folder, "in"));
	expect(await reasonOf(find(outside))).toBe("scheme_not_allowed");
	expect(await reasonOf(find(join(folder, "../outside/m")))).toBe("scheme_not_allowed");
	expect(await reasonOf(find(`${folder}/../outside/m`))).toBe("outside_import_folder");
	expect(await reasonOf(find("/etc"))).toBe("scheme_not_allowed");
	expect(await reasonOf(find(join(folder, "out/m")))).toBe("outside_import_folder");
	expect(await reasonOf(find(join(folder, "in")))).toBe("symlink_in_path");
	expect(await reasonOf(find(join(folder, "missing")))).toBe("file_not_found");
	expect(await reasonOf(findModels(folder, { importDirectories: [] }, signal()))).toBe("scheme_not_allowed");
	chmodSync(folder, 0o700);
});
