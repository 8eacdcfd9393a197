import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { createEviction, type Eviction } from "../../src/agent/node/eviction.ts";
import type { Whereabouts } from "../../src/agent/node/eviction-candidates.ts";
import { createRates } from "../../src/agent/node/rates.ts";
import type { RoomRequest } from "../../src/core/transfer/transfer.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError, asGswarmError } from "../../src/schema/errors.ts";
import { type ModelName, parseModelName, parseRevision } from "../../src/schema/names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { publishFiles, standStorage, type StorageStand } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const SIZE = 100;
const [A, B, C, NEW] = ["a", "b", "c", "new"].map(parseModelName) as [
	ModelName,
	ModelName,
	ModelName,
	ModelName,
];
const MAIN = parseRevision("main");

interface World extends AsyncDisposable {
	stand: StorageStand;
	clock: FakeClock;
	eviction: Eviction;
	/** What the host is asked about; answered once it is given something. */
	asked: { resolve: (answer: Whereabouts[]) => void }[];
	/** How often it said that there is more room. */
	roomTold(): number;
	inMemory(): string[];
	room(bytes: number, more?: Partial<RoomRequest>): Promise<string>;
}

/** Three models of 100 bytes each in a memory of 350. */
async function world({ answers = true, limitBytes = 350 } = {}): Promise<World> {
	const stack = new AsyncDisposableStack();
	const dir = stack.use(tempDir());
	const tiers = [
		{ name: "disk", kind: "disk" as const, root: join(dir.path, "disk"), floorBytes: 0, limitBytes: 10_000 },
		{ name: "dram", kind: "dram" as const, root: join(dir.path, "dram"), floorBytes: 0, limitBytes },
	];
	const stand = stack.use(await standStorage(dir.path, { tiers }));
	for (const [at, model] of [A, B, C].entries()) {
		const files = { "model.gguf": model.repeat(SIZE) };
		await publishFiles(stand.storage, { tier: "dram", transferId: `t-${at}`, model, revision: MAIN, files });
	}
	const clock = new FakeClock(Date.now() + 60_000);
	const asked: World["asked"] = [];
	let told = 0;
	const eviction = stack.use(
		createEviction({
			nodeName: "node1",
			clock,
			log: silentLog,
			storage: stand.storage,
			removal: {
				remove: ({ model_name, tier }) => stand.storage.remove(parseModelName(model_name), MAIN, tier),
			},
			rates: createRates(),
			whereabouts(revisions) {
				if (answers) return Promise.resolve(revisions.map((one) => ({ ...one, durable: 1, all: 1 })));
				const { promise, resolve } = Promise.withResolvers<Whereabouts[]>();
				asked.push({ resolve });
				return promise;
			},
			awaited: () => [],
			onRoom: () => void told++,
			watermarks: {
				dram: { automatic: true, high: 0.8, low: 0.5 },
				disk: { automatic: false, high: 0.95, low: 0.85 },
			},
		}),
	);
	return {
		stand,
		clock,
		eviction,
		asked,
		roomTold: () => told,
		inMemory: () => stand.storage.copies({ tier: "dram" }).map((copy) => copy.model_name),
		async room(bytes, more = {}) {
			const request: RoomRequest = {
				transferId: "copy-new",
				model: NEW,
				tier: "dram",
				bytes,
				writtenBytes: 0,
				mayEvict: true,
				checkSource: () => Promise.resolve(),
				signal: new AbortController().signal,
				...more,
			};
			try {
				stack.use(await eviction.makeRoom(request));
				return "made";
			} catch (error) {
				return asGswarmError(error).reason ?? String(error);
			}
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
}

test("room that is there makes nobody go, room that is not makes just enough go", async () => {
	await using w = await world();
	expect(await w.room(50)).toBe("made");
	expect(w.inMemory()).toEqual([A, B, C]);
	expect(await w.room(60)).toBe("made");
	expect(w.inMemory()).toEqual([B, C]);
	expect(w.eviction.counters("dram")).toEqual({ copies: 1, bytes: SIZE });
});

test("what cannot be had makes nobody go, and neither does who may not ask for it", async () => {
	await using w = await world();
	await w.stand.storage.pin(A, MAIN, "dram", true);
	expect(await w.room(300)).toBe("insufficient_space");
	expect(await w.room(100, { mayEvict: false })).toBe("insufficient_space");
	expect(w.inMemory()).toEqual([A, B, C]);
	expect(w.stand.storage.usage("dram").reserved).toBe(0);
});

test("what comes free is not for others: from the demand on, nobody else gets a byte of it", async () => {
	await using w = await world({ answers: false });
	const made = w.room(150);
	const [question] = await until("the host is asked", () => (w.asked.length > 0 ? w.asked : undefined));
	// 50 are available, and promised already.
	expect(() => w.stand.storage.reserve("dram", 1)).toThrow("has no room");
	question?.resolve([]);
	expect(await made).toBe("made");
	expect(w.inMemory()).toEqual([B, C]);
});

test("who comes into use while the host is asked stays, and another one goes", async () => {
	await using w = await world({ answers: false });
	const made = w.room(150);
	const [question] = await until("the host is asked", () => (w.asked.length > 0 ? w.asked : undefined));
	using hold = w.stand.storage.hold(A, MAIN, "dram", "service s-1");
	void hold;
	question?.resolve([]);
	expect(await made).toBe("made");
	expect(w.inMemory()).toEqual([A, C]);
});

test("the source is looked at before anybody goes", async () => {
	await using w = await world();
	const damaged = new GswarmError("TASK_FAILED", "It is damaged.", { reason: "source_damaged" });
	expect(await w.room(150, { checkSource: () => Promise.reject(damaged) })).toBe("source_damaged");
	expect(w.inMemory()).toEqual([A, B, C]);
	expect(w.stand.storage.usage("dram").reserved).toBe(0);
});

test("for a load that failed just before nobody goes, for a quarter of an hour or until it went well", async () => {
	await using w = await world();
	const failure = new GswarmError("TASK_FAILED", "It is damaged.", { reason: "checksum_mismatch" });
	w.eviction.remember("dram", NEW, failure);
	expect(await w.room(150)).toBe("load_failed_before");
	expect(w.inMemory()).toEqual([A, B, C]);
	expect(await w.room(150, { model: parseModelName("other") })).toBe("made");
	expect(w.inMemory()).toEqual([B, C]);
	await w.clock.advance(16 * 60_000);
	expect(await w.room(150)).toBe("made");
});

test("a tier that is fuller than its high watermark is emptied to its low one, but for what was used last", async () => {
	await using w = await world();
	const [first] = w.stand.storage.copies({ tier: "dram" });
	if (first !== undefined) w.stand.storage.touch(first, "serve");
	w.eviction.start();
	await w.clock.advance(11_000);
	await until("it is emptied", () => w.inMemory().length < 3);
	// 175 of 350 are to be available: 50 were, and two go.
	expect(w.inMemory()).toEqual([A]);
	await w.clock.advance(11_000);
	expect(w.inMemory()).toEqual([A]);
});

test("a memory with one large model keeps it, however full that makes it", async () => {
	await using w = await world({ limitBytes: 310 });
	await w.stand.storage.remove(A, MAIN, "dram");
	await w.stand.storage.remove(B, MAIN, "dram");
	const only = w.stand.storage.reserve("dram", 200);
	w.eviction.start();
	await w.clock.advance(30_000);
	expect(w.inMemory()).toEqual([C]);
	only[Symbol.dispose]();
});

test("a plan of a disk that evicts only when it is told to changes nothing, and says so", async () => {
	await using w = await world();
	const plan = await w.eviction.plan("dram", 200);
	expect(plan).toMatchObject({ need_bytes: 150, freed_bytes: 200, suffices: true, copies_total: 3 });
	expect(plan.copies.map((copy) => copy.verdict)).toEqual(["goes", "goes", "may_go"]);
	expect(w.inMemory()).toEqual([A, B, C]);
	await publishFiles(w.stand.storage, { transferId: "t-disk", model: A, revision: MAIN });
	const { available } = w.stand.storage.usage("disk");
	const ofDisk = await w.eviction.plan("disk", available + 1);
	expect(ofDisk).toMatchObject({ watermarks: { automatic: false }, copies: [{ verdict: "goes" }] });
	expect(w.eviction.evictableBytes("disk")).toBe(0);
	const refused = await w.eviction.fits("disk", available * 2).catch((error: unknown) => error);
	expect(refused).toMatchObject({ status: 507, reason: "insufficient_space" });
	expect(w.eviction.usage("dram").evictable).toBe(3 * SIZE);
	expect(w.eviction.usage("disk").evictable).toBeUndefined();
});

test("room that somebody outside gives back is told, so that what waits for it is looked at; less room is not", async () => {
	await using w = await world({ limitBytes: 10_000 });
	w.eviction.start();
	await w.clock.advance(11_000);
	const before = w.roomTold();
	await publishFiles(w.stand.storage, { tier: "dram", transferId: "t-more", model: NEW, revision: MAIN });
	await w.clock.advance(11_000);
	expect(w.roomTold()).toBe(before);
	await w.stand.storage.remove(NEW, MAIN, "dram");
	await w.clock.advance(11_000);
	expect(w.roomTold()).toBe(before + 1);
});
