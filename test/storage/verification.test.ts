import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { choosePartsToRead } from "../../src/core/storage/verification.ts";
import { type Manifest, partCount, partSizeBytes } from "../../src/schema/manifest.ts";
import { someBytes } from "../support/faulty-source.ts";
import { MODEL, publishFiles, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

const { signal } = new AbortController();
const PART = partSizeBytes(1);
const BIG = "weights/model.gguf";
const FILES = {
	[BIG]: someBytes(2 * PART + 100, 1),
	"config.json": someBytes(900, 2),
	"empty.txt": new Uint8Array(),
};
const TOTAL = 2 * PART + 1000;

/** A manifest of files with these sizes; nobody reads their digests. */
function manifestOfSizes(sizes: readonly number[]): Manifest {
	const files = sizes.map((size, at) => ({
		path: `f${at}`,
		size_bytes: size,
		sha256: "0".repeat(64),
		part_size_bytes: partSizeBytes(size),
		xxh64: Array.from({ length: partCount(size) }, () => "0".repeat(16)),
	}));
	return { files, total_bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

function flip(path: string, at: number): void {
	const bytes = readFileSync(path);
	bytes[at] = (bytes[at] ?? 0) ^ 1;
	writeFileSync(path, bytes);
}

test("verification reads every part and tells which one is wrong; the copy is unavailable until it is published again", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage, { files: FILES });
	const heard: number[] = [];
	const whole = { damaged: [], bytesChecked: TOTAL, partsChecked: 4, partsTotal: 4 };
	expect(await storage.verify(copy, { onBytes: (bytes) => heard.push(bytes) }, signal)).toEqual(whole);
	expect(heard.at(-1)).toBe(TOTAL);
	expect(heard).toEqual(heard.toSorted((a, b) => a - b));
	expect(await storage.verify(copy, { sha256: true }, signal)).toEqual(whole);

	flip(join(storage.pathOf(copy), BIG), PART + 5);
	const { damaged } = await storage.verify(copy, {}, signal);
	expect(damaged).toMatchObject([{ path: BIG, parts: [1] }]);
	expect(damaged[0]?.problem).toStartWith("part 1 has the digest ");
	expect(storage.copy(MODEL, "disk")?.status).toBe("unavailable");
	expect(() => storage.pathOf(copy)).toThrow("There is no model");
	expect(() => storage.hold(MODEL, REVISION, "disk", "service")).toThrow("There is no model");
	await stand.restart();
	expect(stand.storage.copy(MODEL, "disk")?.status).toBe("unavailable");
	const again = await publishFiles(stand.storage, { transferId: "download-2", files: FILES });
	expect(again.status).toBe("ready");
	expect(await stand.storage.verify(again, {}, signal)).toEqual(whole);
});

test.each([
	["is missing", (path: string) => rmSync(path), "it is missing"],
	["is too short", (path: string) => truncateSync(path, 10), "it has 10 bytes, wanted 900"],
	[
		"is a link",
		(path: string) => {
			renameSync(path, `${path}.real`);
			symlinkSync(`${path}.real`, path);
		},
		"it is no regular file",
	],
] as const)(
	"a file that %s is damaged, even when the sample does not read it",
	async (_title, break_, problem) => {
		using dir = tempDir();
		await using stand = await standStorage(dir.path);
		const { storage } = stand;
		const copy = await publishFiles(storage, { files: FILES });
		break_(join(storage.pathOf(copy), "config.json"));
		// Four parts, one is read; that of the small file is the fourth of them.
		const seed = ["a", "b", "c", "d", "e", "f", "g", "h"].find(
			(one) =>
				!choosePartsToRead(storage.manifest(copy.content_id) as Manifest, {
					samplePercent: 1,
					seed: one,
				}).has(0),
		);
		const report = await storage.verify(copy, { samplePercent: 1, seed }, signal);
		expect(report).toMatchObject({
			damaged: [{ path: "config.json", problem }],
			partsChecked: 1,
			partsTotal: 4,
		});
	},
);

test("a copy that is right again becomes ready again, but not by a sample", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage, { files: FILES });
	const path = join(storage.pathOf(copy), BIG);
	flip(path, 5);
	await storage.verify(copy, {}, signal);
	flip(path, 5);
	await storage.verify(copy, { samplePercent: 50 }, signal);
	expect(storage.copy(MODEL, "disk")?.status).toBe("unavailable");
	await storage.verify(copy, {}, signal);
	expect(storage.copy(MODEL, "disk")?.status).toBe("ready");
});

test("a copy is not removed while it is read, and verification stops when it is told to", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const copy = await publishFiles(storage, { files: FILES });
	const stop = new AbortController();
	const reading = storage.verify(copy, {}, stop.signal);
	expect(storage.holders(copy)).toEqual(["verification"]);
	const removal = storage.remove(MODEL, REVISION, "disk");
	expect(await removal.catch((error: Error) => error.message)).toContain("in use");
	stop.abort(new Error("enough"));
	expect(await reading.catch((error: Error) => error.message)).toBe("enough");
	expect(storage.copy(MODEL, "disk")?.status).toBe("ready");
	expect(storage.holders(copy)).toEqual([]);
});

test("a sample is its share of the parts, the same for the same seed, and over many seeds every part comes up", () => {
	const sizes = fc.array(fc.integer({ min: 0, max: 5 * PART }), { minLength: 1, maxLength: 12 });
	fc.assert(
		fc.property(sizes, fc.integer({ min: 1, max: 100 }), fc.string(), (list, percent, seed) => {
			const manifest = manifestOfSizes(list);
			const total = list.reduce((sum, size) => sum + partCount(size), 0);
			const choice = choosePartsToRead(manifest, { samplePercent: percent, seed });
			const chosen = [...choice].flatMap(([index, parts]) => parts.map((part) => `${index} ${part}`));
			expect(chosen.length).toBe(Math.min(total, Math.max(1, Math.ceil((total * percent) / 100))));
			expect(new Set(chosen).size).toBe(chosen.length);
			for (const [index, parts] of choice) {
				for (const part of parts) expect(part).toBeLessThan(partCount(list[index] ?? 0));
			}
			expect(choosePartsToRead(manifest, { samplePercent: percent, seed })).toEqual(choice);
		}),
		{ numRuns: 60 },
	);
	const manifest = manifestOfSizes([3 * PART, 10, 4 * PART]);
	const seen = new Set<string>();
	for (let seed = 0; seed < 200; seed++) {
		const choice = choosePartsToRead(manifest, { samplePercent: 5, seed: String(seed) });
		for (const [index, parts] of choice) for (const part of parts) seen.add(`${index} ${part}`);
	}
	expect(seen.size).toBe(8);
	expect([...choosePartsToRead(manifest, {}).values()].flat().length).toBe(8);
});
