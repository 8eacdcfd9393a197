import { expect, test } from "bun:test";
import { deviceReservation, modelReservation, queueModule } from "../../src/core/queue/queue.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { testQueue } from "./test-queue.ts";

const write = { reservations: [modelReservation("llama", "disk", "exclusive")] };
const read = { reservations: [modelReservation("llama", "disk", "shared")] };

test("readers of a model run together, and its writer runs alone", async () => {
	await using at = await testQueue();
	at.start();
	const readers = [await at.add(read), await at.add(read)];
	const writer = await at.add(write);
	for (const id of readers) await at.job(id);
	await at.clock.advance(1000);
	expect(at.jobs.has(writer)).toBe(false);
	expect(at.queue.get(writer).waiting_for).toBe(`model:llama@disk, held by ${readers.join(", ")}`);
	await at.finish(readers[0] ?? "");
	await at.clock.advance(1000);
	expect(at.jobs.has(writer)).toBe(false);
	await at.finish(readers[1] ?? "");
	await at.job(writer);
	const late = await at.add(read);
	await at.clock.advance(1000);
	expect(at.jobs.has(late)).toBe(false);
	await at.finish(writer);
	await at.finish(late);
});

test("what conflicts with nothing overtakes what waits", async () => {
	await using at = await testQueue();
	at.start();
	const first = await at.add(write);
	const second = await at.add(write);
	const other = await at.add({ reservations: [deviceReservation("gpu0", "exclusive")] });
	await at.job(other);
	expect(at.begun).toEqual([first, other]);
	await at.finish(first);
	await at.job(second);
});

test("a task takes all that it needs or nothing", async () => {
	await using at = await testQueue();
	at.start();
	const disk = await at.add({ reservations: [deviceReservation("disk", "exclusive")] });
	const both = await at.add({
		reservations: [deviceReservation("disk", "exclusive"), deviceReservation("dram", "exclusive")],
	});
	const dram = await at.add({ reservations: [deviceReservation("dram", "exclusive")] });
	await at.job(dram);
	await at.finish(dram);
	await at.finish(disk);
	await at.finish(both);
	expect(at.rows("SELECT * FROM queue_reservation")).toEqual([]);
});

test("what a failed, retried, or cancelled task held is free again", async () => {
	await using at = await testQueue();
	at.start();
	const failing = await at.add(write);
	const retried = await at.add(write);
	const cancelled = await at.add(write);
	const last = await at.add(write);
	(await at.job(failing)).fail(new Error("broken"));
	(await at.job(retried)).fail(new GswarmError("NETWORK_ERROR", "cut", { retryable: true }));
	const job = await at.job(cancelled);
	job.context.signal.addEventListener("abort", () => job.fail(job.context.signal.reason));
	await at.queue.cancel(cancelled);
	await at.job(last);
	expect(at.queue.get(retried).waiting_for).toStartWith("the next attempt at 2026-01-01T00:00:0");
});

test("a parked task that is cancelled leaves the line to the next", async () => {
	await using at = await testQueue();
	at.start();
	const holder = await at.add(write);
	const parked = await at.add(write);
	const next = await at.add(write);
	await at.job(holder);
	await at.queue.cancel(parked);
	await at.finish(holder);
	await at.finish(next);
});

test("a task woken for one thing and parked on another lets the next one pass", async () => {
	await using at = await testQueue();
	at.start();
	const a = await at.add({ reservations: [deviceReservation("gpu0", "exclusive")] });
	const b = await at.add({ reservations: [deviceReservation("gpu1", "exclusive")] });
	const both = await at.add({
		reservations: [deviceReservation("gpu0", "exclusive"), deviceReservation("gpu1", "exclusive")],
	});
	const next = await at.add({ reservations: [deviceReservation("gpu0", "exclusive")] });
	await at.job(a);
	await at.finish(a);
	await at.finish(next);
	expect(at.jobs.has(both)).toBe(false);
	await at.finish(b);
	await at.finish(both);
});

test("a stream of readers cannot keep a writer waiting for more than 16 of them", async () => {
	await using at = await testQueue();
	at.start();
	let current = await at.add(read);
	await at.job(current);
	const writer = await at.add({ ...write, priority: "low" });
	let passed = 0;
	for (; passed < 40; passed++) {
		const next = await at.add({ ...read, priority: "high" });
		await at.clock.advance(1);
		await at.finish(current);
		if (at.jobs.has(writer) || at.queue.get(writer).status === "running") break;
		current = next;
	}
	expect(passed).toBe(16);
	await at.finish(writer);
}, 60_000);

test("a writer that waits a minute is not passed any more, whichever of its two things is busy", async () => {
	await using at = await testQueue();
	at.start();
	const gpu = (index: number, mode: "shared" | "exclusive") => deviceReservation(`gpu${index}`, mode);
	const first = await at.add({ reservations: [gpu(0, "shared")] });
	const second = await at.add({ reservations: [gpu(1, "shared")] });
	const writer = await at.add({ reservations: [gpu(0, "exclusive"), gpu(1, "exclusive")] });
	await at.job(second);
	await at.clock.advance(60_000);
	const onFirst = await at.add({ reservations: [gpu(0, "shared")] });
	const onSecond = await at.add({ reservations: [gpu(1, "shared")] });
	await at.clock.advance(1000);
	expect([at.jobs.has(onFirst), at.jobs.has(onSecond)]).toEqual([false, false]);
	await at.finish(first);
	await at.finish(second);
	await at.finish(writer);
	await at.finish(onFirst);
	await at.finish(onSecond);
});

test("readers parked behind a waiting writer start when the writer is cancelled", async () => {
	await using at = await testQueue();
	at.start();
	await at.job(await at.add(read));
	const writer = await at.add(write);
	await at.clock.advance(60_000);
	const reader = await at.add(read);
	await at.clock.advance(1000);
	expect(at.jobs.has(reader)).toBe(false);
	await at.queue.cancel(writer);
	await at.job(reader);
});

test("a free task behind more blocked ones than one transaction looks at starts all the same", async () => {
	await using at = await testQueue();
	await at.add(write);
	await Promise.all(Array.from({ length: 2200 }, () => at.add(write)));
	const free = await at.add();
	at.start();
	await at.job(free);
}, 60_000);

test("thousands of tasks blocked on one thing are parked once, in several transactions, and cost later claims nothing", async () => {
	await using at = await testQueue();
	const holder = await at.add(write);
	const blocked = await Promise.all(Array.from({ length: 2500 }, () => at.add(write)));
	const claim = {
		queue: "node",
		epoch: 1,
		limits: { slots: 4, criticalSlots: 1 },
		tracksDevices: true,
		capacity: {},
		nowMs: at.clock.nowMs(),
	} as const;
	const first = await at.db.writer(queueModule).claim(claim);
	expect(first.claimed.map(({ task_id }) => task_id)).toEqual([holder]);
	expect(first.more).toBe(true);
	const parked =
		"SELECT count(*) AS count, max(bypassed) AS bypassed FROM queue_task WHERE parked_on IS NOT NULL";
	expect(at.rows<{ count: number }>(parked)[0]?.count).toBeLessThan(2100);
	const others = await Promise.all([1, 2, 3].map(() => at.add()));
	expect(await at.db.writer(queueModule).claim(claim)).toMatchObject({ more: false, claimed: { length: 3 } });
	expect(at.rows<object>(parked)).toEqual([{ count: blocked.length, bypassed: 0 }]);
	await using next = await at.afterDeath();
	next.start();
	for (const id of others) await next.finish(id);
	await next.finish(holder);
	await next.job(blocked[0] ?? "");
	expect(next.rows<object>(parked)).toEqual([{ count: blocked.length - 1, bypassed: 0 }]);
}, 60_000);
