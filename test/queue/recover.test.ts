import { expect, test } from "bun:test";
import { join } from "node:path";
import { openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

/** Runs the doomed agent until its output is as wanted, kills it with SIGKILL, and gives its lines. */
async function killedWhen(
	path: string,
	mode: string,
	enough: (lines: string[]) => boolean,
): Promise<string[]> {
	const agent = Bun.spawn([process.execPath, join(import.meta.dir, "doomed-agent.ts"), path, mode], {
		stdout: "pipe",
		stderr: "inherit",
	});
	let text = "";
	try {
		const decoder = new TextDecoder();
		for await (const bytes of agent.stdout) {
			text += decoder.decode(bytes, { stream: true });
			// What it said until it was dead is read, too.
			if (enough(text.split("\n"))) agent.kill("SIGKILL");
		}
	} finally {
		agent.kill("SIGKILL");
		await agent.exited;
	}
	expect(agent.signalCode).toBe("SIGKILL");
	return text.split("\n").slice(0, -1);
}

async function reopen(path: string) {
	const db = openInlineDatabase(path, [queueModule]);
	const queue = await openQueue(
		{ db, clock: systemClock, ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1" },
	);
	return {
		queue,
		async [Symbol.asyncDispose]() {
			await queue[Symbol.asyncDispose]();
			await db[Symbol.asyncDispose]();
		},
	};
}

test("after a kill -9 in mid-task everything is there, and the task goes on from its checkpoint", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const lines = await killedWhen(
		path,
		"",
		(seen) => seen.some((line) => line.startsWith("all")) && seen.some((line) => line.startsWith("running")),
	);
	const idOf = (word: string): string =>
		lines.find((line) => line.startsWith(`${word} `))?.split(" ")[1] ?? "";
	await using at = await reopen(path);
	expect(at.queue.recovered()).toEqual([{ taskId: idOf("running"), status: "pending" }]);
	expect(at.queue.get(idOf("completed"))).toMatchObject({ status: "completed", result: { done: true } });
	expect(at.queue.get(idOf("running"))).toMatchObject({ status: "pending", attempt: 0, max_attempts: 5 });
	expect(at.queue.counters()).toEqual({ pending: 3, running: 0, completed: 0 });
	const states: unknown[] = [];
	at.queue.start({
		move: ({ state }) => {
			states.push(state);
			return Promise.resolve({});
		},
		delete: () => Promise.resolve({}),
	});
	await until("all are done", () => at.queue.counters().completed === 3);
	expect(states).toEqual([{ parts: 7 }, undefined]);
}, 60_000);

test("no task whose submit was answered is lost by a kill -9, and none is there twice", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const answered: string[] = [];
	for (const round of [1, 2, 3]) {
		const lines = await killedWhen(path, "storm", (seen) => seen.length > 100);
		const submitted = lines.filter((line) => line.startsWith("submitted"));
		expect(submitted.length).toBeGreaterThan(50);
		answered.push(...submitted.map((line) => line.split(" ")[1] ?? ""));
		await using at = await reopen(path);
		const ids = at.queue.list({ limit: 1000 }).map(({ task_id }) => task_id);
		expect(answered.filter((id) => !ids.includes(id))).toEqual([]);
		expect(new Set(ids).size).toBe(ids.length);
		// One more per kill at most: the one whose answer was on its way.
		expect(ids.length - answered.length).toBeLessThanOrEqual(round);
		expect(at.queue.counters()).toEqual({ pending: ids.length, running: 0, completed: 0 });
	}
}, 120_000);

/** Lets the task begin, does `work` with it, and gives the queue that comes after a death. */
async function dieIn(at: TestQueue, id: string, work?: (at: TestQueue) => Promise<void>): Promise<TestQueue> {
	at.start();
	await at.job(id);
	await work?.(at);
	return at.afterDeath();
}

test("a death without progress costs an attempt, and the third fails the task and its dependents", async () => {
	await using first = await testQueue();
	const id = await first.add();
	const dependent = await first.add({ dependencies: [id] });
	await using second = await dieIn(first, id);
	expect(second.queue.get(id)).toMatchObject({ status: "pending", attempt: 1 });
	await using third = await dieIn(second, id);
	expect(third.queue.get(id)).toMatchObject({ status: "pending", attempt: 2 });
	await using fourth = await dieIn(third, id);
	expect(fourth.queue.get(id)).toMatchObject({
		status: "failed",
		attempt: 3,
		error: { code: "TASK_FAILED", details: { reason: "poison", crashes: 3 } },
	});
	expect(fourth.queue.recovered()).toEqual([
		{ taskId: id, status: "failed" },
		{ taskId: dependent, status: "failed" },
	]);
	fourth.start();
	await fourth.clock.advance(1000);
	expect(fourth.begun).toEqual([]);
});

test("a death on the last attempt fails the task", async () => {
	await using first = await testQueue();
	const id = await first.add({ maxAttempts: 1 });
	await using second = await dieIn(first, id);
	expect(second.queue.get(id).error).toMatchObject({ details: { reason: "attempts_exhausted" } });
});

test("a death after a new checkpoint costs nothing, and after the same one again it does", async () => {
	const save =
		(parts: number) =>
		async (at: TestQueue): Promise<void> => {
			await [...at.jobs.values()][0]?.context.saveState({ parts });
		};
	await using first = await testQueue();
	const id = await first.add();
	await using second = await dieIn(first, id, save(1));
	expect(second.queue.get(id).attempt).toBe(0);
	await using third = await dieIn(second, id, save(2));
	expect(third.queue.get(id).attempt).toBe(0);
	await using fourth = await dieIn(third, id, save(2));
	expect(fourth.queue.get(id).attempt).toBe(1);
});

test("a death with progress in a journal elsewhere costs nothing", async () => {
	await using first = await testQueue();
	const id = await first.add();
	first.start();
	await first.job(id);
	const beganMs = first.clock.nowMs();
	await first.clock.advance(5000);
	const asked: unknown[] = [];
	await using second = await first.afterDeath({
		hasProgressSince: (taskId, sinceMs) => {
			asked.push([taskId, sinceMs]);
			return true;
		},
	});
	expect(second.queue.get(id)).toMatchObject({ status: "pending", attempt: 0 });
	expect(asked).toEqual([[id, beganMs]]);
});

test("a task that was being cancelled when the agent died is cancelled", async () => {
	await using first = await testQueue();
	first.start();
	const id = await first.add();
	const job = await first.job(id);
	const answer = first.queue.cancel(id);
	await until("it is told", () => job.context.signal.aborted);
	await using second = await first.afterDeath();
	expect(second.queue.recovered()).toEqual([{ taskId: id, status: "cancelled" }]);
	expect(second.queue.get(id)).toMatchObject({ status: "cancelled", result: null });
	job.fail(new Error("told"));
	await answer;
});

test("what a dead task held is free, and who waited for it starts", async () => {
	const alone = { reservations: [{ key: "device:disk", mode: "exclusive" as const }] };
	await using first = await testQueue();
	const id = await first.add({ ...alone, maxAttempts: 1 });
	const next = await first.add(alone);
	await using second = await dieIn(first, id, async (at) => {
		await at.clock.advance(1000);
		expect(at.queue.get(next).waiting_for).toContain(id);
	});
	second.start();
	await second.finish(next);
});

test("a second open gives the running tasks of the first a new owner, and the old one cannot write any more", async () => {
	await using first = await testQueue();
	first.start();
	const id = await first.add();
	const job = await first.job(id);
	const second = await openQueue(
		{ db: first.db, clock: first.clock, ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1" },
	);
	expect(second.recovered()).toEqual([{ taskId: id, status: "pending" }]);
	const begun = Promise.withResolvers<void>();
	const end = Promise.withResolvers<Record<string, unknown>>();
	second.start({
		move: () => {
			begun.resolve();
			return end.promise;
		},
	});
	await begun.promise;
	await expect(job.context.saveState({ parts: 1 })).rejects.toMatchObject({ reason: "stale_token" });
	job.finish({ late: true });
	await first.clock.advance(1000);
	expect(second.get(id)).toMatchObject({ status: "running", attempt: 2, result: null });
	end.resolve({ done: true });
	expect(await second.waitFor(id, AbortSignal.timeout(20_000))).toMatchObject({ result: { done: true } });
	await second[Symbol.asyncDispose]();
});
