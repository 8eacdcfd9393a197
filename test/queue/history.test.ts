import { expect, test } from "bun:test";
import { type TestQueue, testQueue } from "./test-queue.ts";

/** Ends one task per second: completed, failed, cancelled in turn. */
async function endMany(at: TestQueue, count: number): Promise<string[]> {
	const ids: string[] = [];
	for (let done = 0; done < count; done++) {
		await at.clock.advance(1000);
		const id = await at.add({ model: `model-${done % 2}` });
		ids.push(id);
		at.start();
		const job = await at.job(id);
		if (done % 3 === 0) job.finish();
		else if (done % 3 === 1) job.fail(new Error("broken"));
		else {
			job.context.signal.addEventListener("abort", () => job.fail(new Error("told")));
			await at.queue.cancel(id);
		}
		await at.ended(id);
	}
	return ids;
}

test("finished tasks come newest first, in pages without gaps or repeats, also of one second", async () => {
	await using at = await testQueue();
	const ids = await endMany(at, 7);
	for (const _ of [1, 2, 3]) {
		const id = await at.add();
		ids.push(id);
		await at.finish(id);
	}
	const seen: string[] = [];
	let cursor: string | undefined;
	do {
		const page = at.queue.history({ limit: 3, cursor });
		expect(page.tasks.length).toBeLessThanOrEqual(3);
		seen.push(...page.tasks.map(({ task_id }) => task_id));
		cursor = page.next_cursor ?? undefined;
	} while (cursor !== undefined);
	expect(seen).toEqual(ids.reverse());
});

test("a page that is just full is the last one", async () => {
	await using at = await testQueue();
	await endMany(at, 3);
	expect(at.queue.history({ limit: 3 }).next_cursor).toBeNull();
	expect(at.queue.history({ limit: 2 }).next_cursor).not.toBeNull();
});

test("history is filtered by status and by time", async () => {
	await using at = await testQueue();
	const ids = await endMany(at, 9);
	const idsOf = (filter: Parameters<TestQueue["queue"]["history"]>[0]): string[] =>
		at.queue.history(filter).tasks.map(({ task_id }) => task_id);
	expect(idsOf({ status: "failed" })).toEqual(ids.filter((_, index) => index % 3 === 1).reverse());
	expect(idsOf({ status: "cancelled", limit: 1 })).toEqual(ids.slice(8));
	const since = Date.UTC(2026, 0, 1) / 1000 + 8;
	expect(idsOf({ since })).toEqual(ids.slice(7).reverse());
	expect(idsOf({ since, status: "completed" })).toEqual([]);
});

test("history is filtered by type", async () => {
	await using at = await testQueue();
	const [id] = await endMany(at, 1);
	const type = at.queue.get(id ?? "").task_type;
	const other = type === "copy" ? "delete" : "copy";
	expect(at.queue.history({ type }).tasks.map((t) => t.task_id)).toEqual([id ?? ""]);
	expect(at.queue.history({ type: other }).tasks).toEqual([]);
});

test("a live task is in the list and not in the history", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	const [ended] = await endMany(at, 1);
	at.start();
	const running = await at.add({ model: "a" });
	await at.job(running);
	const pending = await at.add({ model: "b", type: "delete", priority: "high" });
	const ids = (filter: Parameters<TestQueue["queue"]["list"]>[0]): string[] =>
		at.queue.list(filter).map(({ task_id }) => task_id);
	expect(ids({})).toEqual([running, pending]);
	expect(ids({ status: "running" })).toEqual([running]);
	expect(ids({ status: "pending" })).toEqual([pending]);
	expect(ids({ status: "completed" })).toEqual([ended ?? ""]);
	expect(ids({ type: "delete" })).toEqual([pending]);
	expect(ids({ model: "a" })).toEqual([running]);
	expect(ids({ limit: 1 })).toEqual([running]);
	expect(at.queue.history().tasks).toHaveLength(1);
});

test("completed tasks are counted since the start", async () => {
	await using at = await testQueue();
	await endMany(at, 4);
	expect(at.queue.counters()).toEqual({ pending: 0, running: 0, completed: 2 });
	await using next = await at.afterDeath();
	expect(next.queue.counters().completed).toBe(0);
	expect(next.queue.history().tasks).toHaveLength(4);
});

test("a cursor that no page gave is refused", async () => {
	await using at = await testQueue();
	for (const cursor of ["", "x", Buffer.from("1.2.3").toString("base64url"), "9".repeat(400)]) {
		expect(() => at.queue.history({ cursor })).toThrow(
			expect.objectContaining({ status: 400, reason: "bad_cursor" }),
		);
	}
});
