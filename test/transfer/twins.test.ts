import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../../src/platform/hash.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { type FaultySource, faultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL, publishFiles } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const BIG = someBytes(2 * PART + 999, 1);
const SMALL = someBytes(70_000, 2);
const NEW = someBytes(90_000, 3);
const ONE = parseRevision("one");
const TWO = parseRevision("two");
const OTHER = parseModelName("acme/other");
const first = { "model.gguf": BIG, "tokenizer.bin": SMALL, "config.json": someBytes(10, 4) };
const second = {
	"sub/weights.gguf": BIG,
	"tokenizer.bin": SMALL,
	"more.bin": NEW,
	"config.json": someBytes(10, 4),
};

async function bring(
	held: TransferStand,
	files: Record<string, Uint8Array>,
	more: { model?: typeof MODEL; revision?: typeof ONE; transferId?: string; tier?: string } = {},
): Promise<{ copy: ModelCopy; source: FaultySource }> {
	const source = faultySource(files);
	const copy = await held.run({ source, revision: ONE, ...more });
	return { copy, source };
}

const inode = (held: TransferStand, copy: ModelCopy, path: string): number =>
	statSync(join(held.stand.storage.pathOf(copy), path)).ino;
const used = (held: TransferStand, tier = "disk"): number => held.stand.storage.usage(tier).used;

/** What files take on the disk, each once however many names it has. */
function bytesBelow(root: string): number {
	const inodes = new Map<number, number>();
	for (const path of readdirSync(root, { recursive: true }) as string[]) {
		const info = lstatSync(join(root, path));
		if (info.isFile()) inodes.set(info.ino, info.blocks * 512);
	}
	return [...inodes.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function damage(path: string, at: number): void {
	const fd = openSync(path, "r+");
	writeSync(fd, Uint8Array.of(readFileSync(path)[at] === 7 ? 8 : 7), 0, 1, at);
	closeSync(fd);
}

test("what another copy on the tier has is not fetched, is stored once, and goes with the last name", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { storage } = held.stand;
	const { copy: one } = await bring(held, first);
	const before = used(held);
	const onDisk = bytesBelow(dir.path);
	const { copy: two, source } = await bring(held, second, { revision: TWO, transferId: "download-2" });
	expect(new Set(source.reads.map(({ path }) => path))).toEqual(new Set(["more.bin", "config.json"]));
	expect(inode(held, two, "sub/weights.gguf")).toBe(inode(held, one, "model.gguf"));
	expect(sha256Hex(readFileSync(join(storage.pathOf(two), "sub/weights.gguf")))).toBe(sha256Hex(BIG));
	expect(used(held)).toBe(before + NEW.length + 10);
	expect(bytesBelow(dir.path) - onDisk).toBeLessThan(PART);
	expect(storage.bytesAlone(two)).toBe(NEW.length + 10);
	const { copy: third } = await bring(held, second, { model: OTHER, transferId: "download-3" });
	expect(storage.bytesAlone(third)).toBe(10);

	await held.restart();
	expect(used(held)).toBe(before + NEW.length + 20);
	expect(await held.stand.storage.remove(MODEL, ONE, "disk")).toEqual({ freedBytes: 10 });
	expect(used(held)).toBe(BIG.length + SMALL.length + NEW.length + 20);
	expect(await held.stand.storage.remove(OTHER, ONE, "disk")).toEqual({ freedBytes: 10 });
	expect(await held.stand.storage.remove(MODEL, TWO, "disk")).toEqual({
		freedBytes: BIG.length + SMALL.length + NEW.length + 10,
	});
	expect(used(held)).toBe(0);
});

test("another tier keeps its own bytes", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	await bring(held, first);
	const { source } = await bring(held, first, { transferId: "download-2", tier: "dram" });
	expect(new Set(source.reads.map(({ path }) => path))).toEqual(new Set(Object.keys(first)));
});

test("a twin that is damaged is not taken: the file is fetched, and the damaged copy stays as it is", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { copy: one } = await bring(held, first);
	const place = join(held.stand.storage.pathOf(one), "model.gguf");
	damage(place, PART + 7);
	const { copy: two } = await bring(held, second, { revision: TWO, transferId: "download-2" });
	expect(sha256Hex(readFileSync(join(held.stand.storage.pathOf(two), "sub/weights.gguf")))).toBe(
		sha256Hex(BIG),
	);
	expect(inode(held, two, "sub/weights.gguf")).not.toBe(inode(held, one, "model.gguf"));
	expect(sha256Hex(readFileSync(place))).not.toBe(sha256Hex(BIG));
	// What is not damaged is shared all the same.
	expect(inode(held, two, "tokenizer.bin")).toBe(inode(held, one, "tokenizer.bin"));
});

test("damage in a file that copies share takes all of them out of use", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { copy: one } = await bring(held, first);
	const { copy: two } = await bring(held, second, { revision: TWO, transferId: "download-2" });
	const alone = { "own.bin": NEW };
	const { copy: three } = await bring(held, alone, { model: OTHER, transferId: "download-3" });
	damage(join(held.stand.storage.pathOf(two), "tokenizer.bin"), 5);
	const report = await held.stand.storage.verify(two, {}, new AbortController().signal);
	expect(report.damaged.map(({ path }) => path)).toEqual(["tokenizer.bin"]);
	const status = (copy: ModelCopy) =>
		held.stand.storage.copies().find((it) => it.content_id === copy.content_id)?.status;
	expect([status(one), status(two), status(three)]).toEqual(["unavailable", "unavailable", "ready"]);
	// Of a copy that is out of use nothing is taken.
	const { source } = await bring(held, second, { model: OTHER, revision: TWO, transferId: "download-4" });
	expect(source.reads.some(({ path }) => path === "tokenizer.bin")).toBe(true);
});

test("what nobody knew the digest of before it came is found to be there at the end", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { storage } = held.stand;
	const one = await publishFiles(storage, { files: first });
	const two = await publishFiles(storage, { files: second, revision: TWO, transferId: "download-2" });
	expect(inode(held, two, "sub/weights.gguf")).toBe(inode(held, one, "model.gguf"));
	expect(used(held)).toBe(BIG.length + SMALL.length + NEW.length + 20);
	damage(join(storage.pathOf(one), "model.gguf"), 3);
	const three = await publishFiles(storage, { files: first, model: OTHER, transferId: "download-3" });
	expect(inode(held, three, "model.gguf")).not.toBe(inode(held, one, "model.gguf"));
	expect(sha256Hex(readFileSync(join(storage.pathOf(three), "model.gguf")))).toBe(sha256Hex(BIG));
});

test("a transfer that is stopped in between goes on, and writes to nobody else's bytes", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { copy: one } = await bring(held, first);
	const stop = new AbortController();
	const source = faultySource(second, {
		onBlock(path) {
			if (path === "more.bin") stop.abort(stopping());
		},
	});
	const run = held.run({ source, revision: TWO, transferId: "download-2", signal: stop.signal });
	expect(await run.catch((error: unknown) => error)).toMatchObject({ reason: "stopping" });
	const staged = join(held.stand.storage.stagingPath("disk", "download-2"), "sub/weights.gguf");
	expect(statSync(staged).nlink).toBe(2);
	// After another boot its parts are read again, and one of them is not right any more.
	const place = (copy: ModelCopy, path: string): string => join(held.stand.storage.pathOf(copy), path);
	damage(place(one, "model.gguf"), PART + 1);
	const damaged = sha256Hex(readFileSync(place(one, "model.gguf")));
	await held.restart({ bootId: "boot-2" });
	const again = await held.run({ source: faultySource(second), revision: TWO, transferId: "download-2" });
	expect(sha256Hex(readFileSync(place(one, "model.gguf")))).toBe(damaged);
	expect(sha256Hex(readFileSync(place(again, "sub/weights.gguf")))).toBe(sha256Hex(BIG));
	expect(sha256Hex(readFileSync(place(again, "more.bin")))).toBe(sha256Hex(NEW));
});

function stopping(): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", "Stopping.", { reason: "stopping", retryable: true });
}
