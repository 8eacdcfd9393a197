import { expect, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { testQueue } from "./test-queue.ts";

const FAR = { taskId: "download-far-1", place: "node2" };
const OTHER = { taskId: "download-far-2", place: "node3" };

test("a task waits for tasks of other queues until it is told that all of them have completed", async () => {
	await using at = await testQueue();
	at.start();
	const here = await at.add();
	const id = await at.add({ dependencies: [here], elsewhere: [FAR, OTHER] });
	expect(at.queue.awaited()).toEqual([FAR, OTHER]);
	expect(at.queue.get(id)).toMatchObject({
		status: "pending",
		dependencies: [here, FAR.taskId, OTHER.taskId],
		waiting_for: `dependencies: ${here} (running), ${FAR.taskId} (pending), ${OTHER.taskId} (pending)`,
	});
	expect(at.queue.explain(id).obstacles).toMatchObject([
		{ kind: "dependency", task_id: here },
		{ kind: "dependency", task_id: FAR.taskId, status: "pending" },
		{ kind: "dependency", task_id: OTHER.taskId, status: "pending" },
	]);
	await at.queue.heard(FAR.taskId, { status: "completed", root: FAR.taskId });
	// Told twice, as after a crash in between.
	await at.queue.heard(FAR.taskId, { status: "completed", root: FAR.taskId });
	await at.finish(here);
	expect(at.queue.awaited()).toEqual([OTHER]);
	expect(at.jobs.has(id)).toBe(false);
	await using next = await at.afterDeath();
	expect(next.queue.awaited()).toEqual([OTHER]);
	next.start();
	await next.queue.heard(OTHER.taskId, { status: "completed", root: OTHER.taskId });
	await next.finish(id);
	expect(next.queue.get(id).dependencies).toEqual([here, FAR.taskId, OTHER.taskId]);
	expect(next.queue.awaited()).toEqual([]);
});

test("the failure of a task of another queue fails all that follow from it, naming where it began", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ elsewhere: [FAR] });
	const both = await at.add({ dependencies: [id], elsewhere: [FAR] });
	const last = await at.add({ dependencies: [both] });
	const free = await at.add({ elsewhere: [OTHER] });
	await at.queue.heard(FAR.taskId, { status: "failed", root: "download-far-0" });
	for (const [task, dependency] of [
		[id, FAR.taskId],
		[both, id],
		[last, both],
	] as const) {
		expect(at.queue.get(task)).toMatchObject({
			status: "failed",
			error: { code: "DEPENDENCY_FAILED", details: { root: "download-far-0", dependency } },
		});
	}
	expect(at.queue.get(free).status).toBe("pending");
	expect(at.queue.awaited()).toEqual([OTHER]);
	expect(at.begun).toEqual([]);
});

test("a cancelled task waits for nothing any more", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ elsewhere: [FAR] });
	await at.queue.cancel(id);
	expect(at.queue.awaited()).toEqual([]);
	await at.queue.heard(FAR.taskId, { status: "completed", root: FAR.taskId });
	expect(at.queue.get(id).status).toBe("cancelled");
});

test("a retry waits for what does the failed task of the other queue again, and for no failed one", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ elsewhere: [FAR, OTHER] });
	await at.queue.heard(OTHER.taskId, { status: "completed", root: OTHER.taskId });
	await at.queue.heard(FAR.taskId, { status: "cancelled", root: FAR.taskId });
	expect(at.queue.get(id).status).toBe("failed");
	expect(await at.queue.retry(id).catch(asGswarmError)).toMatchObject({
		status: 424,
		details: { dependency: FAR.taskId },
	});
	const again = { taskId: "download-far-9", place: "node2" };
	const { task } = await at.queue.retry(id, { again: { [FAR.taskId]: again } });
	expect(at.queue.awaited()).toEqual([again]);
	await at.queue.heard(again.taskId, { status: "completed", root: again.taskId });
	await at.finish(task.task_id);
});

test("no more than 64 dependencies, wherever they are", async () => {
	await using at = await testQueue();
	const elsewhere = Array.from({ length: 64 }, (_, n) => ({ taskId: `far-${n}`, place: "node2" }));
	const here = await at.add();
	await at.add({ elsewhere });
	expect(await at.submit({ elsewhere, dependencies: [here] }).catch(asGswarmError)).toMatchObject({
		status: 400,
		reason: "too_many_dependencies",
	});
});

test("the same Idempotency-Key with other tasks elsewhere is another request", async () => {
	await using at = await testQueue();
	const first = await at.add({ idempotencyKey: "k1", elsewhere: [FAR] });
	expect(await at.add({ idempotencyKey: "k1", elsewhere: [FAR] })).toBe(first);
	expect(await at.submit({ idempotencyKey: "k1", elsewhere: [OTHER] }).catch(asGswarmError)).toMatchObject({
		status: 409,
		reason: "idempotency_mismatch",
	});
});
