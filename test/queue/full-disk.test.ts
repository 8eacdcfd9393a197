import { expect, test } from "bun:test";
import { type Queue, openQueue } from "../../src/core/queue/queue.ts";
import type { Database } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { until } from "../support/until.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

/** A second queue beside the test's, whose named write fails as long as `isFull` says so. */
async function onFullDisk(at: TestQueue, write: string, isFull: () => boolean): Promise<Queue> {
	const db: Database = Object.assign(Object.create(at.db), {
		writer: (module: Parameters<Database["writer"]>[0]) => {
			const calls = at.db.writer(module);
			const call = calls[write];
			return {
				...calls,
				[write]: (input: unknown) =>
					isFull()
						? Promise.reject(
								new GswarmError("RESOURCE_UNAVAILABLE", "The disk is full.", { reason: "disk_full" }),
							)
						: call?.(input),
			};
		},
	});
	return openQueue({ db, clock: at.clock, ids: systemIds, log: silentLog }, { queue: "host", node: "node1" });
}

const task = { type: "copy", model: "llama", request: {}, priority: "normal" } as const;

test("an end that cannot be written on a full disk is written when there is room again", async () => {
	await using at = await testQueue();
	let isFull = false;
	await using queue = await onFullDisk(at, "settle", () => isFull);
	let runs = 0;
	queue.start({
		copy: () => {
			runs++;
			isFull = true;
			return Promise.resolve({ done: true });
		},
	});
	const { task: submitted } = await queue.submit(task);
	await at.clock.advance(10 * 60_000);
	expect(queue.get(submitted.task_id).status).toBe("running");
	isFull = false;
	await at.clock.advance(30_000);
	expect(queue.get(submitted.task_id)).toMatchObject({ status: "completed", result: { done: true } });
	expect(runs).toBe(1);
});

test("a line that cannot be read on a full disk is looked at again when there is room", async () => {
	await using at = await testQueue();
	let isFull = true;
	await using queue = await onFullDisk(at, "claim", () => isFull);
	queue.start({ copy: () => Promise.resolve({}) });
	const { task: submitted } = await queue.submit(task);
	await at.clock.advance(10 * 60_000);
	expect(queue.get(submitted.task_id).status).toBe("pending");
	isFull = false;
	await at.clock.advance(30_000);
	await until("it is done", () => queue.get(submitted.task_id).status === "completed");
});

test("a stop does not wait for room: the next open recovers what could not be written", async () => {
	await using at = await testQueue();
	let isFull = false;
	const queue = await onFullDisk(at, "settle", () => isFull);
	const begun = Promise.withResolvers<void>();
	queue.start({
		copy: ({ signal }) => {
			begun.resolve();
			return new Promise((_, reject) => {
				signal.addEventListener("abort", () => reject(new Error("told")));
			});
		},
	});
	const { task: submitted } = await queue.submit(task);
	await begun.promise;
	isFull = true;
	await queue[Symbol.asyncDispose]();
	await using next = await onFullDisk(at, "settle", () => false);
	expect(next.recovered()).toEqual([{ taskId: submitted.task_id, status: "pending" }]);
});
