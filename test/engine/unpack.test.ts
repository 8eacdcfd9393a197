import { describe, expect, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeAssets } from "../../scripts/engine-assets.ts";
import type { Pack } from "../../src/core/service/engines/llama/unpack.ts";
import { unpackLibraries } from "../../src/core/service/engines/llama/unpack.ts";
import { tempDir } from "../support/temp-dir.ts";

const FILES = { "bins/linux-x64/libggml.so": "a".repeat(50_000), "llama/release.json": "{}" };

/** Assets as the build makes them; the module text is read back the way a bundle would. */
async function packIn(dir: string): Promise<Pack> {
	const sources = Object.entries(FILES).map(([path, content], index) => {
		const from = join(dir, `source-${index}`);
		writeFileSync(from, content);
		return { path, from };
	});
	const { librariesModule } = await makeAssets(sources, join(dir, "assets"), "1.2.3");
	writeFileSync(join(dir, "libraries.ts"), librariesModule);
	const module = (await import(join(dir, "libraries.ts"))) as { engineLibraries: Pack };
	return module.engineLibraries;
}

describe("the engine's libraries", () => {
	test("are unpacked whole into a private directory named by version and content", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		const target = await unpackLibraries(pack, join(dir.path, "cache"));
		expect(target).toBe(join(dir.path, `cache/engine-1.2.3-${pack.hash}`));
		for (const [path, content] of Object.entries(FILES))
			expect(readFileSync(join(target, path), "utf8")).toBe(content);
		expect(statSync(target).mode & 0o777).toBe(0o700);
		expect(statSync(join(target, "llama/release.json")).mode & 0o777).toBe(0o600);
	});

	test("are unpacked once by engines that start together, and nothing is left over", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		const cache = join(dir.path, "cache");
		const targets = await Promise.all(Array.from({ length: 6 }, () => unpackLibraries(pack, cache)));
		expect(new Set(targets).size).toBe(1);
		expect(readdirSync(cache)).toEqual([`engine-1.2.3-${pack.hash}`]);
	});

	test("are not written again when they are whole", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		const target = await unpackLibraries(pack, dir.path);
		const before = statSync(target).ino;
		await unpackLibraries(pack, dir.path);
		expect(statSync(target).ino).toBe(before);
	});

	test("are written again when a file is cut or missing", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		const target = await unpackLibraries(pack, dir.path);
		const library = join(target, "bins/linux-x64/libggml.so");
		truncateSync(library, 100);
		await unpackLibraries(pack, dir.path);
		expect(readFileSync(library, "utf8")).toBe(FILES["bins/linux-x64/libggml.so"]);
		expect(readdirSync(dir.path).filter((name) => name.startsWith("engine-"))).toHaveLength(1);
	});

	test("that cannot be written are refused with the directory", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		writeFileSync(join(dir.path, "file"), "");
		const failure = await unpackLibraries(pack, join(dir.path, "file/cache")).catch(String);
		expect(failure).toMatch(/cannot be unpacked to .*file\/cache/);
	});

	test("are not loaded from a directory that others can write to", async () => {
		using dir = tempDir();
		const pack = await packIn(dir.path);
		const target = await unpackLibraries(pack, dir.path);
		for (const directory of [target, dir.path]) {
			chmodSync(directory, 0o777);
			const failure = await unpackLibraries(pack, dir.path).catch(String);
			expect(failure).toContain("writable by others");
			chmodSync(directory, 0o700);
		}
	});

	test("are compressed again only when they change", async () => {
		using dir = tempDir();
		await packIn(dir.path);
		const assets = join(dir.path, "assets");
		const [first = ""] = readdirSync(assets);
		const before = statSync(join(assets, first)).mtimeMs;
		await packIn(dir.path);
		expect(statSync(join(assets, first)).mtimeMs).toBe(before);
	});
});
