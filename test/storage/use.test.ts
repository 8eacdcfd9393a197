import { expect, setDefaultTimeout, test } from "bun:test";
import type { CopyUse } from "../../src/core/storage/storage.ts";
import { MODEL, publishFiles, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

test("a use is seen at once, told to who listens, no change of the inventory, and kept over a restart", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage);
	expect(copy).toMatchObject({ last_used_at: null, pinned: false, purpose: "asked" });
	const version = stand.storage.inventoryVersion();
	const heard: [string, CopyUse][] = [];
	using listening = stand.storage.onUse(({ model_name }, use) => void heard.push([model_name, use]));
	void listening;
	const before = Date.now() / 1000;
	stand.storage.touch(copy, "serve");
	const used = stand.storage.copy(MODEL, "disk")?.last_used_at ?? 0;
	expect(used).toBeGreaterThanOrEqual(before);
	expect(heard).toEqual([[MODEL, "serve"]]);
	expect(stand.storage.inventoryVersion()).toBe(version);
	await stand.restart();
	expect(stand.storage.copy(MODEL, "disk")?.last_used_at).toBe(used);
});

test("a hold with a use is a use when it begins and when it ends; one without is none", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	const heard: CopyUse[] = [];
	using listening = stand.storage.onUse((_, use) => void heard.push(use));
	void listening;
	stand.storage.hold(MODEL, REVISION, "disk", "verification")[Symbol.dispose]();
	expect(heard).toEqual([]);
	const hold = stand.storage.hold(MODEL, REVISION, "disk", "being exported", "read");
	hold[Symbol.dispose]();
	hold[Symbol.dispose]();
	expect(heard).toEqual(["read", "read"]);
});

test("a touch of what has gone is nothing", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage);
	await stand.storage.remove(MODEL, REVISION, "disk");
	stand.storage.touch(copy, "read");
	expect(stand.storage.copies()).toEqual([]);
});

test("a pin is of the inventory, survives a restart, and a use beside it", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage);
	const version = stand.storage.inventoryVersion();
	expect(await stand.storage.pin(MODEL, REVISION, "disk", true)).toMatchObject({ pinned: true });
	expect(stand.storage.inventoryVersion()).toBeGreaterThan(version);
	stand.storage.touch(copy, "read");
	await stand.restart();
	expect(stand.storage.copy(MODEL, "disk")).toMatchObject({ pinned: true });
	expect(await stand.storage.pin(MODEL, REVISION, "disk", false)).toMatchObject({ pinned: false });
	const missing = stand.storage.pin(MODEL, REVISION, "dram", true).catch((error: unknown) => error);
	expect(await missing).toMatchObject({ code: "MODEL_NOT_FOUND" });
});

test("what a forecast brought says so until it is used", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage, { purpose: "preload" });
	expect(copy.purpose).toBe("preload");
	await stand.restart();
	expect(stand.storage.copy(MODEL, "disk")?.purpose).toBe("preload");
	stand.storage.touch(copy, "serve");
	await stand.restart();
	expect(stand.storage.copy(MODEL, "disk")?.purpose).toBe("asked");
});
