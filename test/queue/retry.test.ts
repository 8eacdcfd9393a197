import { expect, test } from "bun:test";
import { modelReservation } from "../../src/core/queue/queue.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

async function failed(at: TestQueue, input: Parameters<TestQueue["add"]>[0] = {}): Promise<string> {
	const id = await at.add(input);
	(await at.job(id)).fail(new Error("broken"));
	await at.ended(id);
	return id;
}

test("a retry is a new task that does the same, and what failed stays as it was", async () => {
	await using at = await testQueue();
	at.start();
	const reservations = [modelReservation("llama", "disk", "exclusive")];
	const id = await failed(at, { priority: "high", request: { a: 1 }, reservations, maxAttempts: 2 });
	const before = at.queue.get(id);
	const { task, joined } = await at.queue.retry(id);
	expect(task.task_id).not.toBe(id);
	expect(joined).toBe(false);
	expect(task).toMatchObject({ task_type: "move", priority: "high", request: { a: 1 }, max_attempts: 2 });
	await at.finish(task.task_id);
	expect(at.queue.get(id)).toEqual({ ...before, retried_as: task.task_id });
	expect(at.queue.get(task.task_id)).toMatchObject({ retry_of: id, retried_as: null });
});

test("a second retry finds the first one while that waits or runs, and does it again when it failed too", async () => {
	await using at = await testQueue();
	at.start();
	const id = await failed(at);
	const first = await at.queue.retry(id);
	expect(await at.queue.retry(id)).toMatchObject({ joined: true, task: { task_id: first.task.task_id } });
	(await at.job(first.task.task_id)).fail(new Error("again"));
	await at.ended(first.task.task_id);
	const second = await at.queue.retry(id);
	expect(second.joined).toBe(false);
	await at.finish(second.task.task_id);
	await expect(at.queue.retry(id)).rejects.toMatchObject({
		status: 409,
		reason: "not_failed",
		details: { newest: second.task.task_id },
	});
});

test("only what failed or was cancelled can be retried", async () => {
	await using at = await testQueue();
	const waiting = await at.add();
	await expect(at.queue.retry(waiting)).rejects.toMatchObject({ reason: "not_failed" });
	await expect(at.queue.retry("nothing")).rejects.toMatchObject({ reason: "task_not_found" });
	await at.queue.cancel(waiting);
	expect((await at.queue.retry(waiting)).joined).toBe(false);
	at.start();
	const done = await at.add();
	await at.finish(done);
	await expect(at.queue.retry(done)).rejects.toMatchObject({ reason: "not_failed" });
});

test("a dependent is retried after what it depends on, and waits for that retry", async () => {
	await using at = await testQueue();
	at.start();
	const root = await at.add();
	const dependent = await at.add({ dependencies: [root] });
	(await at.job(root)).fail(new Error("broken"));
	await at.ended(dependent);
	await expect(at.queue.retry(dependent)).rejects.toMatchObject({
		code: "DEPENDENCY_FAILED",
		details: { dependency: root, root },
	});
	const again = (await at.queue.retry(root)).task.task_id;
	const { task } = await at.queue.retry(dependent);
	expect(task.dependencies).toEqual([again]);
	await at.finish(again);
	await at.finish(task.task_id);
});

test("the same Idempotency-Key makes one retry, even when that has failed since", async () => {
	await using at = await testQueue();
	at.start();
	const id = await failed(at);
	const first = await at.queue.retry(id, { idempotencyKey: "k" });
	(await at.job(first.task.task_id)).fail(new Error("again"));
	await at.ended(first.task.task_id);
	expect(await at.queue.retry(id, { idempotencyKey: "k" })).toMatchObject({
		joined: true,
		task: { task_id: first.task.task_id, status: "failed" },
	});
});
