import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Fence, nextFence } from "../../src/core/queue/fence.ts";
import { checkFence } from "../../src/core/queue/queue.ts";
import { testQueue } from "./test-queue.ts";

const fence: fc.Arbitrary<Fence> = fc.record({ hostEpoch: fc.nat(4), n: fc.nat(4) });

test("of two tokens the epoch counts first, then the number, and the next one is later than every one before", () => {
	fc.assert(
		fc.property(fence, fence, fc.nat(9), (one, other, epoch) => {
			const verdict = checkFence(one, other);
			const later = other.hostEpoch * 100 + other.n - (one.hostEpoch * 100 + one.n);
			expect(verdict).toBe(later === 0 ? "same" : later > 0 ? "new" : "stale");
			expect(checkFence(undefined, one)).toBe("new");
			if (epoch >= one.hostEpoch) expect(checkFence(one, nextFence(one, epoch))).toBe("new");
		}),
	);
});

const dispatch = (hostEpoch: number, n: number) => ({
	dispatch: { operationId: "copy-llama-1/pull", fence: { hostEpoch, n } },
});

test("a dispatch that is sent again finds its task, and an earlier one is refused", async () => {
	await using at = await testQueue();
	at.start();
	const first = await at.submit(dispatch(1, 2));
	expect(await at.submit(dispatch(1, 2))).toMatchObject({
		joined: true,
		task: { task_id: first.task.task_id },
	});
	expect(await at.submit(dispatch(2, 1))).toMatchObject({
		joined: true,
		task: { task_id: first.task.task_id },
	});
	for (const [hostEpoch, n] of [
		[1, 2],
		[1, 99],
		[2, 0],
	] as const) {
		await expect(at.submit(dispatch(hostEpoch, n))).rejects.toMatchObject({
			status: 409,
			reason: "stale_token",
			details: { host_epoch: 2, n: 1 },
		});
	}
	expect(at.queue.dispatches()).toEqual([
		{
			taskId: first.task.task_id,
			dispatch: { operationId: "copy-llama-1/pull", fence: { hostEpoch: 2, n: 1 } },
		},
	]);
	// Sent three times, asked for once: one cancel ends it.
	await at.finish(first.task.task_id);
	expect(at.queue.dispatches()).toEqual([]);
	expect(await at.submit(dispatch(3, 1))).toMatchObject({ joined: true, task: { status: "completed" } });
	expect(at.begun).toHaveLength(1);
});

test("what was cancelled here is not begun again, whatever the host sends", async () => {
	await using at = await testQueue();
	const { task } = await at.submit(dispatch(1, 1));
	await at.queue.cancel(task.task_id);
	for (const epoch of [1, 2])
		await expect(at.submit(dispatch(epoch, 5))).rejects.toMatchObject({
			reason: "cancelled_here",
			details: { task_id: task.task_id },
		});
	expect(at.queue.list()).toEqual([]);
});

test("what failed is done again for a later dispatch only", async () => {
	await using at = await testQueue();
	at.start();
	const { task } = await at.submit(dispatch(1, 1));
	(await at.job(task.task_id)).fail(new Error("broken"));
	await at.ended(task.task_id);
	expect(await at.submit(dispatch(1, 1))).toMatchObject({ joined: true, task: { status: "failed" } });
	const again = await at.submit(dispatch(1, 2));
	expect(again).toMatchObject({ joined: false });
	expect(at.queue.dispatched("copy-llama-1/pull")).toMatchObject({
		task: { task_id: again.task.task_id },
		fence: { hostEpoch: 1, n: 2 },
	});
});

test("a dispatch that joins a live task is bound to it, and sent again it is no further waiter", async () => {
	await using at = await testQueue();
	const mine = await at.submit({ joinKey: "download x" });
	for (let times = 0; times < 3; times++)
		expect(await at.submit({ joinKey: "download x", ...dispatch(1, 1) })).toMatchObject({
			task: { task_id: mine.task.task_id },
		});
	await at.queue.cancel(mine.task.task_id);
	expect(at.queue.get(mine.task.task_id).status).toBe("pending");
	await at.queue.cancel(mine.task.task_id);
	expect(at.queue.get(mine.task.task_id).status).toBe("cancelled");
});

test("a later token counts from when the host asks with it, and nobody takes it back", async () => {
	await using at = await testQueue();
	const { task } = await at.submit(dispatch(1, 1));
	const operationId = "copy-llama-1/pull";
	expect(await at.queue.fence({ operationId: "nothing", fence: { hostEpoch: 1, n: 1 } })).toBeUndefined();
	expect(await at.queue.fence({ operationId, fence: { hostEpoch: 4, n: 1 } })).toMatchObject({
		task_id: task.task_id,
	});
	await expect(at.queue.fence({ operationId, fence: { hostEpoch: 3, n: 9 } })).rejects.toMatchObject({
		reason: "stale_token",
	});
	await expect(at.submit(dispatch(3, 9))).rejects.toMatchObject({ reason: "stale_token" });
});

test("each dispatch of a task has a token of its own that outlives the process", async () => {
	await using first = await testQueue({ epochAbove: 6 });
	first.start();
	const id = await first.add();
	const { context } = await first.job(id);
	expect(await context.nextFence()).toEqual({ hostEpoch: 7, n: 1 });
	expect(await context.nextFence()).toEqual({ hostEpoch: 7, n: 2 });
	await using second = await first.afterDeath();
	second.start();
	const again = await second.job(id);
	expect(await again.context.nextFence()).toEqual({ hostEpoch: 8, n: 1 });
	again.finish();
	await second.ended(id);
	await expect(again.context.nextFence()).rejects.toMatchObject({ reason: "stale_token" });
});

test("an old database restored under a newer epoch gives no token that was given before", async () => {
	await using backup = await testQueue();
	const id = await backup.add();
	await using newest = await backup.afterDeath({ epochAbove: 40 });
	expect(newest.queue.epoch).toBe(41);
	// The backup again: its own count is 1 still.
	await using restored = await backup.afterDeath({ epochAbove: newest.queue.epoch });
	restored.start();
	const { context } = await restored.job(id);
	expect(await context.nextFence()).toEqual({ hostEpoch: 42, n: 1 });
	// The database keeps it too, should the other place be lost.
	await using next = await restored.afterDeath({ epochAbove: 0 });
	expect(next.queue.epoch).toBe(43);
});
