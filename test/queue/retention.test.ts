import { expect, test } from "bun:test";
import { testQueue } from "./test-queue.ts";

const DAY_MS = 24 * 60 * 60_000;
const retention = { tasksMs: 10 * DAY_MS, maxTasks: 1_000_000, eventsMs: DAY_MS };

test("finished tasks go after their time, live ones and what they depend on stay", async () => {
	await using at = await testQueue({ retention });
	at.start();
	const old = await at.add();
	const needed = await at.add();
	await at.finish(old);
	await at.finish(needed);
	const hold = await at.add();
	const dependent = await at.add({ dependencies: [needed, hold] });
	await at.clock.advance(10 * DAY_MS + 30 * 60_000);
	expect(at.queue.history().tasks.map(({ task_id }) => task_id)).toEqual([needed]);
	expect(at.queue.get(dependent).dependencies).toEqual([needed, hold]);
	expect(() => at.queue.get(old)).toThrow(expect.objectContaining({ reason: "task_not_found" }));
	await at.finish(hold);
	await at.finish(dependent);
	await at.clock.advance(12 * DAY_MS);
	expect(at.queue.history().tasks).toEqual([]);
	expect(at.rows("SELECT * FROM queue_dependency")).toEqual([]);
	expect(at.queue.counters()).toEqual({ pending: 0, running: 0, completed: 4 });
});

test("the newest finished tasks stay when there are too many", async () => {
	await using at = await testQueue({ retention: { ...retention, maxTasks: 3 } });
	at.start({ move: () => Promise.resolve({}) });
	const ids: string[] = [];
	for (let n = 0; n < 8; n++) {
		ids.push(await at.add());
		await at.ended(ids.at(-1) ?? "");
		await at.clock.advance(1);
	}
	await at.clock.advance(11 * 60_000);
	expect(at.queue.history().tasks.map(({ task_id }) => task_id)).toEqual(ids.slice(-3).reverse());
});

test("events and spent Idempotency-Keys go, and the newest event stays so that ids go on", async () => {
	await using at = await testQueue({ retention });
	at.start();
	const id = await at.add({ idempotencyKey: "k" });
	await at.finish(id);
	await at.clock.advance(2 * DAY_MS);
	expect(at.rows("SELECT id FROM queue_event")).toEqual([{ id: 3 }]);
	expect(at.rows("SELECT * FROM queue_idempotency")).toEqual([]);
	await at.add();
	expect(at.queue.newestEventId()).toBe(5);
});

test("thousands that are too old go in slices, and tasks run in between", async () => {
	await using at = await testQueue({ retention, maxConcurrentTasks: 500 });
	at.start({ move: () => Promise.resolve({}) });
	const { taskIds } = await at.queue.submitBatch(
		Array.from(
			{ length: 1700 },
			() => ({ type: "move", model: "m", request: {}, priority: "normal" }) as const,
		),
	);
	await at.ended(taskIds.at(-1) ?? "");
	await at.clock.advance(11 * DAY_MS);
	expect(at.queue.history().tasks).toEqual([]);
}, 60_000);
