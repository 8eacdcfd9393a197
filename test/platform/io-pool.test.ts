import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { xxh64Hex } from "../../src/platform/hash.ts";
import { createIoPool } from "../../src/platform/io-pool.ts";
import { tempDir } from "../support/temp-dir.ts";

const MIB = 1024 * 1024;
const never = new AbortController().signal;

function bytes(size: number, seed: number): Uint8Array {
	const data = new Uint8Array(size);
	let state = seed;
	for (let i = 0; i < size; i++) {
		state = (Math.imul(state, 1103515245) + 12345) >>> 0;
		data[i] = state >>> 24;
	}
	return data;
}

test("a thread hashes a file: sha256, git blob sha1 and XXH64 of each part", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 1 });
	const path = join(dir.path, "f");
	const data = bytes(5 * MIB + 17, 1);
	writeFileSync(path, data);
	const digests = await io.hashFile(
		{ path, partSizeBytes: 2 * MIB, sizeBytes: data.length, gitSha1: true },
		never,
	);
	expect(digests.sizeBytes).toBe(data.length);
	expect(digests.sha256).toBe(new Bun.CryptoHasher("sha256").update(data).digest("hex"));
	expect(digests.gitSha1).toBe(
		new Bun.CryptoHasher("sha1").update(`blob ${data.length}\0`).update(data).digest("hex"),
	);
	const parts = [0, 2, 4].map((at) =>
		xxh64Hex(data.subarray(at * MIB, Math.min((at + 2) * MIB, data.length))),
	);
	expect(digests.xxh64).toEqual(parts);
	expect(await io.hashParts({ path, partSizeBytes: 2 * MIB, parts: [2, 0] }, never)).toEqual([
		parts[2] as string,
		parts[0] as string,
	]);
});

test("an empty file has a sha256 and no parts", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 1 });
	const path = join(dir.path, "f");
	writeFileSync(path, "");
	const digests = await io.hashFile({ path, partSizeBytes: MIB, sizeBytes: 0, gitSha1: true }, never);
	expect(digests.xxh64).toEqual([]);
	expect(digests.gitSha1).toBe("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
});

test("ranges are copied to their own offset by several threads, each part hashed", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 2 });
	const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
	const data = bytes(9 * MIB + 5, 2);
	writeFileSync(from, data);
	closeSync(openSync(to, "w"));
	truncateSync(to, data.length);
	const ranges = [
		{ start: 4 * MIB, end: data.length },
		{ start: 0, end: 4 * MIB },
	];
	const digests = await Promise.all(
		ranges.map((range) => io.copyRange({ from, to, ...range, partSizeBytes: 4 * MIB }, never)),
	);
	expect(Bun.hash(readFileSync(to))).toBe(Bun.hash(data));
	expect(digests[1]).toEqual([xxh64Hex(data.subarray(0, 4 * MIB))]);
	expect(digests[0]).toEqual([
		xxh64Hex(data.subarray(4 * MIB, 8 * MIB)),
		xxh64Hex(data.subarray(8 * MIB, data.length)),
	]);
});

test("a source that is shorter than the range fails with its code, and the thread goes on working", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 1 });
	const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
	writeFileSync(from, bytes(100, 3));
	writeFileSync(to, "");
	const copying = io.copyRange({ from, to, start: 0, end: 200, partSizeBytes: MIB }, never);
	expect(await copying.catch((error: NodeJS.ErrnoException) => error.code)).toBe("SHORT_FILE");
	const hashing = io.hashParts({ path: join(dir.path, "none"), partSizeBytes: MIB, parts: [0] }, never);
	expect(await hashing.catch((error: NodeJS.ErrnoException) => error.code)).toBe("ENOENT");
	expect(await io.hashParts({ path: from, partSizeBytes: MIB, parts: [0] }, never)).toHaveLength(1);
});

test("an aborted job stops between blocks, a waiting one is never started", async () => {
	using dir = tempDir();
	await using io = createIoPool({ threads: 1 });
	const path = join(dir.path, "sparse");
	closeSync(openSync(path, "w"));
	truncateSync(path, 64 * 1024 * MIB);
	const stop = new AbortController();
	const input = { path, partSizeBytes: 64 * MIB, sizeBytes: 0, gitSha1: false };
	const running = io.hashFile(input, stop.signal).catch((error: Error) => error.name);
	const waiting = io.hashFile(input, stop.signal).catch((error: Error) => error.name);
	stop.abort();
	expect(await Promise.all([running, waiting])).toEqual(["AbortError", "AbortError"]);
	writeFileSync(join(dir.path, "small"), "x");
	const after = await io.hashFile({ ...input, path: join(dir.path, "small") }, never);
	expect(after.sizeBytes).toBe(1);
});
