import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { createFollower } from "../../src/core/transfer/follower.ts";
import { byteRange, type PlannedFile, planFiles } from "../../src/core/transfer/plan.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { createIoPool, type IoPool } from "../../src/platform/io-pool.ts";
import { silentLog } from "../../src/platform/log.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { faultySource, someBytes } from "../support/faulty-source.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const { signal } = new AbortController();

async function plannedFile(bytes: Uint8Array, digests: "sha256" | "git-sha1" | "none"): Promise<PlannedFile> {
	const description = await faultySource({ f: bytes }, { digests }).describe(signal);
	const [file] = planFiles(description, { verifyChecksum: undefined, wholeFiles: false });
	if (file === undefined) throw new Error("no file");
	return file;
}

test("parts that land in any order give the digests of the whole, whatever the source claims", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 2 });
	const bytes = someBytes(4 * PART + 333, 5);
	const path = join(dir.path, "f");
	const orders = fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 5, maxLength: 5 });
	const kinds = fc.constantFrom("sha256" as const, "git-sha1" as const, "none" as const);
	await fc.assert(
		fc.asyncProperty(orders, kinds, async (order, digests) => {
			const file = await plannedFile(bytes, digests);
			writeFileSync(path, new Uint8Array(bytes.byteLength));
			const there = new Set<number>();
			const isThere = (_file: PlannedFile, part: number): boolean => there.has(part);
			using follower = createFollower({
				io,
				log: silentLog,
				isThere,
				pathOf: () => path,
				tagKeyOf: () => undefined,
				signal,
			});
			for (const part of order) {
				const { start, end } = byteRange(file, { first: part, end: part + 1 });
				const staged = readFileSync(path);
				staged.set(bytes.subarray(start, end), start);
				writeFileSync(path, staged);
				there.add(part);
				follower.landed(file);
			}
			const found = await follower.digests(file);
			expect(found?.sha256).toBe(sha256Hex(bytes));
			const blob = new Bun.CryptoHasher("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes);
			expect(found?.gitSha1).toBe(digests === "git-sha1" ? blob.digest("hex") : undefined);
			const parts = [0, 1, 2, 3, 4].map((part) => xxh64Hex(bytes.subarray(part * PART, (part + 1) * PART)));
			expect(found?.xxh64).toEqual(digests === "none" ? parts : []);
		}),
		{ numRuns: 4 },
	);
});

test("what could not be read has to be read another way, and what comes again is read anew", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 1 });
	const bytes = someBytes(2 * PART, 6);
	const path = join(dir.path, "f");
	const file = await plannedFile(bytes, "sha256");
	const open = () =>
		createFollower({
			io,
			log: silentLog,
			isThere: () => true,
			pathOf: () => path,
			tagKeyOf: () => undefined,
			signal,
		});
	using missing = open();
	expect(await missing.digests(file)).toBeUndefined();
	writeFileSync(path, bytes.subarray(0, PART + 5));
	using short = open();
	short.landed(file);
	expect(await short.digests(file)).toBeUndefined();
	writeFileSync(path, bytes);
	using again = open();
	for (const content of [bytes, someBytes(2 * PART, 7)]) {
		writeFileSync(path, content);
		again.landed(file);
		expect((await again.digests(file))?.sha256).toBe(sha256Hex(content));
	}
	using small = open();
	expect(await small.digests({ ...file, partCount: 1 })).toBeUndefined();
});

test("a followed file keeps to the thread that has its hashes, while other work goes on", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 2 });
	const bytes = someBytes(3 * PART, 7);
	const path = join(dir.path, "f");
	writeFileSync(path, bytes);
	const follow = () => io.followFile({ path, gitSha1Of: undefined, partSizeBytes: undefined });
	using first = follow();
	using second = follow();
	const whole = { path, partSizeBytes: PART, sizeBytes: bytes.byteLength, gitSha1: false };
	const results = await Promise.all([
		(async () => {
			for (let end = PART; end <= bytes.byteLength; end += PART) await first.readTo(end, signal);
			return first.end(signal);
		})(),
		(async () => {
			await second.readTo(bytes.byteLength, signal);
			return second.end(signal);
		})(),
		io.hashFile(whole, signal),
		io.hashFile(whole, signal),
	]);
	expect(new Set(results.map((one) => one.sha256))).toEqual(new Set([sha256Hex(bytes)]));
	using stopped = follow();
	const stop = new AbortController();
	const reading = stopped.readTo(bytes.byteLength, stop.signal);
	stop.abort(new Error("enough"));
	expect(await reading.catch((error: Error) => error.message)).toBe("enough");
	expect(await stopped.end(signal).catch((error: Error) => error.message)).toBe("there is no such hash");
});

/** An io pool that says which whole files it was asked to read. */
function watched(io: IoPool, read: string[]): IoPool {
	return {
		...io,
		hashFile: (input, ...rest) => {
			read.push(input.path.slice(input.path.lastIndexOf("/") + 1));
			return io.hashFile(input, ...rest);
		},
	};
}

test.each(["sha256", "git-sha1", "parts", "none"] as const)(
	"a file of several parts is not read a second time when it has come, with digests: %s",
	async (digests) => {
		using dir = tempDir();
		const read: string[] = [];
		await using held = await standTransfers(dir.path, {}, { io: (io) => watched(io, read) });
		const files = { "big.bin": someBytes(3 * PART + 1, 8), "small.bin": someBytes(100, 9) };
		const copy = await held.run({ source: faultySource(files, { digests }) });
		expect(read).not.toContain("big.bin");
		const manifest = held.stand.storage.manifest(copy.content_id);
		const big = manifest?.files.find((file) => file.path === "big.bin");
		expect(big?.sha256).toBe(sha256Hex(files["big.bin"]));
		expect(big?.xxh64).toEqual(
			[0, 1, 2, 3].map((part) => xxh64Hex(files["big.bin"].subarray(part * PART, (part + 1) * PART))),
		);
	},
);

test("after a restart the digest of the whole is made of what was there and what came", async () => {
	using dir = tempDir();
	const read: string[] = [];
	await using held = await standTransfers(dir.path, { fruitlessTries: 1 }, { io: (io) => watched(io, read) });
	const files = { "big.bin": someBytes(4 * PART, 10) };
	const dead = faultySource(files, {
		onBlock: (_path, position) => {
			if (position >= 2 * PART + 5) throw new Error("ECONNRESET");
		},
	});
	await held.run({ source: dead, streams: 1 }).catch(() => {});
	await held.restart();
	const good = faultySource(files);
	const copy = await held.run({ source: good });
	expect(good.bytesSent()).toBe(2 * PART);
	expect(read).toEqual([]);
	expect(held.stand.storage.manifest(copy.content_id)?.files[0]?.sha256).toBe(sha256Hex(files["big.bin"]));
});
