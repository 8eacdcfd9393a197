import { expect, test } from "bun:test";
import { GswarmError } from "../../src/schema/errors.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

/** What the process after this one reads of the task. */
async function readAgain(at: TestQueue, taskId: string): Promise<unknown> {
	await using after = await at.afterDeath();
	return after.queue.get(taskId);
}

test("who waited for a task is told what its row says", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({
		request: { source_url: "https://user:secret@hub.example/m?X-Amz-Signature=abc", n: 1 },
		resources: { devices: ["disk"], models: ["llama-7b"], exclusive: true },
		joinKey: "same",
	});
	const { context, finish } = await at.job(id);
	context.report({ phase: "downloading", bytesDone: 5.4, bytesTotal: 10 });
	// A submit that joins a running task raises it.
	expect((await at.submit({ joinKey: "same", priority: "critical" })).joined).toBe(true);
	await at.clock.advance(1500);
	finish({ done: ["ä", 1] });
	const task = await at.ended(id);
	expect(task).toMatchObject({ status: "completed", priority: "critical", result: { done: ["ä", 1] } });
	expect(at.queue.get(id)).toEqual(task);
	expect(task).toEqual((await readAgain(at, id)) as typeof task);
});

test("so is who waited for a task that took several attempts, depends on others, or does another again", async () => {
	await using at = await testQueue();
	at.start();
	const first = await at.add();
	const second = await at.add({ dependencies: [first] });
	(await at.job(first)).fail(new GswarmError("NETWORK_ERROR", "The line is cut.", { retryable: true }));
	await at.clock.advance(2000);
	await at.finish(first);
	await at.finish(second);
	const failing = await at.add();
	(await at.job(failing)).fail(new GswarmError("TASK_FAILED", "It cannot be done."));
	await at.ended(failing);
	const { task: again } = await at.queue.retry(failing);
	await at.finish(again.task_id);
	for (const id of [first, second, failing, again.task_id])
		expect(at.queue.get(id)).toEqual((await readAgain(at, id)) as ReturnType<typeof at.queue.get>);
	expect(at.queue.get(first).attempt).toBe(2);
	expect(at.queue.get(second).dependencies).toEqual([first]);
});
