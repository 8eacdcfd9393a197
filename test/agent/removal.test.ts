import { expect, test } from "bun:test";
import { createRemoval, type Removal } from "../../src/agent/node/removal.ts";
import { asGswarmError, GswarmError } from "../../src/schema/errors.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { MODEL, publishFiles, REVISION, standStorage, type StorageStand } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	removal: Removal;
	storage: StorageStand["storage"];
	/** What happened, in order. */
	steps: string[];
	host: { heard: boolean; granted: boolean };
	copy(tier?: string): ModelCopy;
}

const NO_GPUS = {
	owns: () => false,
	copies: () => [],
	version: () => 0,
	remove: () => Promise.resolve({ freedBytes: 0 }),
};

/** A node with the model on disk and in memory, and a host that does as the test says. */
async function stand(): Promise<Stand> {
	const dir = tempDir();
	const held = await standStorage(dir.path);
	const { storage } = held;
	await publishFiles(storage);
	await publishFiles(storage, { tier: "dram", transferId: "copy-1" });
	const steps: string[] = [];
	const host = { heard: true, granted: true };
	const statusNow = (): string => removal.inventory().find((it) => it.tier === "disk")?.status ?? "gone";
	const removal = createRemoval({
		nodeName: "node1",
		storage,
		gpus: NO_GPUS,
		async condemn({ tier }, { force, dryRun }) {
			steps.push(
				`${dryRun ? "asked about" : "asked for"} ${tier}${force ? " by force" : ""}, listed ${statusNow()}`,
			);
			return { granted: host.granted || force };
		},
		async reportNow() {
			steps.push(`reported ${statusNow()}`);
			return host.heard;
		},
	});
	return {
		removal,
		storage,
		steps,
		host,
		copy(tier = "disk") {
			const found = storage.copy(MODEL, tier, REVISION);
			if (found === undefined) throw new Error(`nothing on ${tier}`);
			return found;
		},
		async [Symbol.asyncDispose]() {
			await held[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

test("no report can make the host count on a copy that it is just giving up", async () => {
	await using s = await stand();
	const version = s.removal.inventoryVersion();
	const { freedBytes } = await s.removal.remove(s.copy(), { force: false });
	expect(freedBytes).toBe(12);
	// A report that went out before is over when the question is asked, and every later one calls the copy unavailable.
	expect(s.steps).toEqual(["reported unavailable", "asked for disk, listed unavailable"]);
	expect(s.removal.inventory().map((it) => it.tier)).toEqual(["dram"]);
	expect(s.removal.inventoryVersion()).toBeGreaterThan(version);
});

test("a host that did not hear the report is not asked, and nothing is removed", async () => {
	await using s = await stand();
	s.host.heard = false;
	expect(await reasonOf(s.removal.remove(s.copy(), { force: true }))).toBe("503 host_unreachable");
	expect(s.steps.filter((it) => it.startsWith("asked"))).toEqual([]);
	expect(s.copy().status).toBe("ready");
});

test("a copy that stays after all is listed as ready again, and the host is told", async () => {
	await using s = await stand();
	const version = s.removal.inventoryVersion();
	s.host.granted = false;
	expect(await reasonOf(s.removal.remove(s.copy(), { force: false }))).toBe("409 last_durable_copy");
	expect(s.steps.at(-1)).toBe("reported ready");
	expect(s.removal.inventoryVersion()).toBeGreaterThan(version);
	s.host.granted = true;
	{
		using reader = s.storage.hold(MODEL, REVISION, "disk", "being read");
		void reader;
		expect(await reasonOf(s.removal.remove(s.copy(), { force: false }))).toBe("409 in_use");
	}
	expect(s.steps.at(-1)).toBe("reported ready");
	expect(s.removal.inventory().map((it) => it.status)).toEqual(["ready", "ready"]);
	expect(await reasonOf(s.removal.remove(s.copy(), { force: false }))).toBe("accepted");
});

test("a check changes nothing, and asks for nothing but an answer", async () => {
	await using s = await stand();
	const version = s.removal.inventoryVersion();
	expect(await reasonOf(s.removal.check(s.copy(), { force: false }))).toBe("accepted");
	s.host.granted = false;
	expect(await reasonOf(s.removal.check(s.copy(), { force: false }))).toBe("409 last_durable_copy");
	expect(await reasonOf(s.removal.check(s.copy(), { force: true }))).toBe("accepted");
	expect(s.steps).toEqual([
		"asked about disk, listed ready",
		"asked about disk, listed ready",
		"asked about disk by force, listed ready",
	]);
	expect(s.removal.inventoryVersion()).toBe(version);
});

test("what is in memory goes without asking anybody", async () => {
	await using s = await stand();
	s.host.granted = false;
	s.host.heard = false;
	expect(await reasonOf(s.removal.check(s.copy("dram"), { force: false }))).toBe("accepted");
	expect(await reasonOf(s.removal.remove(s.copy("dram"), { force: false }))).toBe("accepted");
	expect(s.steps).toEqual([]);
});

test("a host that is away stops the removal with what it said", async () => {
	await using s = await stand();
	const removal = createRemoval({
		nodeName: "node1",
		storage: s.storage,
		gpus: NO_GPUS,
		condemn: () =>
			Promise.reject(new GswarmError("RESOURCE_UNAVAILABLE", "Away.", { reason: "host_unreachable" })),
		reportNow: () => Promise.resolve(true),
	});
	expect(await reasonOf(removal.check(s.copy(), { force: false }))).toBe("503 host_unreachable");
	expect(await reasonOf(removal.remove(s.copy(), { force: false }))).toBe("503 host_unreachable");
	expect(s.copy().status).toBe("ready");
});
