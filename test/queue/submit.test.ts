import { expect, test } from "bun:test";
import { deviceReservation, openQueue } from "../../src/core/queue/queue.ts";
import { newSuffix } from "../../src/core/queue/submission.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { parseTaskId } from "../../src/schema/names.ts";
import { taskSchema } from "../../src/schema/task.ts";
import { until } from "../support/until.ts";
import { testQueue } from "./test-queue.ts";

const HOUR_MS = 3_600_000;
const exclusive = { reservations: [deviceReservation("disk", "exclusive")] };

test("a submitted task is a pending document that says what was asked", async () => {
	await using at = await testQueue();
	const resources = { devices: ["node1:disk"], models: ["org/llama-7b"], exclusive: false };
	const { task, joined, position, estimatedTimeS } = await at.submit({
		type: "download",
		model: "org/llama-7b",
		request: { source_url: "hf:org/llama-7b" },
		priority: "high",
		resources,
	});
	expect(taskSchema.parse(task)).toEqual(task);
	expect(task).toMatchObject({
		task_type: "download",
		status: "pending",
		phase: "queued",
		priority: "high",
		resources,
		node: "node1",
		attempt: 0,
		max_attempts: 8,
		created_at: Date.UTC(2026, 0, 1) / 1000,
		request: { source_url: "hf:org/llama-7b" },
	});
	expect({ joined, position, estimatedTimeS }).toEqual({ joined: false, position: 1, estimatedTimeS: 0 });
	expect(task.task_id).toStartWith("download-org-llama-7b-");
	expect(parseTaskId(task.task_id) as string).toBe(task.task_id);
	expect(at.queue.get(task.task_id)).toEqual(task);
});

test("every model name gives a task id that the API accepts", async () => {
	await using at = await testQueue();
	for (const model of [
		"a",
		`${"x".repeat(96)}/${"y".repeat(96)}/${"z".repeat(96)}`,
		"a.b/c_d",
		"...",
		"über",
	]) {
		const id = await at.add({ model });
		expect(parseTaskId(id) as string).toBe(id);
	}
});

test("tasks run by priority and in order of submission inside one", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	const low = await at.add({ priority: "low" });
	const normal = await at.add();
	const second = await at.add();
	const high = await at.add({ priority: "high" });
	expect(at.queue.list().map(({ task_id }) => task_id)).toEqual([high, normal, second, low]);
	at.start();
	for (const id of [high, normal, second, low]) await at.finish(id);
	expect(at.begun).toEqual([high, normal, second, low]);
});

test("no more tasks run than may, and one critical task besides", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 2 });
	at.start();
	const ids = [await at.add(), await at.add(), await at.add()];
	const critical = [await at.add({ priority: "critical" }), await at.add({ priority: "critical" })];
	await until("three begin", () => at.jobs.size === 3);
	await at.clock.advance(1000);
	expect(at.begun).toEqual([...ids.slice(0, 2), critical[0] ?? ""]);
	expect(at.queue.counters()).toEqual({ pending: 2, running: 3, completed: 0 });
	expect(at.queue.get(ids[2] ?? "").waiting_for).toBe("a free slot: 3 tasks run, and 2 may");
});

test("a task that waited ten minutes goes before a fresh one of higher priority", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	const low = await at.add({ priority: "low" });
	await at.clock.advance(10 * 60_000);
	const high: string[] = [];
	for (let count = 0; count < 5; count++) high.push(await at.add({ priority: "high" }));
	at.start();
	for (const id of [low, ...high]) await at.finish(id);
	expect(at.begun).toEqual([low, ...high]);
});

test("place in line and estimated time come from the line and from what tasks took", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	at.start();
	const first = await at.add();
	await at.job(first);
	await at.clock.advance(8000);
	await at.finish(first);
	const running = await at.add();
	await at.job(running);
	expect(await at.submit()).toMatchObject({ position: 1, estimatedTimeS: 16 });
	expect(await at.submit()).toMatchObject({ position: 2, estimatedTimeS: 24 });
	expect(await at.submit({ priority: "high" })).toMatchObject({ position: 1 });
});

test("the same Idempotency-Key gives the same task for a day, and another request with it is refused", async () => {
	await using at = await testQueue();
	const asked = { idempotencyKey: "k", request: { a: 1, b: { c: 2, d: 3 } } };
	const id = await at.add(asked);
	const again = await at.submit({ ...asked, request: { b: { d: 3, c: 2 }, a: 1 } });
	expect(again).toMatchObject({ joined: true, task: { task_id: id } });
	await expect(at.submit({ ...asked, request: { a: 2 } })).rejects.toMatchObject({
		code: "CONFLICT",
		status: 409,
		reason: "idempotency_mismatch",
		details: { task_id: id },
	});
	await at.clock.advance(24 * HOUR_MS - 1);
	expect(await at.add(asked)).toBe(id);
	await at.clock.advance(1);
	expect(await at.add(asked)).not.toBe(id);
});

test("the same Idempotency-Key still names its task when that has ended", async () => {
	await using at = await testQueue();
	const id = await at.add({ idempotencyKey: "k" });
	await at.queue.cancel(id);
	expect(await at.submit({ idempotencyKey: "k" })).toMatchObject({
		joined: true,
		position: 0,
		task: { task_id: id, status: "cancelled" },
	});
});

test("a live task with the same join key is joined and takes the more urgent priority", async () => {
	await using at = await testQueue();
	const id = await at.add({ joinKey: "llama@disk", priority: "low" });
	const joined = await at.submit({ joinKey: "llama@disk", priority: "high" });
	expect(joined).toMatchObject({ joined: true, position: 1, task: { task_id: id, priority: "high" } });
	expect(await at.add({ joinKey: "other@disk" })).not.toBe(id);
	at.start();
	await at.finish(id);
	expect(await at.add({ joinKey: "llama@disk" })).not.toBe(id);
});

test("of a joined task a cancel takes one waiter away, and the last one ends it", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ joinKey: "llama@disk" });
	await at.submit({ joinKey: "llama@disk" });
	const job = await at.job(id);
	expect(await at.queue.cancel(id)).toMatchObject({ status: "running" });
	expect(job.context.signal.aborted).toBe(false);
	job.context.signal.addEventListener("abort", () => job.fail(job.context.signal.reason));
	expect(await at.queue.cancel(id)).toMatchObject({ status: "cancelled" });
});

test("a task that is being cancelled is not joined", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ joinKey: "llama@disk" });
	const job = await at.job(id);
	const answer = at.queue.cancel(id);
	await until("it is told", () => job.context.signal.aborted);
	expect(await at.add({ joinKey: "llama@disk" })).not.toBe(id);
	job.fail(new Error("told"));
	await answer;
});

test("a full queue refuses with 503 and takes tasks again when one has gone", async () => {
	await using at = await testQueue({ maxPendingTasks: 2 });
	const id = await at.add();
	await at.add();
	await expect(at.add()).rejects.toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		status: 503,
		reason: "queue_full",
		retryAfterS: 30,
		retryable: true,
	});
	expect(at.queue.counters().pending).toBe(2);
	await at.queue.cancel(id);
	await at.add();
});

test("two queues of one database know nothing of each other", async () => {
	await using node = await testQueue();
	const { db, clock } = node;
	await using host = await openQueue(
		{ db, clock, ids: systemIds, log: silentLog },
		{ queue: "host", node: "node1" },
	);
	const id = await node.add(exclusive);
	const { task } = await host.submit({
		type: "copy",
		model: "llama",
		request: {},
		priority: "low",
		...exclusive,
	});
	expect(() => host.get(id)).toThrow("There is no task");
	expect(host.counters().pending).toBe(1);
	expect(host.list().map(({ task_id }) => task_id)).toEqual([task.task_id]);
	host.start({ copy: () => Promise.resolve({ ok: true }) });
	node.start();
	await node.job(id);
	expect(await host.waitFor(task.task_id, AbortSignal.timeout(20_000))).toMatchObject({
		result: { ok: true },
	});
});

test("an unknown task is 404", async () => {
	await using at = await testQueue();
	expect(() => at.queue.get("move-x-1")).toThrow(
		expect.objectContaining({ status: 404, reason: "task_not_found" }),
	);
	await expect(at.queue.cancel("move-x-1")).rejects.toMatchObject({ status: 404, reason: "task_not_found" });
	await expect(at.queue.waitFor("move-x-1", new AbortController().signal)).rejects.toMatchObject({
		status: 404,
	});
});

test("as many tasks as may come within one millisecond have ids of their own", () => {
	const suffixes = Array.from({ length: 100_000 }, () => newSuffix(systemIds, 1_795_442_712_000));
	expect(new Set(suffixes).size).toBe(suffixes.length);
});
