import { expect, setDefaultTimeout, test } from "bun:test";
import { taskChanges } from "../../src/agent/queue-stream.ts";
import type { Queue } from "../../src/core/queue/queue.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { FakeClock } from "../support/fake-clock.ts";

setDefaultTimeout(60_000);

function streamOf(clock: FakeClock) {
	const listeners = new Set<(event: { kind: string; taskId: string }) => void>();
	let task = { task_id: "copy-1", status: "running", progress: { bytes_done: 0 } } as TaskDocument;
	const queue = {
		get: () => task,
		onEvent(listener: (event: { kind: string; taskId: string }) => void) {
			listeners.add(listener);
			return { [Symbol.dispose]: () => listeners.delete(listener) };
		},
	} as unknown as Queue;
	const stop = new AbortController();
	return {
		events: taskChanges({ queue, clock }, { taskId: "copy-1", signal: stop.signal }),
		change(kind: "state" | "progress", change: Partial<TaskDocument>) {
			task = { ...task, ...change };
			for (const listener of listeners) listener({ kind, taskId: "copy-1" });
		},
		[Symbol.dispose]: () => stop.abort(),
	};
}

test("the end of a task is told at once, not with the next progress", async () => {
	using stream = streamOf(new FakeClock());
	expect((await stream.events.next()).value).toMatchObject({ event: "task" });
	const next = stream.events.next();
	stream.change("progress", {});
	stream.change("state", { status: "completed" });
	// No time passes.
	expect((await next).value).toMatchObject({ event: "end", data: { status: "completed" } });
	expect((await stream.events.next()).done).toBe(true);
});

test("progress is told a few times a second, however often it comes", async () => {
	const clock = new FakeClock();
	using stream = streamOf(clock);
	await stream.events.next();
	let told: unknown;
	const next = stream.events.next().then(({ value }) => (told = value));
	for (const bytes_done of [1, 2, 3]) {
		stream.change("progress", { progress: { bytes_done } as TaskDocument["progress"] });
		await clock.advance(50);
	}
	expect(told).toBeUndefined();
	await clock.advance(200);
	await next;
	expect(told).toMatchObject({ event: "task", data: { progress: { bytes_done: 3 } } });
});
