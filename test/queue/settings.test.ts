import { expect, test } from "bun:test";
import { deviceReservation, modelReservation } from "../../src/core/queue/queue.ts";
import { testQueue } from "./test-queue.ts";

test("more tasks run as soon as more may, also after a restart, and fewer when fewer may", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	at.start();
	const ids = [await at.add(), await at.add(), await at.add(), await at.add()];
	await at.clock.advance(10);
	expect(at.begun).toEqual(ids.slice(0, 1));
	expect(await at.queue.configure({ max_concurrent_tasks: 3 })).toEqual({
		max_concurrent_tasks: 3,
		priority_levels: ["critical", "high", "normal", "low"],
		resource_tracking: true,
	});
	await at.job(ids[2] ?? "");
	expect(at.begun).toEqual(ids.slice(0, 3));
	await using next = await at.afterDeath({ maxConcurrentTasks: 1 });
	expect(next.queue.config().max_concurrent_tasks).toBe(3);
	await next.queue.configure({ max_concurrent_tasks: 2 });
	next.start();
	await next.job(ids[1] ?? "");
	await next.clock.advance(10);
	expect(next.begun).toEqual(ids.slice(0, 2));
});

test("a priority that was taken away is refused by name, and tasks that have it stay in line", async () => {
	await using at = await testQueue();
	const low = await at.add({ priority: "low" });
	await at.queue.configure({ priority_levels: ["high", "normal"] });
	await expect(at.add({ priority: "low" })).rejects.toMatchObject({
		status: 400,
		reason: "unknown_priority",
		details: { allowed: ["high", "normal"] },
	});
	await expect(
		at.queue.submitBatch([{ type: "move", model: "m", request: {}, priority: "critical" }]),
	).rejects.toMatchObject({ reason: "unknown_priority" });
	at.start();
	await at.finish(low);
});

test.each([
	{ max_concurrent_tasks: 0 },
	{ max_concurrent_tasks: 1.5 },
	{ max_concurrent_tasks: 5000 },
	{ priority_levels: [] },
	{ priority_levels: ["normal", "high"] as const },
])("%j is refused and nothing changes", async (change) => {
	await using at = await testQueue();
	const before = at.queue.config();
	await expect(at.queue.configure(change as never)).rejects.toMatchObject({
		status: 400,
		reason: "bad_queue_config",
	});
	expect(at.queue.config()).toEqual(before);
});

test("without tracking nobody waits for a device, and models are respected all the same", async () => {
	await using at = await testQueue();
	at.start();
	const device = { reservations: [deviceReservation("gpu0", "exclusive")] };
	const model = { reservations: [modelReservation("llama", "disk", "exclusive")] };
	const [first, second, writer, other] = [
		await at.add(device),
		await at.add(device),
		await at.add(model),
		await at.add(model),
	];
	await at.clock.advance(10);
	expect(at.begun).toEqual([first, writer]);
	await at.queue.configure({ resource_tracking: false });
	await at.job(second);
	await at.clock.advance(10);
	expect(at.jobs.has(other)).toBe(false);
	await at.finish(first);
	await at.finish(second);
	await at.queue.configure({ resource_tracking: true });
	const [third, fourth] = [await at.add(device), await at.add(device)];
	await at.job(third);
	await at.clock.advance(10);
	expect(at.jobs.has(fourth)).toBe(false);
});
