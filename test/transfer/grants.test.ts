import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { MAX_GRANTS, UNUSED_MS } from "../../src/core/transfer/grants.ts";
import { createGrants, resolvePart } from "../../src/core/transfer/transfer.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FILES, MODEL, publishFiles, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

const CONTENT = "c".repeat(64);

test("a grant opens its content to its receiver, and no other content", () => {
	using grants = createGrants({ clock: new FakeClock(), ids: systemIds });
	const token = grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	expect(grants.check(token, CONTENT)).toMatchObject({ receiver: "node2" });
	expect(() => grants.check(token, "d".repeat(64))).toThrow("does not allow");
	expect(() => grants.check("no such token", CONTENT)).toThrow("does not allow");
	grants.revoke(token);
	expect(() => grants.check(token, CONTENT)).toThrow("does not allow");
});

test("a grant's time starts with its first use and is extended by each", async () => {
	const clock = new FakeClock();
	using grants = createGrants({ clock, ids: systemIds });
	const token = grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	await clock.advance(3_600_000);
	grants.check(token, CONTENT);
	await clock.advance(900);
	grants.check(token, CONTENT);
	await clock.advance(900);
	grants.check(token, CONTENT);
	await clock.advance(1000);
	expect(() => grants.check(token, CONTENT)).toThrow("does not allow");
});

test("a grant of limited time waits no longer for its first use, and ends however much it is used", async () => {
	const clock = new FakeClock();
	using grants = createGrants({ clock, ids: systemIds });
	const limited = { contentId: CONTENT, receiver: "node2", ttlMs: 1000, unusedMs: 2000, mostMs: 3000 };
	const unused = grants.grant(limited);
	const used = grants.grant(limited);
	for (let use = 0; use < 4; use++) {
		await clock.advance(600);
		grants.check(used, CONTENT);
	}
	expect(() => grants.check(unused, CONTENT)).toThrow("does not allow");
	await clock.advance(700);
	expect(() => grants.check(used, CONTENT)).toThrow("does not allow");
});

test("what a grant holds is let go when its time is over, without anybody asking", async () => {
	const clock = new FakeClock();
	using grants = createGrants({ clock, ids: systemIds });
	let held = 2;
	const hold = { [Symbol.dispose]: () => void held-- };
	const used = grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 5000, hold });
	grants.grant({ contentId: CONTENT, receiver: "node3", ttlMs: 5000, hold });
	grants.check(used, CONTENT);
	await clock.advance(4000);
	expect(held).toBe(2);
	await clock.advance(11_000);
	expect(held).toBe(1);
	await clock.advance(UNUSED_MS);
	expect(held).toBe(0);
});

test("there is a most of grants, and the oldest one makes room", () => {
	using grants = createGrants({ clock: new FakeClock(), ids: systemIds });
	const first = grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	const second = grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	for (let count = 2; count < MAX_GRANTS; count++)
		grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	expect(grants.check(first, CONTENT).receiver).toBe("node2");
	grants.grant({ contentId: CONTENT, receiver: "node2", ttlMs: 1000 });
	expect(() => grants.check(first, CONTENT)).toThrow("does not allow");
	expect(grants.check(second, CONTENT).receiver).toBe("node2");
});

test("a part is of the file with that index in canonical order, in the fastest ready copy", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const { content_id: contentId } = await publishFiles(storage);
	const names = Object.keys(FILES).sort();
	expect(resolvePart({ storage, contentId, fileIndex: 1 })).toEqual({
		path: join(dir.path, "disk/models/acme%2Ftiny/@main-1", names[1] ?? ""),
		name: names[1] ?? "",
		sizeBytes: 10,
	});
	await publishFiles(storage, { tier: "dram", transferId: "copy-1" });
	expect(resolvePart({ storage, contentId, fileIndex: 0 }).path).toStartWith(join(dir.path, "dram"));
	await storage.remove(MODEL, REVISION, "dram");
	expect(resolvePart({ storage, contentId, fileIndex: 0 }).path).toStartWith(join(dir.path, "disk"));
	for (const fileIndex of [2, -1, 0.5, Number.NaN]) {
		expect(() => resolvePart({ storage, contentId, fileIndex })).toThrow("There is no file");
	}
	expect(() => resolvePart({ storage, contentId: CONTENT, fileIndex: 0 })).toThrow("There is no model");
});
