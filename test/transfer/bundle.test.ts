import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import type { Source } from "../../src/core/source/source.ts";
import { BUNDLE_BYTES, BUNDLE_FILES, planBundles, SMALL_FILE_BYTES } from "../../src/core/transfer/bundle.ts";
import { type PlannedFile, planFiles } from "../../src/core/transfer/plan.ts";
import { hasPartsSince, readBundle, type TransferProgress } from "../../src/core/transfer/transfer.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { faultySource, someBytes } from "../support/faulty-source.ts";
import { publishFiles, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const { signal } = new AbortController();
const FILES: Record<string, Uint8Array> = {
	"big.bin": someBytes(SMALL_FILE_BYTES + 1, 1),
	"empty.txt": new Uint8Array(),
};
for (let at = 0; at < 300; at++)
	FILES[`notes/n${String(at).padStart(3, "0")}.txt`] = someBytes(4000 + at, at + 2);
const SMALL = Object.keys(FILES).filter((path) => path.startsWith("notes/"));
const TOTAL = Object.values(FILES).reduce((sum, bytes) => sum + bytes.byteLength, 0);

/** A source of sealed files that knows bundles; `change` has its way with what it sends. */
function bundlingSource(change: (body: Uint8Array, nth: number) => Uint8Array | Error = (body) => body) {
	const single = faultySource(FILES, { digests: "parts" });
	const bundles: string[][] = [];
	const source: Source = {
		...single,
		readBundle(files) {
			bundles.push(files.map((file) => file.path));
			const body = Buffer.concat(files.map((file) => FILES[file.path] ?? new Uint8Array()));
			const sent = change(body, bundles.length);
			if (sent instanceof Error) return Promise.reject(sent);
			return Promise.resolve(new Blob([new Uint8Array(sent)]).stream());
		},
	};
	return { source, bundles, single };
}

function expectAll(held: TransferStand, copy: Awaited<ReturnType<TransferStand["run"]>>): void {
	const directory = held.stand.storage.pathOf(copy);
	for (const [path, bytes] of Object.entries(FILES))
		expect(Buffer.compare(readFileSync(join(directory, path)), bytes)).toBe(0);
}

test.each([true, false])(
	"small neighbours come in one request, digests of parts trusted: %p",
	async (trust) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const { source, bundles, single } = bundlingSource();
		const seen: TransferProgress[] = [];
		const copy = await held.run({ source, trustPartDigests: trust, onProgress: (p) => seen.push(p) });
		expectAll(held, copy);
		expect(bundles).toEqual([SMALL]);
		expect(single.reads.map(({ path }) => path)).toEqual(["big.bin"]);
		expect(seen.at(-1)).toMatchObject({ bytesDone: TOTAL, bytesTotal: TOTAL });
		expect(seen.every(({ bytesDone, bytesTotal }) => bytesTotal === 0 || bytesDone <= bytesTotal)).toBe(true);
		expect(held.stand.storage.usage("disk").reserved).toBe(0);
	},
);

test.each([
	["is refused", () => new Error("404")],
	["ends early", (body: Uint8Array) => body.subarray(0, body.byteLength - 1)],
	["goes on and on", (body: Uint8Array) => Buffer.concat([body, body])],
] as const)("files of a bundle that %s come one by one", async (_title, change) => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { source, single } = bundlingSource(change);
	const seen: TransferProgress[] = [];
	const copy = await held.run({ source, trustPartDigests: true, onProgress: (p) => seen.push(p) });
	expectAll(held, copy);
	expect(single.bytesSent()).toBe(TOTAL);
	expect(seen.at(-1)?.bytesDone).toBe(TOTAL);
	expect(seen.every(({ bytesDone, bytesTotal }) => bytesTotal === 0 || bytesDone <= bytesTotal)).toBe(true);
});

test("of a bundle with a flipped bit only the file that is wrong comes again", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { source, single } = bundlingSource((body) => {
		const flipped = new Uint8Array(body);
		flipped[4100] = (flipped[4100] ?? 0) ^ 1;
		return flipped;
	});
	const copy = await held.run({ source, trustPartDigests: true });
	expectAll(held, copy);
	expect(single.reads.map(({ path }) => path).sort()).toEqual(["big.bin", "notes/n001.txt"]);
});

test("a bundle that hangs is given up after the limit, and its files come one by one", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { stallMs: 200 });
	const { source, single } = bundlingSource();
	const hanging: Source = { ...source, readBundle: () => Promise.resolve(new ReadableStream()) };
	const copy = await held.run({ source: hanging, trustPartDigests: true });
	expectAll(held, copy);
	expect(single.bytesSent()).toBe(TOTAL);
});

test("what came in bundles is there after a stop", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { fruitlessTries: 1 });
	const first = bundlingSource();
	const stuck: Source = {
		...first.source,
		async read() {
			await until("the bundle is there", () => hasPartsSince(held.stand.db, "download-1", 0));
			throw new Error("ECONNRESET");
		},
	};
	expect(asGswarmError(await held.run({ source: stuck }).catch((e: unknown) => e)).retryable).toBe(true);
	await held.restart();
	const second = bundlingSource();
	const copy = await held.run({ source: second.source });
	expectAll(held, copy);
	expect(second.bundles).toEqual([]);
	expect(second.single.reads.map(({ path }) => path)).toEqual(["big.bin"]);
});

test("bundles are runs of small neighbours within their limits, and no file is lost or doubled", async () => {
	const sizes = fc.array(
		fc.oneof(
			fc.integer({ min: 0, max: 5000 }),
			fc.constantFrom(SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, SMALL_FILE_BYTES - 1),
		),
		{ minLength: 1, maxLength: 200 },
	);
	await fc.assert(
		fc.asyncProperty(sizes, fc.integer({ min: 1, max: 9 }), async (list, every) => {
			const contents = Object.fromEntries(
				list.map((size, at) => [`f${String(at).padStart(4, "0")}`, new Uint8Array(size)]),
			);
			const description = await faultySource(contents, { digests: "parts" }).describe(signal);
			const files = planFiles(description, { verifyChecksum: undefined, wholeFiles: false });
			const isMissing = (file: PlannedFile): boolean => file.index % every !== 0;
			const { bundles, rest } = planBundles(files, isMissing);
			for (const bundle of bundles) {
				expect(bundle.length).toBeGreaterThan(1);
				expect(bundle.length).toBeLessThanOrEqual(BUNDLE_FILES);
				expect(bundle.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0)).toBeLessThanOrEqual(
					BUNDLE_BYTES,
				);
				for (const [at, file] of bundle.entries()) {
					expect(file.index).toBe((bundle[0]?.index ?? 0) + at);
					expect(file.sizeBytes).toBeLessThanOrEqual(SMALL_FILE_BYTES);
					expect(isMissing(file)).toBe(true);
				}
			}
			const placed = [...bundles.flat(), ...rest].map((file) => file.index);
			expect(new Set(placed).size).toBe(placed.length);
			for (const file of files) {
				if (isMissing(file)) expect(placed).toContain(file.index);
			}
		}),
		{ numRuns: 40 },
	);
});

test("the serving side reads what is asked for of a ready copy, within limits", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, io } = stand;
	const copy = await publishFiles(storage, { files: FILES });
	const { files } = storage.manifest(copy.content_id) ?? { files: [] };
	const ask = (first: number, end: number, contentId = copy.content_id) =>
		readBundle({ storage, io }, { contentId, first, end }, signal);
	const reasonOf = async (work: Promise<unknown>) =>
		work.then(
			() => "no error",
			(error: unknown) => asGswarmError(error).reason,
		);
	const wanted = Buffer.concat(files.slice(1, 5).map((file) => FILES[file.path] ?? new Uint8Array()));
	expect(Buffer.compare(await ask(1, 5), wanted)).toBe(0);
	expect(await reasonOf(ask(5, 5))).toBe("bad_bundle");
	expect(await reasonOf(ask(0, files.length + 1))).toBe("bad_bundle");
	expect(await reasonOf(ask(0, 2, "0".repeat(64)))).toBe("model_not_found");
	truncateSync(join(storage.pathOf(copy), files[2]?.path ?? ""), 3);
	expect(await reasonOf(ask(1, 5))).toBe("source_damaged");
	await storage.verify(copy, {}, signal);
	expect(await reasonOf(ask(3, 5))).toBe("model_not_found");
});

test("a damaged copy in memory is passed over for the one on the disk", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const { content_id: contentId } = await publishFiles(storage, { files: FILES });
	const near = await publishFiles(storage, { files: FILES, tier: "dram", transferId: "copy-1" });
	truncateSync(join(storage.pathOf(near), "empty.txt"), 3);
	await storage.verify(near, {}, signal);
	const bytes = await readBundle(stand, { contentId, first: 2, end: 3 }, signal);
	expect(bytes.byteLength).toBe(4000);
});

test("more bytes than a bundle holds are refused", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const files = { a: new Uint8Array(BUNDLE_BYTES), b: new Uint8Array(1) };
	const copy = await publishFiles(stand.storage, { files });
	const ask = (end: number) => readBundle(stand, { contentId: copy.content_id, first: 0, end }, signal);
	expect((await ask(1)).byteLength).toBe(BUNDLE_BYTES);
	expect(asGswarmError(await ask(2).catch((error: unknown) => error)).reason).toBe("bad_bundle");
});
