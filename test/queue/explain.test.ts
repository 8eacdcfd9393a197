import { expect, test } from "bun:test";
import { deviceReservation, modelReservation } from "../../src/core/queue/queue.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { testQueue } from "./test-queue.ts";

test("a parked task names everything that is held, by whom and since when", async () => {
	await using at = await testQueue();
	at.start();
	const reader = await at.add({ reservations: [modelReservation("llama", "disk", "shared")] });
	const user = await at.add({ reservations: [deviceReservation("gpu0", "exclusive")] });
	const both = await at.add({
		reservations: [modelReservation("llama", "disk", "exclusive"), deviceReservation("gpu0", "shared")],
	});
	await at.clock.advance(10);
	expect(at.queue.explain(both)).toMatchObject({
		task_id: both,
		status: "pending",
		obstacles: [
			{
				kind: "reservation",
				key: "device:gpu0",
				mode: "shared",
				held_by: [{ task_id: user, mode: "exclusive", since: Date.UTC(2026, 0, 1) / 1000 }],
				promised_to: [],
			},
			{
				kind: "reservation",
				key: "model:llama@disk",
				mode: "exclusive",
				held_by: [{ task_id: reader, mode: "shared" }],
			},
		],
	});
	expect(at.queue.explain(both).summary).toBe(
		`it needs device:gpu0 (shared), held by ${user} (exclusive); it needs model:llama@disk (exclusive), held by ${reader} (shared)`,
	);
	expect(at.queue.explain(user)).toEqual({
		task_id: user,
		status: "running",
		summary: null,
		obstacles: [],
		until: null,
	});
});

test("a reader behind a writer that waited too long hears to whom the model is promised", async () => {
	await using at = await testQueue();
	at.start();
	await at.add({ reservations: [modelReservation("llama", "disk", "shared")] });
	const writer = await at.add({ reservations: [modelReservation("llama", "disk", "exclusive")] });
	await at.clock.advance(61_000);
	const late = await at.add({ reservations: [modelReservation("llama", "disk", "shared")] });
	await at.clock.advance(10);
	expect(at.queue.explain(late).obstacles).toMatchObject([
		{ kind: "reservation", held_by: [], promised_to: [{ task_id: writer, mode: "exclusive" }] },
	]);
});

test("a blocked task names its open dependencies, one in line its place and the slots", async () => {
	await using at = await testQueue({ maxConcurrentTasks: 1 });
	at.start();
	const [running, next, last] = [await at.add(), await at.add(), await at.add()];
	const blocked = await at.add({ dependencies: [running, next] });
	await at.job(running);
	expect(at.queue.explain(blocked).obstacles).toEqual([
		{ kind: "dependency", task_id: running, status: "running" },
		{ kind: "dependency", task_id: next, status: "pending" },
	]);
	expect(at.queue.explain(last).obstacles).toEqual([
		{ kind: "slots", running: 1, limit: 1 },
		{ kind: "line", ahead: 1 },
	]);
});

test.each([
	["cut", "error"],
	["disk_full", "space"],
	["host_unreachable", "host"],
] as const)(
	"a task that failed with %s says when it is looked at again, and for what",
	async (reason, why) => {
		await using at = await testQueue();
		at.start();
		const id = await at.add();
		(await at.job(id)).fail(new GswarmError("NETWORK_ERROR", "No way.", { reason, retryable: true }));
		await at.clock.advance(1);
		const explained = at.queue.explain(id);
		expect(explained.obstacles).toMatchObject([
			{ kind: "retry", why, error: { message: "No way." }, until: explained.until },
		]);
		expect(explained.until).toBeGreaterThan(at.clock.nowMs() / 1000);
	},
);

test("a task that waits for its host's word goes on after hours, without an attempt", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ maxAttempts: 2 });
	for (let hour = 0; hour < 5; hour++) {
		(await at.job(id)).fail(new GswarmError("RESOURCE_UNAVAILABLE", "Away.", { reason: "host_unreachable" }));
		await at.clock.advance(60 * 60_000);
	}
	expect(at.queue.get(id)).toMatchObject({ status: "running", attempt: 1 });
	await at.finish(id);
});
