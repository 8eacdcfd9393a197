import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { GswarmError } from "../../src/schema/errors.ts";
import { parseRevision } from "../../src/schema/names.ts";
import {
	FILES,
	MODEL,
	manifestOf,
	publishFiles,
	REVISION,
	standStorage,
	writeFiles,
} from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

async function reasonOf(work: Promise<unknown>): Promise<unknown> {
	return work.then(
		() => "no error",
		(error: unknown) => (error instanceof GswarmError ? error.reason : error),
	);
}

const ABOUT = { model: MODEL, revision: REVISION, modelType: "llm", sourceUrl: null, format: "gguf" };

test("a published copy is the staged files, private, with a row and a manifest, and the staging is gone", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const before = storage.inventoryVersion();
	let changes = 0;
	using listener = storage.onChange(() => changes++);
	const copy = await publishFiles(storage);
	expect(copy).toMatchObject({
		model_name: MODEL,
		revision: REVISION,
		tier: "disk",
		status: "ready",
		size_bytes: 12,
	});
	const path = storage.pathOf(copy);
	expect(path).toBe(join(dir.path, "disk/models/acme%2Ftiny/@main-1"));
	expect(readFileSync(join(path, "weights/part-1.bin"), "utf8")).toBe("0123456789");
	expect(statSync(join(path, "weights/part-1.bin")).mode & 0o777).toBe(0o600);
	for (const directory of [path, join(path, "weights"), join(path, ".."), join(dir.path, "disk")]) {
		expect(statSync(directory).mode & 0o777).toBe(0o700);
	}
	expect(storage.manifest(copy.content_id)?.files.map((file) => file.path)).toEqual(
		Object.keys(FILES).sort(),
	);
	expect(storage.copies()).toEqual([copy]);
	expect(storage.copy(MODEL, "disk")).toEqual(copy);
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
	expect(storage.staged()).toEqual([]);
	expect(storage.inventoryVersion()).toBeGreaterThan(before);
	expect(changes).toBeGreaterThan(0);
	expect(listener).toBeDefined();
});

test("publishing the same manifest again is a success, another one at that place is a conflict", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage);
	expect(await publishFiles(storage, { transferId: "download-2" })).toEqual(copy);
	const other = publishFiles(storage, { transferId: "download-3", files: { "config.json": "[]" } });
	expect(await reasonOf(other)).toBe("copy_exists");
	expect(readFileSync(join(storage.pathOf(copy), "config.json"), "utf8")).toBe("{}");
	expect(storage.staged()).toEqual([{ transferId: "download-3", tier: "disk" }]);
	await storage.dropStaging("download-3");
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
});

test("two publications of one copy at once are one copy", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const [one, two] = await Promise.all([
		publishFiles(stand.storage, { transferId: "download-1" }),
		publishFiles(stand.storage, { transferId: "download-2" }),
	]);
	expect(one).toEqual(two);
	expect(stand.storage.copies()).toHaveLength(1);
});

test("two revisions of a model stand beside each other, the newest is the one without a name", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const revision = parseRevision("main-2");
	const first = await publishFiles(stand.storage);
	const second = await publishFiles(stand.storage, { revision, files: { "config.json": "[]" } });
	expect(stand.storage.copy(MODEL, "disk", REVISION)).toEqual(first);
	expect(stand.storage.copy(MODEL, "disk", revision)).toEqual(second);
	expect(stand.storage.copies()).toHaveLength(2);
});

test.each([
	["a file is missing", (path: string) => writeFiles(path, { "config.json": "{}" })],
	["a file is longer than it says", (path: string) => writeFiles(path, { ...FILES, "config.json": "{} " })],
	["a file is there that nobody verified", (path: string) => writeFiles(path, { ...FILES, more: "" })],
	[
		"a file is a link",
		(path: string) => {
			writeFiles(path, { "weights/part-1.bin": "0123456789" });
			// As long as the file it stands for.
			symlinkSync("..", join(path, "config.json"));
		},
	],
])("nothing is published when %s", async (_title, stage) => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	stage(await storage.openStaging("disk", "download-1"));
	const publishing = storage.publish({
		tier: "disk",
		transferId: "download-1",
		manifest: manifestOf(FILES),
		...ABOUT,
	});
	expect(await reasonOf(publishing)).toBe("staging_differs");
	expect(storage.copies()).toEqual([]);
	expect(readdirSync(join(dir.path, "disk/models"))).toEqual([]);
});

test.each([
	["climbs out of the model", { "../../../escaped": "x" }, "unsafe_filename"],
	["is absolute", { "/tmp/escaped": "x" }, "unsafe_filename"],
	["is one of ours", { ".gswarm-store": "x" }, "unsafe_filename"],
	["differs from another in letter case only", { "a.bin": "x", "A.bin": "y" }, "bad_manifest"],
	["lies below another file", { a: "x", "a/b": "y" }, "bad_manifest"],
])("a manifest is refused whose path %s", async (_title, files, reason) => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	await stand.storage.openStaging("disk", "download-1");
	const manifest = manifestOf(files);
	const publish = async () =>
		stand.storage.publish({ tier: "disk", transferId: "download-1", manifest, ...ABOUT });
	expect(await reasonOf(publish())).toBe(reason);
});

test.each([
	["its total is not the sum", { total_bytes: 13 }],
	["it has no files", { files: [], total_bytes: 0 }],
	[
		"a file lacks a part's digest",
		{ files: manifestOf(FILES).files.map((file) => ({ ...file, xxh64: [] })) },
	],
	[
		"a part size is its own idea",
		{ files: manifestOf(FILES).files.map((file) => ({ ...file, part_size_bytes: 5 })) },
	],
])("a manifest is refused when %s", async (_title, change) => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	writeFiles(await stand.storage.openStaging("disk", "download-1"), FILES);
	const manifest = { ...manifestOf(FILES), ...change };
	const publish = async () =>
		stand.storage.publish({ tier: "disk", transferId: "download-1", manifest, ...ABOUT });
	expect(await reasonOf(publish())).toBe("bad_manifest");
});

test("a directory that no row knows makes way for the copy that is published there", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const path = join(dir.path, "disk/models/acme%2Ftiny/@main-1");
	writeFiles(path, { "old.bin": "old" });
	const copy = await publishFiles(stand.storage);
	expect(stand.storage.pathOf(copy)).toBe(path);
	expect(existsSync(join(path, "old.bin"))).toBe(false);
});

test("a transfer id that is no task id never becomes a path", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const open = async () => stand.storage.openStaging("disk", "download-../../up");
	expect(await reasonOf(open())).toBe("bad_task_id");
	expect(await reasonOf((async () => stand.storage.openStaging("gpu0", "download-1"))())).toBe(
		"device_not_found",
	);
});
