import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, statSync } from "node:fs";
import { join } from "node:path";
import { checkTree, MANY_FILES, settleTree } from "../../src/core/storage/staged-tree.ts";
import { syncFilesystem } from "../../src/platform/sync-filesystem.ts";
import { manifestOf, writeFiles } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

function manyFiles(count: number): Record<string, string> {
	return Object.fromEntries(Array.from({ length: count }, (_, at) => [`d${at % 7}/f${at}`, `content ${at}`]));
}

test("many files reach the device by one sync of their filesystem, few by one each", async () => {
	for (const [count, durable, wanted] of [
		[MANY_FILES, true, 1],
		[MANY_FILES - 1, true, 0],
		[MANY_FILES, false, 0],
	] as const) {
		using dir = tempDir();
		const files = manyFiles(count);
		writeFiles(dir.path, files);
		chmodSync(join(dir.path, "d1/f1"), 0o644);
		const synced: string[] = [];
		const syncs = (directory: string): Promise<boolean> => {
			synced.push(directory);
			return Promise.resolve(true);
		};
		await settleTree(dir.path, await checkTree(dir.path, manifestOf(files)), {
			durable,
			syncFilesystem: syncs,
		});
		expect(synced).toEqual(Array.from({ length: wanted }, () => dir.path));
		expect(statSync(join(dir.path, "d1/f1")).mode & 0o777).toBe(0o600);
		expect(statSync(join(dir.path, "d1")).mode & 0o777).toBe(0o700);
	}
});

test("a filesystem that cannot be synced as a whole fails the publication, or is synced file by file", async () => {
	using dir = tempDir();
	const files = manyFiles(MANY_FILES);
	writeFiles(dir.path, files);
	const tree = await checkTree(dir.path, manifestOf(files));
	await settleTree(dir.path, tree, { durable: true, syncFilesystem: () => Promise.resolve(false) });
	const broken = settleTree(dir.path, tree, {
		durable: true,
		syncFilesystem: () => Promise.reject(Object.assign(new Error("syncfs failed"), { code: "EIO" })),
	});
	expect(await broken.catch((error: Error) => error.message)).toBe("syncfs failed");
});

test("syncfs is found on this system, and wants a directory", () => {
	using dir = tempDir();
	expect(syncFilesystem(dir.path)).toBe(true);
	expect(() => syncFilesystem(join(dir.path, "missing"))).toThrow("ENOENT");
});
