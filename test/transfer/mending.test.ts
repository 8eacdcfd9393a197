import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mendingSource } from "../../src/core/transfer/transfer.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { type FaultyOptions, faultySource, someBytes } from "../support/faulty-source.ts";
import { REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const BIG = "model.gguf";
const FILES = {
	[BIG]: someBytes(4 * PART + 999, 1),
	"config.json": someBytes(10, 2),
	"empty.txt": new Uint8Array(),
};

/** A published copy with the named bytes flipped, found damaged. */
async function damagedCopy(directory: string, places: readonly [path: string, at: number][]) {
	const held = await standTransfers(directory);
	const { storage } = held.stand;
	const copy = await held.run({ source: faultySource(FILES), revision: REVISION });
	for (const [name, at] of places) {
		const path = join(storage.pathOf(copy), name);
		const bytes = readFileSync(path);
		bytes[at] = (bytes[at] ?? 0) ^ 1;
		writeFileSync(path, bytes);
	}
	const { damaged } = await storage.verify(copy, {}, new AbortController().signal);
	return { held, copy, damaged };
}

async function mend(
	held: TransferStand,
	copy: Awaited<ReturnType<typeof damagedCopy>>["copy"],
	damaged: ReadonlyMap<string, readonly number[] | undefined>,
	faults: FaultyOptions = {},
) {
	const other = faultySource(FILES, { digests: "parts", ...faults });
	const source = mendingSource(other, { directory: held.stand.storage.remainsOf(copy), damaged });
	const mended = await held.run({
		transferId: "verify-1",
		source,
		revision: REVISION,
		trustPartDigests: true,
	});
	for (const [name, bytes] of Object.entries(FILES)) {
		const path = join(held.stand.storage.pathOf(mended), name);
		expect(sha256Hex(readFileSync(path))).toBe(sha256Hex(bytes));
	}
	expect(mended.content_id).toBe(copy.content_id);
	return other;
}

test("of a damaged copy only the parts that differ are fetched, the rest is taken from it", async () => {
	using dir = tempDir();
	const { held, copy, damaged } = await damagedCopy(dir.path, [
		[BIG, PART + 1],
		[BIG, 4 * PART + 1],
	]);
	await using owner = held;
	void owner;
	const other = await mend(held, copy, new Map(damaged.map(({ path, parts }) => [path, parts])));
	expect(other.reads.map(({ path, start, end }) => `${path} ${start}-${end}`).sort()).toEqual([
		`${BIG} ${4 * PART}-${4 * PART + 999}`,
		`${BIG} ${PART}-${2 * PART}`,
	]);
});

test("a file that is damaged as a whole comes as a whole, and a cut connection goes on where it stopped", async () => {
	using dir = tempDir();
	const { held, copy } = await damagedCopy(dir.path, [[BIG, 5]]);
	await using owner = held;
	void owner;
	const other = await mend(held, copy, new Map([[BIG, undefined]]), { cutAfterBytes: 3_000_001 });
	expect(other.bytesSent()).toBe(4 * PART + 999);
	expect(other.reads.every(({ path }) => path === BIG)).toBe(true);
});

test("a part of the copy that was not read and is wrong too is found by its digest, and fetched", async () => {
	using dir = tempDir();
	const { held, copy } = await damagedCopy(dir.path, [
		[BIG, 5],
		[BIG, 2 * PART + 5],
	]);
	await using owner = held;
	void owner;
	// A sample saw the first part only.
	const other = await mend(held, copy, new Map([[BIG, [0]]]));
	expect(other.reads.map(({ start }) => start).sort((a, b) => a - b)).toEqual([0, 2 * PART]);
});
