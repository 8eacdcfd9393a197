import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSource, type Source, type SourceOptions } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let folder: string;
beforeEach(() => {
	dir = tempDir();
	folder = join(dir.path, "imports");
	mkdirSync(join(folder, "tiny/sub"), { recursive: true });
	writeFileSync(join(folder, "tiny/config.json"), "{}");
	writeFileSync(join(folder, "tiny/sub/weights.bin"), Buffer.alloc(3_000_000, 7));
	writeFileSync(join(folder, "single.gguf"), "0123456789");
	writeFileSync(join(folder, "model.tar"), "tar");
	mkdirSync(join(dir.path, "outside"));
	writeFileSync(join(dir.path, "outside/secret"), "canary");
});
afterEach(() => {
	dir[Symbol.dispose]();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
function open(path: string, options: SourceOptions & { folders?: string[] } = {}): Source {
	const { folders = [folder], ...more } = options;
	return openSource(`file://${path}`, {
		outbound: createOutbound({ clock: systemClock, log: silentLog }, { allow: [] }),
		clock: systemClock,
		importDirectories: folders,
		...more,
	});
}
async function read(source: Source, path: string, range?: { start: number; end: number }): Promise<Buffer> {
	const file = (await source.describe(signal())).files.find((each) => each.path === path);
	if (file === undefined) throw new Error(`no ${path}`);
	return Buffer.from(await new Response(await source.read(file, range, signal())).arrayBuffer());
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => error as Record<string, unknown>,
	);

describe("a folder", () => {
	test("is described with all its files, and read from there", async () => {
		const source = open(`${folder}/tiny`);
		const description = await source.describe(signal());
		expect(description).toMatchObject({
			uri: `file://${folder}/tiny`,
			suggestedName: "tiny",
			totalBytes: 3_000_002,
			archive: undefined,
		});
		expect(
			description.files.map(({ path, sizeBytes, rangeable }) => [path as string, sizeBytes, rangeable]),
		).toEqual([
			["config.json", 2, true],
			["sub/weights.bin", 3_000_000, true],
		]);
		expect((await read(source, "config.json")).toString()).toBe("{}");
		expect((await read(source, "sub/weights.bin")).equals(Buffer.alloc(3_000_000, 7))).toBe(true);
		expect((await read(source, "sub/weights.bin", { start: 1_500_000, end: 1_500_003 })).length).toBe(3);
	});

	test("gives what is included and not what is excluded", async () => {
		const paths = async (options: SourceOptions) =>
			(await open(`${folder}/tiny`, options).describe(signal())).files.map(({ path }) => path as string);
		expect(await paths({ include: ["*.json"] })).toEqual(["config.json"]);
		expect(await paths({ exclude: ["sub/*"] })).toEqual(["config.json"]);
	});

	test("has another revision when a file changes", async () => {
		const revision = async () => (await open(`${folder}/tiny`).describe(signal())).revision as string;
		const before = await revision();
		expect(await revision()).toBe(before);
		utimesSync(join(folder, "tiny/config.json"), new Date(), new Date(Date.UTC(2020, 1, 1)));
		expect(await revision()).not.toBe(before);
	});
});

test("a file is a source of its own, an archive is flagged", async () => {
	const source = open(`${folder}/single.gguf`);
	expect(await source.describe(signal())).toMatchObject({ suggestedName: "single", totalBytes: 10 });
	expect((await read(source, "single.gguf", { start: 2, end: 5 })).toString()).toBe("234");
	expect((await open(`${folder}/model.tar`).describe(signal())).archive).toBe("tar");
});

describe("what is not in an import folder", () => {
	const opened = async (...input: Parameters<typeof open>): Promise<unknown> =>
		open(...input).describe(signal());

	test.each([
		["/etc/passwd", ["/srv/models"]],
		["/etc/passwd", []],
		["/srv/models-other/x", ["/srv/models"]],
		["/", ["/srv/models"]],
	])("%s with folders %j is 400 scheme_not_allowed", async (path, folders) => {
		expect(await failure(opened(path, { folders }))).toMatchObject({
			status: 400,
			reason: "scheme_not_allowed",
		});
	});

	test("is refused in the same words whether it exists or not", async () => {
		const there = await failure(opened(join(dir.path, "outside/secret")));
		const missing = await failure(opened(join(dir.path, "outside/nothing")));
		expect(String(there.message)).toBe(String(missing.message));
	});
});

describe("links", () => {
	test("to files and folders outside are refused, named directly or met on the way", async () => {
		symlinkSync(join(dir.path, "outside/secret"), join(folder, "link"));
		symlinkSync(join(dir.path, "outside"), join(folder, "linked"));
		symlinkSync("../../outside/secret", join(folder, "tiny/link"));
		for (const path of ["link", "linked", "linked/secret", "tiny"]) {
			expect(await failure(open(join(folder, path)).describe(signal()))).toMatchObject({
				status: 403,
				reason: "outside_import_folder",
			});
		}
	});

	test("to folders inside are unsupported_entry, dangling ones not found", async () => {
		symlinkSync("sub", join(folder, "tiny/other"));
		expect(await failure(open(`${folder}/tiny`).describe(signal()))).toMatchObject({
			reason: "unsupported_entry",
		});
		rmSync(join(folder, "tiny/other"));
		symlinkSync("nothing", join(folder, "tiny/other"));
		expect(await failure(open(`${folder}/tiny`).describe(signal()))).toMatchObject({
			reason: "file_not_found",
		});
	});

	test("of a Hugging Face snapshot lead to its blobs, whose names are digests", async () => {
		const sha256 = new Bun.CryptoHasher("sha256").update("weights").digest("hex");
		const sha1 = new Bun.CryptoHasher("sha1").update("blob 2\0{}").digest("hex");
		const cache = join(folder, "hub/models--acme--tiny");
		mkdirSync(join(cache, "blobs"), { recursive: true });
		mkdirSync(join(cache, "snapshots/abc"), { recursive: true });
		writeFileSync(join(cache, "blobs", sha256), "weights");
		writeFileSync(join(cache, "blobs", sha1), "{}");
		symlinkSync(`../../blobs/${sha256}`, join(cache, "snapshots/abc/model.safetensors"));
		symlinkSync(`../../blobs/${sha1}`, join(cache, "snapshots/abc/config.json"));
		const source = open(join(cache, "snapshots/abc"));
		const { files } = await source.describe(signal());
		expect(files.map(({ path, digest }) => [path as string, digest])).toEqual([
			["config.json", { algorithm: "git-sha1", hex: sha1 }],
			["model.safetensors", { algorithm: "sha256", hex: sha256 }],
		]);
		expect((await read(source, "model.safetensors")).toString()).toBe("weights");
	});

	test("put in the place of a described file are not followed", async () => {
		const source = open(`${folder}/tiny`);
		const [file] = (await source.describe(signal())).files;
		if (file === undefined) throw new Error("no file");
		rmSync(join(folder, "tiny/config.json"));
		symlinkSync(join(dir.path, "outside/secret"), join(folder, "tiny/config.json"));
		expect(await failure(source.read(file, undefined, signal()))).toMatchObject({ code: "ELOOP" });
	});

	test("put in the place of a described folder are not followed", async () => {
		const source = open(`${folder}/tiny`);
		const file = (await source.describe(signal())).files.find(({ path }) => path === "sub/weights.bin");
		if (file === undefined) throw new Error("no file");
		rmSync(join(folder, "tiny/sub"), { recursive: true });
		symlinkSync(join(dir.path, "outside"), join(folder, "tiny/sub"));
		writeFileSync(join(dir.path, "outside/weights.bin"), "canary");
		expect(await failure(source.read(file, undefined, signal()))).toMatchObject({ code: "ENOTDIR" });
	});
});

test("a file that changed after its description is source_changed", async () => {
	const source = open(`${folder}/tiny`);
	const [file] = (await source.describe(signal())).files;
	if (file === undefined) throw new Error("no file");
	writeFileSync(join(folder, "tiny/config.json"), "[]longer");
	expect(await failure(source.read(file, undefined, signal()))).toMatchObject({ reason: "source_changed" });
});

test("a fifo is refused and does not hold anything up", async () => {
	await Bun.$`mkfifo ${folder}/tiny/pipe`.quiet();
	expect(await failure(open(`${folder}/tiny`).describe(signal()))).toMatchObject({
		reason: "unsupported_entry",
	});
	expect(await failure(open(`${folder}/tiny/pipe`).describe(signal()))).toMatchObject({
		reason: "unsupported_entry",
	});
});

test("a name that cannot be stored everywhere is refused", async () => {
	writeFileSync(join(folder, "tiny/con"), "");
	expect(await failure(open(`${folder}/tiny`).describe(signal()))).toMatchObject({
		reason: "unsafe_filename",
	});
});
