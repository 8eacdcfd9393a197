import { expect, test } from "bun:test";
import { historyCursor, pageCursor } from "../../src/core/queue/queue.ts";
import { PRIORITIES } from "../../src/schema/task.ts";
import { testQueue } from "./test-queue.ts";

test("pages of unfinished tasks give every one once, running ones first, then the line in order", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 2 });
	at.start();
	for (let n = 0; n < 12; n++) await at.add({ priority: PRIORITIES[n % 4] ?? "low" });
	const all = at.queue.list();
	expect(all.map(({ status }) => status).lastIndexOf("running")).toBe(2);
	const seen: string[] = [];
	let cursor: string | undefined;
	do {
		const page = at.queue.page({ limit: 5, cursor });
		expect(page.total).toBe(12);
		seen.push(...page.tasks.map(({ task_id }) => task_id));
		const last = page.tasks.at(-1);
		if (page.next_cursor !== null && last !== undefined) expect(pageCursor(last)).toBe(page.next_cursor);
		cursor = page.next_cursor ?? undefined;
	} while (cursor !== undefined);
	expect(seen).toEqual(all.map(({ task_id }) => task_id));
});

test("a page says how many fit its filter", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	at.start();
	await at.job(await at.add({ type: "copy", priority: "high" }));
	for (let n = 0; n < 4; n++) await at.add({ priority: n < 3 ? "high" : "low", model: `m${n}` });
	expect(at.queue.page({ status: "pending", limit: 1 }).total).toBe(4);
	expect(at.queue.page({ status: "running" }).total).toBe(1);
	expect(at.queue.page({ priority: "high" }).total).toBe(4);
	expect(at.queue.page({ priority: "high", status: "pending" })).toMatchObject({
		total: 3,
		next_cursor: null,
	});
	expect(at.queue.page({ type: "copy" })).toMatchObject({ total: 1, tasks: [{ task_type: "copy" }] });
	expect(at.queue.page({ model: "m3" })).toMatchObject({ total: 1, tasks: [{ priority: "low" }] });
	expect(at.queue.page({ type: "copy", status: "pending" })).toMatchObject({ total: 0, tasks: [] });
});

test("a cursor that no page gave is refused", async () => {
	await using at = await testQueue();
	for (const cursor of [
		"",
		"x",
		Buffer.from("2.0.1").toString("base64url"),
		historyCursor({ completed_at: 1, seq: 2 }),
	])
		expect(() => at.queue.page({ cursor })).toThrow(expect.objectContaining({ reason: "bad_cursor" }));
});

test("the history goes on after any of its tasks", async () => {
	await using at = await testQueue();
	at.start();
	for (let n = 0; n < 5; n++) {
		await at.finish(await at.add());
		await at.clock.advance(n % 2);
	}
	const { tasks } = at.queue.history();
	for (const [place, task] of tasks.entries())
		expect(at.queue.history({ cursor: historyCursor(task) }).tasks).toEqual(tasks.slice(place + 1));
});
