import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { createMeter, type TransferProgress } from "../../src/core/transfer/progress.ts";
import { createRangeWriter } from "../../src/core/transfer/range-writer.ts";
import { createStallWatch, Stalled } from "../../src/core/transfer/stall-watch.ts";
import { createBandwidth } from "../../src/core/transfer/bandwidth.ts";
import { createWorkQueue } from "../../src/core/transfer/work-queue.ts";
import { closeFile, openOurs } from "../../src/platform/durable-file.ts";
import { createXxh64Factory, xxh64Hex } from "../../src/platform/hash.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { someBytes } from "../support/faulty-source.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

/** About what a body brings at once. */
const BLOCK_BYTES = 1 << 20;

const never = new AbortController().signal;

test("bytes that come in pieces of any size lie where they belong, each part hashed after it is written", async () => {
	using dir = tempDir();
	const newXxh64 = await createXxh64Factory();
	const path = join(dir.path, "f");
	const input = fc.record({
		size: fc.integer({ min: 1, max: 3 * BLOCK_BYTES }),
		part: fc.integer({ min: BLOCK_BYTES / 4, max: 2 * BLOCK_BYTES }),
		from: fc.integer({ min: 0, max: 2 }),
		pieces: fc.array(fc.integer({ min: 1, max: BLOCK_BYTES * 2 }), { minLength: 1, maxLength: 5 }),
	});
	await fc.assert(
		fc.asyncProperty(input, async ({ size, part, from, pieces }) => {
			const bytes = someBytes(size, size);
			const start = Math.min(from * part, Math.floor((size - 1) / part) * part);
			const fd = await openOurs(path);
			const digests = new Map<number, string>();
			const writer = createRangeWriter({
				fd,
				name: "f",
				start,
				end: size,
				partSizeBytes: part,
				newXxh64,
				shouldSync: () => false,
				onPart: (index, xxh64) => {
					const want = bytes.subarray(index * part, Math.min((index + 1) * part, size));
					// It is in the file by now.
					const there = readFileSync(path).subarray(index * part, index * part + want.length);
					expect(xxh64Hex(there)).toBe(xxh64);
					digests.set(index, xxh64);
					return Promise.resolve();
				},
			});
			// A whole block after each round of pieces: pieces of one byte alone would be millions of writes.
			const round = [...pieces, BLOCK_BYTES];
			for (let at = start, piece = 0; at < size; piece++) {
				const count = round[piece % round.length] ?? 1;
				// What is behind the end is not taken.
				const taken = await writer.write(
					Buffer.concat([bytes.subarray(at, at + count), new Uint8Array(at + count >= size ? 3 : 0)]),
				);
				expect(taken).toBe(Math.min(count, size - at));
				at += taken;
			}
			await closeFile(fd);
			const first = start / part;
			const wanted = Array.from({ length: Math.ceil(size / part) - first }, (_, index) => index + first);
			expect([...digests.keys()]).toEqual(wanted);
			for (const index of wanted) {
				expect(digests.get(index)).toBe(
					xxh64Hex(bytes.subarray(index * part, Math.min((index + 1) * part, size))),
				);
			}
		}),
		{ numRuns: 25 },
	);
});

test("a limited rate is one rate over all streams", async () => {
	const clock = new FakeClock();
	const throttle = createBandwidth({ clock }).join("one", 1000);
	let passed = 0;
	const streams = [1, 2, 3, 4].map(async () => {
		for (let piece = 0; piece < 10; piece++) {
			await throttle.pass(100, never);
			passed += 100;
		}
	});
	await clock.advance(2000);
	// 100 bytes may pass at once, and each stream has one piece under way.
	expect(passed).toBeGreaterThanOrEqual(1600);
	expect(passed).toBeLessThanOrEqual(2100);
	await clock.advance(2000);
	await Promise.all(streams);
	expect(passed).toBe(4000);
});

test("a wait for the rate ends with the transfer", async () => {
	const stop = new AbortController();
	const throttle = createBandwidth({ clock: new FakeClock() }).join("one", 1);
	const waiting = throttle.pass(1_000_000, stop.signal);
	stop.abort();
	await waiting;
});

test("a read that brings nothing for the limit ends, one that brings something in time does not", async () => {
	const clock = new FakeClock();
	await using stalls = createStallWatch({ clock }, 30_000);
	let cut = 0;
	const connection = { signal: never, cut: () => void cut++ };
	const slow = Promise.withResolvers<string>();
	const answered = stalls.guard(slow.promise, connection);
	const hanging = stalls.guard(new Promise(() => {}), connection).catch((error: unknown) => error);
	await clock.advance(29_000);
	slow.resolve("bytes");
	expect(await answered).toBe("bytes");
	expect(cut).toBe(0);
	await clock.advance(3000);
	expect(await hanging).toBeInstanceOf(Stalled);
	expect(cut).toBe(1);
});

test("quiet is when every stream has waited for a while, not when one has", async () => {
	const clock = new FakeClock();
	const heard: number[] = [];
	await using stalls = createStallWatch({ clock, onQuiet: (ms) => heard.push(ms) }, 30_000);
	const connection = { signal: never, cut: () => {} };
	stalls.guard(new Promise(() => {}), connection).catch(() => {});
	for (let second = 0; second < 4; second++) {
		const busy = Promise.withResolvers<string>();
		const read = stalls.guard(busy.promise, connection);
		await clock.advance(4000);
		busy.resolve("bytes");
		await read;
		const next = Promise.withResolvers<string>();
		void stalls.guard(next.promise, connection);
		next.resolve("bytes");
	}
	expect(heard.filter((ms) => ms < 5000)).toEqual([]);
	await clock.advance(1500);
	expect(heard.length).toBeGreaterThan(0);
});

test("rate and time left are those of the last seconds", async () => {
	const clock = new FakeClock();
	const seen: TransferProgress[] = [];
	const meter = createMeter({ clock }, (progress) => seen.push(progress));
	meter.begin(1000, 21_000);
	for (let second = 0; second < 10; second++) {
		await clock.advance(1000);
		meter.add(1000);
	}
	expect(seen.at(-1)).toMatchObject({
		bytesDone: 11_000,
		bytesTotal: 21_000,
		rateBytesPerSecond: 1000,
		etaS: 10,
	});
	meter.wait("the source: it limits us for 5 s");
	expect(seen.at(-1)?.waitingFor).toBe("the source: it limits us for 5 s");
	const before = seen.length;
	for (let piece = 0; piece < 1000; piece++) meter.add(1);
	// A thousand pieces at one moment are not a thousand reports.
	expect(seen.length - before).toBeLessThanOrEqual(1);
});

test("work that adds work is done to its end; the first failure ends the rest", async () => {
	const done: number[] = [];
	let idle = 0;
	const queue = createWorkQueue<number>({ onFailure: () => {}, onIdle: () => void idle++ });
	queue.add(3, 2);
	await queue.run(2, async (item) => {
		done.push(item);
		await Promise.resolve();
		if (item > 0) queue.track(Promise.resolve().then(() => queue.add(item - 1)));
	});
	expect(done.sort((a, b) => a - b)).toEqual([0, 0, 1, 1, 2, 2, 3]);
	expect(idle).toBeGreaterThan(0);

	let failures = 0;
	const failing = createWorkQueue<number>({ onFailure: () => void failures++, onIdle: () => {} });
	failing.add(1, 2, 3, 4, 5, 6);
	const started: number[] = [];
	const work = failing.run(2, async (item) => {
		started.push(item);
		await Promise.resolve();
		if (item === 2) throw new Error("two");
		if (item === 1) await until("the other failed", () => failures > 0);
	});
	expect(await work.catch((error: Error) => error.message)).toBe("two");
	expect(failures).toBe(1);
	expect(started).toEqual([1, 2]);
});
