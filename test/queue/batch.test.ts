import { expect, test } from "bun:test";
import type { BatchItem } from "../../src/core/queue/queue.ts";
import { testQueue } from "./test-queue.ts";

const item = (more: Partial<BatchItem> = {}): BatchItem => ({
	type: "move",
	model: "llama",
	request: {},
	priority: "normal",
	...more,
});

test("a batch is in line at once, in order, and its tasks wait for one another", async () => {
	await using at = await testQueue();
	at.start();
	const outside = await at.add();
	const { taskIds } = await at.queue.submitBatch([
		item(),
		item({ after: [0] }),
		item({ after: [0, 1], dependencies: [outside] }),
	]);
	expect(new Set(taskIds).size).toBe(3);
	const [first = "", second = "", third = ""] = taskIds;
	expect(at.queue.get(third).dependencies).toEqual([outside, first, second]);
	await at.job(first);
	expect(at.begun).toEqual([outside, first]);
	await at.finish(first);
	await at.finish(second);
	expect(at.jobs.has(third)).toBe(false);
	await at.finish(outside);
	await at.finish(third);
});

test("of a batch with one mistake nothing is there", async () => {
	await using at = await testQueue();
	const refused = async (items: BatchItem[], reason: string): Promise<void> => {
		await expect(at.queue.submitBatch(items)).rejects.toMatchObject({ status: 400, reason });
		expect(at.queue.list()).toEqual([]);
	};
	await refused([item(), item({ after: [1] })], "dependency_cycle");
	await refused([item({ after: [1] }), item()], "dependency_cycle");
	await refused([item(), item({ after: [7] })], "dependency_cycle");
	await refused([item(), item({ dependencies: ["nobody"] })], "unknown_dependency");
	await refused([item(), item({ after: Array.from({ length: 65 }, () => 0) })], "too_many_dependencies");
	await refused([], "bad_batch");
	await refused(
		Array.from({ length: 20_001 }, () => item()),
		"bad_batch",
	);
});

test("a batch that does not fit into the queue is refused as a whole", async () => {
	await using at = await testQueue({ maxPendingTasks: 5 });
	await at.add();
	await expect(at.queue.submitBatch(Array.from({ length: 5 }, () => item()))).rejects.toMatchObject({
		reason: "queue_full",
		status: 503,
		retryAfterS: 30,
	});
	await at.queue.submitBatch(Array.from({ length: 4 }, () => item()));
	expect(at.queue.counters().pending).toBe(5);
	await expect(at.add()).rejects.toMatchObject({ reason: "queue_full" });
});

test("the same key and the same batch give the same tasks, another batch is refused", async () => {
	await using at = await testQueue();
	const items = [item(), item({ after: [0] }), item({ model: "other" })];
	const first = await at.queue.submitBatch(items, { idempotencyKey: "k" });
	await at.add();
	expect(await at.queue.submitBatch(items, { idempotencyKey: "k" })).toEqual(first);
	await expect(
		at.queue.submitBatch([...items.slice(0, 1), item()], { idempotencyKey: "k" }),
	).rejects.toMatchObject({ status: 409, reason: "idempotency_mismatch" });
	expect(at.queue.counters().pending).toBe(4);
});
