import { expect, setDefaultTimeout, test } from "bun:test";
import { statfsSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { createReservations, roomLeft } from "../../src/core/storage/capacity.ts";
import type { Shelf } from "../../src/core/storage/shelf.ts";
import { createStagedBytes } from "../../src/core/storage/staged-bytes.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { MODEL, publishFiles, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

function detailsOf(work: () => unknown): Record<string, unknown> {
	try {
		work();
	} catch (error) {
		if (error instanceof GswarmError) return error.details;
	}
	throw new Error("it was not refused");
}

test("bytes in flight are counted: what does not fit beside them is refused with required, available, device", async () => {
	using dir = tempDir();
	const tiers = [
		{ name: "dram", kind: "dram" as const, root: join(dir.path, "dram"), limitBytes: 1000, floorBytes: 0 },
	];
	await using stand = await standStorage(dir.path, { tiers });
	const { storage } = stand;
	const first = storage.reserve("dram", 600);
	expect(storage.usage("dram")).toMatchObject({ total: 1000, used: 0, reserved: 600, available: 400 });
	expect(detailsOf(() => storage.reserve("dram", 401))).toEqual({
		reason: "insufficient_space",
		required: 401,
		available: 400,
		device: "dram",
	});
	const second = storage.reserve("dram", 400);
	expect(storage.usage("dram").available).toBe(0);
	first[Symbol.dispose]();
	first[Symbol.dispose]();
	expect(storage.usage("dram").available).toBe(600);
	second[Symbol.dispose]();
	await publishFiles(storage, { tier: "dram" });
	expect(storage.usage("dram")).toMatchObject({ used: 12, reserved: 0, available: 988 });
	await storage.remove(MODEL, REVISION, "dram");
	expect(storage.usage("dram").available).toBe(1000);
});

test("what transfers may take together counts what they hold and have staged, up to the floor and the budget", () => {
	let facts = { freeBytes: 1000, totalBytes: 5000, floorBytes: 100, limitBytes: 2000, copyBytes: 300 };
	const room = createReservations(() => facts);
	const tier = (name: string) => ({
		name,
		kind: "disk" as const,
		root: "/",
		durable: true,
		limitBytes: undefined,
	});
	const forAll = (staged: number): number => room.forAll(tier("disk"), 7, staged);
	expect(forAll(0)).toBe(900);
	const one = room.reserve(tier("disk"), 7, { bytes: 500, writtenBytes: 0 });
	expect(forAll(0)).toBe(900);
	// Of 500 bytes 200 were written.
	facts = { ...facts, freeBytes: 800 };
	one.shrinkTo(300);
	expect(forAll(0)).toBe(900);
	// What the transfer holds no more is staged still, and its own.
	one[Symbol.dispose]();
	expect(forAll(200)).toBe(900);
	// Promised to another tier of the same filesystem.
	using other = room.reserve(tier("disk1"), 7, { bytes: 150, writtenBytes: 0 });
	void other;
	expect(forAll(200)).toBe(750);
	facts = { ...facts, copyBytes: 1600 };
	expect(forAll(200)).toBe(400);
});

test("what is staged is counted once for each transfer that waits, and not while it is under way", async () => {
	using dir = tempDir();
	const root = join(dir.path, "disk");
	const put = async (id: string, bytes: number): Promise<void> => {
		await Bun.write(join(root, "staging", id, "model", "part.bin"), new Uint8Array(bytes).fill(1));
	};
	const row = (transferId: string) => ({ transferId, tier: "disk", bootId: null });
	const staging = new Map([["copy-1", row("copy-1")]]);
	const roots = new Map([["disk", { stagingRoot: join(root, "staging") }]]);
	const underWay = new Set<string>();
	const staged = createStagedBytes({ staging, roots } as unknown as Shelf, (id) => underWay.has(id));
	const MIB = (): number => Math.round(staged.on("disk") / 1024 ** 2);
	// The row comes before the directory.
	expect(MIB()).toBe(0);
	underWay.add("copy-1");
	await put("copy-1", 1024 ** 2);
	expect(MIB()).toBe(0);
	underWay.delete("copy-1");
	expect(MIB()).toBe(1);
	await put("copy-2", 2 * 1024 ** 2);
	staging.set("copy-2", row("copy-2"));
	expect(MIB()).toBe(3);
	underWay.add("copy-1");
	expect(MIB()).toBe(2);
	await put("copy-1", 4 * 1024 ** 2);
	underWay.delete("copy-1");
	expect(MIB()).toBe(6);
	staging.delete("copy-1");
	expect(MIB()).toBe(2);
	expect(staged.on("dram")).toBe(0);
});

test("the free-space floor is never reserved", async () => {
	using dir = tempDir();
	const { bavail, bsize } = statfsSync(dir.path);
	const floorBytes = bavail * bsize - 1024 ** 2;
	const tiers = [{ name: "disk", kind: "disk" as const, root: join(dir.path, "disk"), floorBytes }];
	await using stand = await standStorage(dir.path, { tiers });
	expect(stand.storage.usage("disk").available).toBeLessThan(64 * 1024 ** 2);
	expect(() => stand.storage.reserve("disk", 64 * 1024 ** 2)).toThrow("has no room");
});

test("without a floor of its own a disk keeps max(1 GiB, 2 %) free", async () => {
	using dir = tempDir();
	const tiers = [{ name: "disk", kind: "disk" as const, root: join(dir.path, "disk") }];
	await using stand = await standStorage(dir.path, { tiers });
	const { bavail, bsize, blocks } = statfsSync(dir.path);
	const floor = Math.max(1024 ** 3, 0.02 * blocks * bsize);
	expect(stand.storage.usage("disk").available).toBeLessThanOrEqual(
		Math.max(0, bavail * bsize - floor + 64 * 1024 ** 2),
	);
});

test("reservations never promise a byte twice, on one filesystem or in one budget", () => {
	const tier = (name: string) => ({
		name,
		kind: "disk" as const,
		root: "/",
		durable: true,
		limitBytes: undefined,
	});
	const tiers = [tier("disk"), tier("disk1")] as const;
	const step = fc.record({
		tier: fc.constantFrom(0, 1),
		bytes: fc.integer({ min: 0, max: 700 }),
		written: fc.integer({ min: 0, max: 300 }),
		release: fc.boolean(),
	});
	fc.assert(
		fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
			const free = 1500;
			const limits = [1000, 900];
			const facts = (at: number) => ({
				freeBytes: free,
				totalBytes: 3000,
				floorBytes: 100,
				limitBytes: limits[at],
				copyBytes: 50,
			});
			const room = createReservations((t) => facts(t.name === "disk" ? 0 : 1));
			const live: { at: number; bytes: number; toWrite: number; end: () => void }[] = [];
			for (const { tier: at, bytes, written, release } of steps) {
				try {
					const one = room.reserve(tiers[at], 7, { bytes: bytes, writtenBytes: written });
					live.push({ at, bytes, toWrite: Math.max(0, bytes - written), end: () => one[Symbol.dispose]() });
				} catch (error) {
					expect(error).toBeInstanceOf(GswarmError);
				}
				if (release) live.shift()?.end();
				expect(live.reduce((sum, one) => sum + one.toWrite, 0)).toBeLessThanOrEqual(free - 100);
				for (const tierAt of [0, 1]) {
					const held = live.filter((one) => one.at === tierAt).reduce((sum, one) => sum + one.bytes, 0);
					expect(held).toBeLessThanOrEqual((limits[tierAt] as number) - 50);
					const usage = room.usage(tiers[tierAt as 0 | 1], 7);
					expect(usage.reserved).toBe(held);
					expect(usage.available).toBeGreaterThanOrEqual(0);
				}
			}
		}),
	);
});

test("bytes that are written already need no second room on the filesystem", () => {
	const facts = { freeBytes: 100, totalBytes: 1000, floorBytes: 0, limitBytes: undefined, copyBytes: 0 };
	const tier = { name: "disk", kind: "disk" as const, root: "/", durable: true, limitBytes: undefined };
	const room = createReservations(() => facts);
	expect(() => room.reserve(tier, 1, { bytes: 300, writtenBytes: 0 })).toThrow("has no room");
	const one = room.reserve(tier, 1, { bytes: 300, writtenBytes: 220 });
	expect(room.usage(tier, 1).available).toBe(20);
	one.shrinkTo(10);
	expect(room.usage(tier, 1).available).toBe(90);
	// It never grows again: that room may be promised to another by now.
	one.shrinkTo(80);
	expect(room.usage(tier, 1).available).toBe(90);
	expect(roomLeft({ ...facts, reservedBytes: 0, toWriteBytes: 200 }).filesystem).toBe(0);
});
