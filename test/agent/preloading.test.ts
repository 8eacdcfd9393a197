import { expect, setDefaultTimeout, test } from "bun:test";
import { createPreloading, type Preloading } from "../../src/agent/node/preloading.ts";
import { openPreload, type Preload, preloadModule } from "../../src/core/preload/preload.ts";
import { openQueue, type Queue, queueModule, type TaskContext } from "../../src/core/queue/queue.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { parseModelName } from "../../src/schema/names.ts";
import type { PreloadMode } from "../../src/schema/preload.ts";
import { publishFiles, REVISION, standStorage, type StorageStand } from "../support/staged-model.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

interface Stand extends AsyncDisposable {
	storage: StorageStand["storage"];
	queue: Queue;
	preload: Preload;
	preloading: Preloading;
	/** Copies wait until the test lets them go. */
	gate: PromiseWithResolvers<void>;
	/** Names in memory. */
	inMemory(): string[];
	hint(model: string, inS?: number): ReturnType<Preloading["hint"]>;
}

const DISK_BYTES = 12;

/** A node with models `a`, `b` and `c` on disk, 12 bytes each, and memory for two of them. */
async function stand(
	mode: PreloadMode = "auto",
	{
		clock = systemClock,
		before = () => Promise.resolve(),
	}: {
		clock?: Clock;
		/** What happened before the node began to look. */
		before?: (preload: Preload) => Promise<void>;
	} = {},
): Promise<Stand> {
	const dir = tempDir();
	const tiers = [
		{ name: "disk", kind: "disk" as const, root: `${dir.path}/disk`, floorBytes: 0 },
		{
			name: "dram",
			kind: "dram" as const,
			root: `${dir.path}/dram`,
			floorBytes: 0,
			limitBytes: 2 * DISK_BYTES,
		},
	];
	const held = await standStorage(dir.path, { tiers, modules: [queueModule, preloadModule] });
	const { storage, db } = held;
	for (const name of ["a", "b", "c"])
		await publishFiles(storage, { model: parseModelName(name), transferId: `download-${name}` });
	const rooms = { db, clock: systemClock, log: silentLog };
	const queue = await openQueue({ ...rooms, ids: systemIds }, { queue: "node", node: "node1" });
	const preload = openPreload({ ...rooms, clock });
	await before(preload);
	const gate = Promise.withResolvers<void>();
	queue.start({
		async copy({ request, taskId, signal }: TaskContext) {
			const model = parseModelName(String(request["model_name"]));
			const stopped = Promise.withResolvers<never>();
			signal.addEventListener("abort", () => stopped.reject(new Error("stopped")));
			using hold = storage.hold(model, REVISION, "disk", `task ${taskId}`, "copy");
			void hold;
			await Promise.race([gate.promise, stopped.promise]);
			const copy = await publishFiles(storage, {
				model,
				tier: "dram",
				transferId: taskId,
				...(request["purpose"] === "preload" ? { purpose: "preload" } : {}),
			});
			return { device: `node1:${copy.tier}` };
		},
	});
	const removal = {
		remove: ({ model_name }: { model_name: string }) =>
			storage.remove(parseModelName(model_name), REVISION, "dram"),
	};
	const preloading = createPreloading(
		{
			nodeName: "node1",
			preload,
			storage,
			queue,
			removal,
			rates: { secondsFor: (_line, bytes) => bytes / 1e9 },
			clock,
			log: silentLog,
		},
		{ mode, share: 0.5, fillTo: 1 },
	);
	preloading.start();
	return {
		storage,
		queue,
		preload,
		preloading,
		gate,
		inMemory: () => storage.copies().flatMap(({ tier, model_name }) => (tier === "dram" ? [model_name] : [])),
		hint(model, inS = 0) {
			const fromS = systemClock.nowMs() / 1000 + inS;
			return preloading.hint(parseModelName(model), { fromS, untilS: fromS + 600 });
		},
		async [Symbol.asyncDispose]() {
			gate.resolve();
			await preloading[Symbol.asyncDispose]();
			await preload[Symbol.asyncDispose]();
			await queue[Symbol.asyncDispose]();
			await held[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

function askFor(queue: Queue, model: string) {
	return queue.submit({
		type: "copy",
		model,
		request: { model_name: model, source_device: "node1:disk", target_device: "node1:dram" },
		priority: "normal",
		reservations: [{ key: "the memory", mode: "exclusive" }],
	});
}

const reasonOf = (work: Promise<unknown>): Promise<unknown> =>
	work.then(
		() => "accepted",
		(error: unknown) => asGswarmError(error).reason,
	);

test("a hinted model is brought into memory by a task of low priority, and the plan says so", async () => {
	await using s = await stand();
	s.gate.resolve();
	expect(await s.hint("a")).toMatchObject({ device: "node1:dram", decision: "start" });
	await until("it is in memory", () => s.inMemory().includes("a"));
	const [copy] = s.storage.copies().filter(({ tier }) => tier === "dram");
	expect(copy).toMatchObject({ purpose: "preload", last_used_at: null });
	const task = await until("its task has ended", () => s.queue.list({ status: "completed" })[0]);
	expect(task).toMatchObject({ task_type: "copy", priority: "low" });
	const plan = s.preloading.explain();
	expect(plan).toMatchObject({ device: "node1:dram", budget_bytes: DISK_BYTES, used_bytes: DISK_BYTES });
	expect(plan.models[0]).toMatchObject({ model_name: "a", decision: "there", hinted: true });
	expect(plan.models[1]).toMatchObject({ model_name: "b", decision: "no", why: "it was never used here" });
	expect(s.preloading.wanted("a")).toBe(true);
});

test("reading a model to bring it is no use of it; an engine that serves it is", async () => {
	await using s = await stand();
	s.gate.resolve();
	await s.hint("a");
	await until("it is in memory", () => s.inMemory().includes("a"));
	expect(s.preload.lastUsedS("a")).toBeUndefined();
	const [copy] = s.storage.copies().filter(({ tier }) => tier === "dram");
	if (copy === undefined) throw new Error("it is gone");
	s.storage.touch(copy, "serve");
	expect(s.preload.lastUsedS("a")).toBeGreaterThan(0);
	expect(s.preloading.explain().used_bytes).toBe(0);
});

test("a hint of later waits, and one that is taken back counts no more", async () => {
	await using s = await stand();
	s.gate.resolve();
	expect(await s.hint("a", 3600)).toMatchObject({ decision: "later" });
	expect(await s.preloading.dropHint(parseModelName("a"))).toBe(true);
	expect(s.preloading.explain().models[0]).toMatchObject({ decision: "no", hinted: false });
	expect(s.queue.list()).toEqual([]);
});

test("what is being brought is given up when somebody else's task waits for memory", async () => {
	await using s = await stand();
	await s.hint("a");
	const task = await until("it is being brought", () => s.queue.list({ status: "running" })[0]);
	// The first has what the second waits for.
	await askFor(s.queue, "b");
	await askFor(s.queue, "c");
	const ended = await s.queue.waitFor(task.task_id, AbortSignal.timeout(20_000));
	expect(ended.status).toBe("cancelled");
	s.gate.resolve();
	await until("the others are there", () => s.inMemory().length === 2);
	expect(s.inMemory().sort()).toEqual(["b", "c"]);
});

test("a copy that is in use or pinned does not make room for what is expected", async () => {
	await using s = await stand();
	s.gate.resolve();
	for (const name of ["b", "c"])
		await publishFiles(s.storage, { model: parseModelName(name), tier: "dram", transferId: `copy-${name}` });
	using hold = s.storage.hold(parseModelName("b"), REVISION, "dram", "a service", "serve");
	expect(hold).toBeDefined();
	await s.storage.pin(parseModelName("c"), REVISION, "dram", true);
	expect(await s.hint("a")).toMatchObject({ decision: "no", why: expect.stringContaining("no room") });
	await s.storage.pin(parseModelName("c"), REVISION, "dram", false);
	expect(await s.hint("a")).toMatchObject({ decision: "start", why: expect.stringContaining("c gives way") });
	await until("it has its place", () => s.inMemory().includes("a"));
	expect(s.inMemory().sort()).toEqual(["a", "b"]);
});

test.each(["auto", "hints"] as const)(
	"what was used at nine on the days before is there at nine by itself, or with mode %s it is only told",
	async (mode) => {
		const clock = new FakeClock(Date.UTC(2026, 0, 5, 9));
		const minute = 60_000;
		const before = async (preload: Preload): Promise<void> => {
			for (let day = 0; day < 3; day++) {
				for (const wait of [5, 15, 15]) {
					await clock.advance(wait * minute);
					preload.use("b");
				}
				await clock.advance((24 * 60 - 35) * minute);
			}
		};
		await using s = await stand(mode, { clock, before });
		s.gate.resolve();
		const plan = s.preloading.explain().models[0];
		expect(plan).toMatchObject({ model_name: "b", hinted: false });
		expect(plan?.expected_uses).toBeGreaterThan(1);
		if (mode === "hints") {
			expect(plan).toMatchObject({ decision: "no", why: expect.stringContaining("only hints") });
			expect(s.inMemory()).toEqual([]);
			return;
		}
		await until("it is in memory", () => s.inMemory().includes("b"));
		expect(s.inMemory()).toEqual(["b"]);
	},
);

test("a model that is on no disk of the node, and a node that brings nothing, refuse a hint", async () => {
	await using s = await stand("off");
	expect(await reasonOf(s.hint("a"))).toBe("preload_off");
	await using t = await stand();
	expect(await reasonOf(t.hint("nothing"))).toBe("model_not_found");
});
