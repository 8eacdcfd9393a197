import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { GswarmError } from "../../src/schema/errors.ts";
import { parseRevision } from "../../src/schema/names.ts";
import { MODEL, publishFiles, REVISION, standStorage, storageThatStopsAt } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

test("a removed copy is gone with its bytes, its manifest and its empty directory, and says how many bytes", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage);
	const version = storage.inventoryVersion();
	expect(await storage.remove(MODEL, REVISION, "disk")).toEqual({ freedBytes: 12 });
	expect(storage.copies()).toEqual([]);
	expect(storage.manifest(copy.content_id)).toBeUndefined();
	expect(readdirSync(join(dir.path, "disk/models"))).toEqual([]);
	expect(readdirSync(join(dir.path, "disk/trash"))).toEqual([]);
	expect(storage.inventoryVersion()).toBeGreaterThan(version);
	expect(storage.usage("disk").used).toBe(0);
});

test("removing one tier's copy leaves the other tier's and their common manifest", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage);
	await publishFiles(storage, { tier: "dram", transferId: "copy-1" });
	await storage.remove(MODEL, REVISION, "dram");
	expect(storage.copies()).toEqual([copy]);
	expect(storage.manifest(copy.content_id)).toBeDefined();
	expect(existsSync(storage.pathOf(copy))).toBe(true);
});

test("what is not there cannot be removed: 404 with model and device", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	const missing = stand.storage.remove(MODEL, parseRevision("other"), "disk");
	const error = await missing.catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ code: "MODEL_NOT_FOUND", details: { device: "disk" } });
});

test("a copy in use is not removed, the refusal names every holder; after the last one it goes", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage);
	const service = storage.hold(MODEL, REVISION, "disk", "service llama-1");
	const reader = storage.hold(MODEL, REVISION, "disk", "copy to node2");
	const refused = await storage.remove(MODEL, REVISION, "disk").catch((error: unknown) => error);
	expect(refused).toBeInstanceOf(GswarmError);
	expect(refused).toMatchObject({ code: "CONFLICT", details: { reason: "in_use" } });
	expect((refused as GswarmError).message).toContain("service llama-1, copy to node2");
	service[Symbol.dispose]();
	// A second release of the same hold is not the release of another one.
	service[Symbol.dispose]();
	expect(await storage.remove(MODEL, REVISION, "disk").catch(() => "refused")).toBe("refused");
	expect(storage.copies()).toEqual([copy]);
	reader[Symbol.dispose]();
	expect(await storage.remove(MODEL, REVISION, "disk")).toEqual({ freedBytes: 12 });
});

test("nobody takes a hold on a copy whose removal has begun, even before its first commit", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	const { storage, stopped } = await storageThatStopsAt(stand, dir.path, "setState");
	void storage.remove(MODEL, REVISION, "disk");
	await until("the removal waits for its first commit", stopped);
	expect(() => storage.hold(MODEL, REVISION, "disk", "service llama-1")).toThrow("There is no model");
	expect(storage.copies()).toEqual([]);
});
