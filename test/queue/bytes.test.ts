import { expect, test } from "bun:test";
import { bytesReservation } from "../../src/core/queue/queue.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { testQueue } from "./test-queue.ts";

const GB = 1e9;
const needs = (bytes: number) => ({ reservations: [bytesReservation("disk", bytes)] });

test("tasks whose bytes do not fit together run one after the other, and a smaller one goes ahead", async () => {
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": 10 * GB }) });
	at.start();
	const first = await at.add(needs(6 * GB));
	const second = await at.add(needs(5 * GB));
	const small = await at.add(needs(4 * GB));
	await at.job(small);
	expect(at.begun).toEqual([first, small]);
	expect(at.queue.explain(second)).toMatchObject({
		status: "pending",
		obstacles: [
			{
				kind: "space",
				key: "bytes:disk",
				needed: 5 * GB,
				capacity: 10 * GB,
				reserved: 10 * GB,
				held_by: [first, small],
			},
		],
	});
	await at.finish(small);
	expect(at.jobs.has(second)).toBe(false);
	await at.finish(first);
	await at.finish(second);
	expect(at.rows("SELECT * FROM queue_reservation")).toEqual([]);
});

test("a task starts when room comes from elsewhere, within the time between two looks", async () => {
	let capacity = 3 * GB;
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": capacity }) });
	at.start();
	const id = await at.add(needs(5 * GB));
	const other = await at.add({});
	await at.finish(other);
	await at.clock.advance(30_000);
	expect(at.jobs.has(id)).toBe(false);
	capacity = 5 * GB;
	await at.clock.advance(5_000);
	await at.finish(id);
});

test("a task that finds no room for an hour fails, without an attempt that held anything", async () => {
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": GB }) });
	at.start();
	const id = await at.add(needs(5 * GB));
	const dependent = await at.add({ dependencies: [id] });
	await at.clock.advance(59 * 60_000);
	expect(at.queue.get(id).status).toBe("pending");
	await at.clock.advance(2 * 60_000);
	expect(at.queue.get(id)).toMatchObject({
		status: "failed",
		error: {
			code: "RESOURCE_UNAVAILABLE",
			details: { reason: "insufficient_space", required: 5 * GB, available: GB, device: "disk" },
		},
	});
	expect(at.queue.get(dependent).status).toBe("failed");
	expect(at.begun).toEqual([]);
});

test("a task that waits for room is looked at again when the next process counts with other tiers", async () => {
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": GB }) });
	at.start();
	const id = await at.add(needs(5 * GB));
	await at.clock.advance(1000);
	await using next = await at.afterDeath({ capacity: undefined });
	next.start();
	await next.finish(id);
});

test("a large task is not passed for ever by small ones", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 8, capacity: () => ({ "bytes:disk": 10 * GB }) });
	at.start();
	const running = [await at.add(needs(3 * GB)), await at.add(needs(3 * GB)), await at.add(needs(3 * GB))];
	const large = await at.add(needs(9 * GB));
	let passed = 0;
	for (; passed < 40; passed++) {
		running.push(await at.add({ ...needs(3 * GB), priority: "high" }));
		await at.clock.advance(1);
		await at.finish(running.shift() ?? "");
		await at.clock.advance(1);
		if (running.every((id) => !at.jobs.has(id))) break;
		if (!at.jobs.has(running.at(-1) ?? "") && at.queue.explain(running.at(-1) ?? "").obstacles.length > 0)
			break;
	}
	expect(passed).toBeLessThanOrEqual(17);
	for (const id of running.filter((one) => at.jobs.has(one))) await at.finish(id);
	await at.finish(large);
}, 60_000);

test("room that a running task learns of is its own at once, or it goes back to the line and waits for all of it", async () => {
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": 10 * GB }) });
	at.start();
	const first = await at.add();
	await (await at.job(first)).context.reserve(bytesReservation("disk", 6 * GB));
	expect(at.rows("SELECT key, bytes FROM queue_reservation")).toEqual([{ key: "bytes:disk", bytes: 6 * GB }]);
	const second = await at.add();
	const { context, fail } = await at.job(second);
	const refused = await context.reserve(bytesReservation("disk", 5 * GB)).catch(asGswarmError);
	expect(refused).toMatchObject({ reason: "no_room_now", details: { required: 5 * GB, available: 4 * GB } });
	fail(refused);
	await at.clock.advance(1000);
	expect(at.queue.get(second)).toMatchObject({ status: "pending", attempt: 0 });
	expect(at.queue.explain(second).obstacles).toMatchObject([
		{ kind: "space", needed: 5 * GB, held_by: [first] },
	]);
	await at.finish(first);
	const again = await at.job(second);
	expect(again.context.attempt).toBe(1);
	// The claim took it.
	expect(at.rows("SELECT key, bytes FROM queue_reservation")).toEqual([{ key: "bytes:disk", bytes: 5 * GB }]);
	await again.context.reserve(bytesReservation("disk", 5 * GB));
	await at.finish(second);
	expect(at.rows("SELECT * FROM queue_reservation")).toEqual([]);
});

test("room is not given to a handler whose task is over", async () => {
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": 10 * GB }) });
	at.start();
	const id = await at.add();
	const { context } = await at.job(id);
	await at.finish(id);
	const refused = await context.reserve(bytesReservation("disk", GB)).catch(asGswarmError);
	expect(refused).toMatchObject({ code: "CONFLICT", reason: "stale_token" });
});

test("a task that waits for room begins when it is said that there is some", async () => {
	let capacity = GB;
	await using at = await testQueue({ capacity: () => ({ "bytes:disk": capacity }) });
	at.start();
	const id = await at.add(needs(5 * GB));
	await at.clock.advance(100);
	capacity = 5 * GB;
	at.queue.roomChanged();
	await at.finish(id);
});

test("a critical task that finds room starts at once, though no other slot is free", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 2, capacity: () => ({ "bytes:disk": 10 * GB }) });
	at.start();
	const large = await at.add(needs(9 * GB));
	const first = await at.add({ ...needs(2 * GB), priority: "critical" });
	await at.clock.advance(1);
	const common = await at.add({ priority: "low" });
	await at.job(common);
	const waiting = await at.add({ priority: "low" });
	await at.queue.configure({ max_concurrent_tasks: 1 });
	const second = await at.add({ ...needs(2 * GB), priority: "critical" });
	await at.clock.advance(1);
	expect([at.jobs.has(first), at.jobs.has(second)]).toEqual([false, false]);
	await at.finish(common);
	await at.finish(large);
	// Both have room now: one in the slot that there is, one in the slot that is kept.
	await at.clock.advance(1);
	expect([at.jobs.has(first), at.jobs.has(second), at.jobs.has(waiting)]).toEqual([true, true, false]);
	await at.finish(first);
	await at.finish(second);
	await at.finish(waiting);
});
