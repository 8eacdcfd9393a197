import { expect, setDefaultTimeout, test } from "bun:test";
import {
	chmodSync,
	chownSync,
	existsSync,
	readdirSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	truncateSync,
} from "node:fs";
import { join } from "node:path";
import { storageModule } from "../../src/core/storage/storage.ts";
import {
	FILES,
	MODEL,
	publishFiles,
	REVISION,
	standStorage,
	storageThatStopsAt,
	writeFiles,
} from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const COPY_PATH = "disk/models/acme%2Ftiny/@main-1";

test("a crash before the rename leaves no copy, and the staging stays for the transfer", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, stopped } = await storageThatStopsAt(stand, dir.path, "beginPublish");
	void publishFiles(storage);
	await until("the publication is cut off", stopped);
	await stand.restart();
	expect(stand.storage.copies()).toEqual([]);
	expect(existsSync(join(dir.path, COPY_PATH))).toBe(false);
	expect(stand.storage.staged()).toEqual([{ transferId: "download-1", tier: "disk" }]);
	expect((await publishFiles(stand.storage)).status).toBe("ready");
});

test("a crash between the row and the rename is undone", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, stopped } = await storageThatStopsAt(stand, dir.path, "setState");
	void publishFiles(storage);
	await until("the publication is cut off", stopped);
	// As if the rename had not reached the device.
	renameSync(join(dir.path, COPY_PATH), join(dir.path, "disk/staging/download-1/model"));
	await stand.restart();
	expect(stand.storage.copies()).toEqual([]);
	expect((await publishFiles(stand.storage)).status).toBe("ready");
});

test("a crash after the rename and before the row rolls forward: the copy is ready, its staging gone", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, stopped } = await storageThatStopsAt(stand, dir.path, "setState");
	void publishFiles(storage);
	await until("the publication is cut off", stopped);
	expect(existsSync(join(dir.path, COPY_PATH))).toBe(true);
	await stand.restart();
	expect(stand.storage.copies()).toMatchObject([{ model_name: MODEL, status: "ready", tier: "disk" }]);
	const copy = await publishFiles(stand.storage);
	expect(copy.status).toBe("ready");
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
});

test.each(["setState", "dropCopy"])(
	"a removal cut off at %s is finished at the next start",
	async (operation) => {
		using dir = tempDir();
		await using stand = await standStorage(dir.path);
		await publishFiles(stand.storage);
		const { storage, stopped } = await storageThatStopsAt(stand, dir.path, operation);
		void storage.remove(MODEL, REVISION, "disk");
		await until("the removal is cut off", stopped);
		await stand.restart();
		// Before the first commit nothing was decided yet; after it the copy never comes back.
		expect(stand.storage.copies()).toHaveLength(operation === "setState" ? 1 : 0);
		expect(existsSync(join(dir.path, COPY_PATH))).toBe(operation === "setState");
		expect(readdirSync(join(dir.path, "disk/trash"))).toEqual([]);
	},
);

test("a removal cut off after its first commit is finished at the next start", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage);
	const writes = stand.db.writer(storageModule);
	await writes.setState({ key: { tier: "disk", model: MODEL, revision: REVISION }, state: "removing" });
	await stand.restart();
	expect(stand.storage.copies()).toEqual([]);
	expect(existsSync(join(dir.path, COPY_PATH))).toBe(false);
	expect(stand.storage.manifest(copy.content_id)).toBeUndefined();
});

test("trash and staging that nobody knows are gone after a start, known staging stays", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	writeFiles(await stand.storage.openStaging("disk", "download-known"), { f: "kept" });
	writeFiles(join(dir.path, "disk/staging/download-stray/model"), { f: "x" });
	writeFiles(join(dir.path, "disk/trash/abc"), { f: "x" });
	await stand.restart();
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual(["download-known"]);
	expect(existsSync(join(dir.path, "disk/staging/download-known/model/f"))).toBe(true);
	expect(readdirSync(join(dir.path, "disk/trash"))).toEqual([]);
	expect(stand.storage.staged()).toEqual([{ transferId: "download-known", tier: "disk" }]);
});

test("a row whose directory vanished is dropped, the inventory's version says so", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	const version = stand.storage.inventoryVersion();
	rmSync(join(dir.path, COPY_PATH), { recursive: true });
	await stand.restart();
	expect(stand.storage.copies()).toEqual([]);
	expect(stand.storage.inventoryVersion()).toBeGreaterThan(version);
});

test("a copy whose file lost bytes is not ready after a start", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	truncateSync(join(dir.path, COPY_PATH, "weights/part-1.bin"), 3);
	await stand.restart();
	expect(stand.storage.copies()).toMatchObject([{ status: "unavailable" }]);
});

test("copies on dram are kept over a restart of the agent and go with the boot, files too", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage, { tier: "dram" });
	await publishFiles(stand.storage, { tier: "disk", transferId: "download-2" });
	await stand.storage.openStaging("dram", "copy-staged");
	await stand.restart();
	expect(stand.storage.copies()).toHaveLength(2);
	expect(stand.storage.staged()).toHaveLength(1);
	await stand.restart({ bootId: "boot-2" });
	expect(stand.storage.copies().map((copy) => copy.tier)).toEqual(["disk"]);
	expect(readdirSync(join(dir.path, "dram/staging"))).toEqual([]);
	for (const model of readdirSync(join(dir.path, "dram/models"))) {
		expect(readdirSync(join(dir.path, "dram/models", model))).toEqual([]);
	}
});

test("where the system names no boot, no dram copy survives a restart", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage, { tier: "dram" });
	await stand.restart({ bootId: undefined });
	expect(stand.storage.copies()).toEqual([]);
});

test("a model on disk that no row knows is left where it is", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	writeFiles(join(dir.path, "disk/models/other/@1"), FILES);
	await stand.restart();
	expect(existsSync(join(dir.path, "disk/models/other/@1/config.json"))).toBe(true);
});

test("a disk that is not mounted refuses the start instead of forgetting its models", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	renameSync(join(dir.path, "disk"), join(dir.path, "elsewhere"));
	const refused = await stand.restart().catch((error: unknown) => error);
	expect(refused).toMatchObject({ code: "RESOURCE_UNAVAILABLE", reason: "tier_not_mounted" });
	rmSync(join(dir.path, "disk"), { recursive: true });
	renameSync(join(dir.path, "elsewhere"), join(dir.path, "disk"));
	await stand.restart();
	expect(stand.storage.copies()).toHaveLength(1);
});

test("models of a tier that is not configured are not listed, and are there when it is configured again", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await publishFiles(stand.storage);
	await stand.restart({ tiers: [{ name: "dram", kind: "dram", root: join(dir.path, "dram") }] });
	expect(stand.storage.copies()).toEqual([]);
	await stand.restart();
	expect(stand.storage.copies()).toHaveLength(1);
});

test("a directory where another agent keeps models is refused", async () => {
	using one = tempDir();
	using two = tempDir();
	const tiers = [{ name: "disk", kind: "disk" as const, root: join(one.path, "disk"), floorBytes: 0 }];
	await using stand = await standStorage(one.path, { tiers });
	await publishFiles(stand.storage);
	const refused = await standStorage(two.path, { tiers }).catch((error: unknown) => error);
	expect(refused).toMatchObject({ reason: "tier_not_ours" });
});

test("a root that is open to others is closed, a link on a shared tmpfs is refused", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	chmodSync(join(dir.path, "disk"), 0o755);
	await stand.restart();
	expect(statSync(join(dir.path, "disk")).mode & 0o777).toBe(0o700);
	symlinkSync(join(dir.path, "disk"), join(dir.path, "trap"));
	const tiers = [{ name: "dram", kind: "dram" as const, root: join(dir.path, "trap") }];
	const refused = await stand.restart({ tiers }).catch((error: unknown) => error);
	expect(refused).toMatchObject({ reason: "tier_not_ours" });
	await stand.restart();
});

// Only root can give a directory away.
const asRoot = process.getuid?.() === 0 ? test : test.skip;
asRoot("a root that belongs to another user is refused", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	chownSync(join(dir.path, "dram"), 12345, 12345);
	const refused = await stand.restart().catch((error: unknown) => error);
	expect(refused).toMatchObject({ reason: "tier_not_ours" });
	chownSync(join(dir.path, "dram"), 0, 0);
	await stand.restart();
});
