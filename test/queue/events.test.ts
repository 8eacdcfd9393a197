import { expect, test } from "bun:test";
import type { FollowItem, TaskEvent } from "../../src/core/queue/queue.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

/** Reads until it has so many events. */
async function read(items: AsyncIterable<FollowItem>, count: number): Promise<TaskEvent[]> {
	const events: TaskEvent[] = [];
	if (count === 0) return events;
	for await (const item of items) {
		if (item.kind === "event") events.push(item.event);
		if (events.length === count) break;
	}
	return events;
}

async function storm(at: TestQueue, tasks: number): Promise<void> {
	const ids = await Promise.all(Array.from({ length: tasks }, () => at.add()));
	for (const id of ids) await at.finish(id);
}

test("a task's changes are told in order, each with its reason, and what came before can be read again", async () => {
	await using at = await testQueue();
	using signal = abortable();
	const told = read(at.queue.follow({ signal: signal.signal }), 6);
	await at.clock.advance(0);
	at.start();
	const id = await at.add();
	(await at.job(id)).fail(new GswarmError("NETWORK_ERROR", "cut", { reason: "cut", retryable: true }));
	await at.clock.advance(5000);
	await at.finish(id);
	const events = await told;
	expect(events.map(({ from, state, reason, attempt }) => [from, state, reason, attempt])).toEqual([
		[null, "pending", null, 0],
		["pending", "running", null, 1],
		["running", "retry_wait", "cut", 1],
		["pending", "pending", null, 1],
		["pending", "running", null, 2],
		["running", "completed", null, 2],
	]);
	expect(at.queue.events({ after: 0 }).events).toEqual(events);
	expect(at.queue.newestEventId()).toBe(events.at(-1)?.id ?? 0);
});

test("a reader that broke off goes on after the last event that it saw, and misses none", async () => {
	await using at = await testQueue();
	at.start();
	await storm(at, 30);
	using signal = abortable();
	const first = await read(at.queue.follow({ after: 0, signal: signal.signal }), 17);
	await storm(at, 30);
	const second = read(at.queue.follow({ after: first.at(-1)?.id, signal: signal.signal }), 3 * 80 - 17);
	await storm(at, 20);
	const ids = [...first, ...(await second)].map(({ id }) => id);
	expect(ids).toEqual(Array.from({ length: 3 * 80 }, (_, n) => n + 1));
});

test("a slow reader gets everything once and in order, however far it falls behind", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 50 });
	at.start({ move: () => Promise.resolve({}) });
	using signal = abortable();
	const seen: number[] = [];
	const reading = (async () => {
		for await (const item of at.queue.follow({ after: 0, signal: signal.signal })) {
			if (item.kind === "event") seen.push(item.event.id);
			if (seen.length === 2400) break;
			if (seen.length % 100 === 0) await at.clock.sleep(1000);
		}
	})();
	for (let round = 0; round < 8; round++) {
		await Promise.all(Array.from({ length: 100 }, () => at.add()));
		await at.clock.advance(10);
	}
	for (let turn = 0; turn < 100 && seen.length < 2400; turn++) await at.clock.advance(1000);
	await reading;
	expect(seen).toEqual(Array.from({ length: 2400 }, (_, n) => n + 1));
}, 60_000);

test("who follows one task hears of no other", async () => {
	await using at = await testQueue();
	const [one, other] = [await at.add(), await at.add()];
	at.start();
	using signal = abortable();
	const told = read(at.queue.follow({ after: 0, taskId: other, signal: signal.signal }), 3);
	await at.finish(one);
	await at.finish(other);
	expect((await told).map(({ task_id, state }) => [task_id === other, state])).toEqual([
		[true, "pending"],
		[true, "running"],
		[true, "completed"],
	]);
});

test("two queues in one database do not hear each other", async () => {
	await using at = await testQueue();
	const { openQueue } = await import("../../src/core/queue/queue.ts");
	const { systemIds } = await import("../../src/platform/ids.ts");
	const { silentLog } = await import("../../src/platform/log.ts");
	await using host = await openQueue(
		{ db: at.db, clock: at.clock, ids: systemIds, log: silentLog },
		{ queue: "host", node: "host" },
	);
	await at.add();
	await host.submit({ type: "copy", model: "m", request: {}, priority: "normal" });
	expect(at.queue.events({ after: 0 }).events.map(({ id }) => id)).toEqual([1]);
	expect(host.events({ after: 0 })).toMatchObject({ events: [{ id: 2 }], lastId: 2, gap: false });
});

test("a reader is told when events are gone that it has not seen, and of an id that never was", async () => {
	await using at = await testQueue({ retention: { tasksMs: 1e12, maxTasks: 1e6, eventsMs: 60_000 } });
	at.start();
	await storm(at, 3);
	await at.clock.advance(20 * 60_000);
	await storm(at, 1);
	const page = at.queue.events({ after: 2 });
	expect(page.gap).toBe(true);
	expect(page.events.at(-1)).toMatchObject({ id: 12, state: "completed" });
	for (const after of [2, 999]) {
		using signal = abortable();
		const items = at.queue.follow({ after, signal: signal.signal })[Symbol.asyncIterator]();
		expect((await items.next()).value).toEqual({ kind: "gap" });
		signal.abort();
		for (let end = false; !end; ) ({ done: end = false } = await items.next());
	}
});

test("a stream ends when its reader or the queue does", async () => {
	const at = await testQueue();
	using signal = abortable();
	const mine = read(at.queue.follow({ signal: signal.signal }), 1);
	const others = read(at.queue.follow({ signal: new AbortController().signal }), 1);
	await at.clock.advance(0);
	signal.abort();
	expect(await mine).toEqual([]);
	await at[Symbol.asyncDispose]();
	expect(await others).toEqual([]);
});

function abortable() {
	const controller = new AbortController();
	return {
		signal: controller.signal,
		abort: () => controller.abort(),
		[Symbol.dispose]: () => controller.abort(),
	};
}
