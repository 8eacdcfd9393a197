/** What happens to a task that runs: its end, another attempt, waiting for room, a cancel, a stop. */
import { expect, test } from "bun:test";
import { type QueueEvent, deviceReservation } from "../../src/core/queue/queue.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { until } from "../support/until.ts";
import { testQueue } from "./test-queue.ts";

const MINUTE_MS = 60_000;
const cut = (retryAfterS?: number): GswarmError =>
	new GswarmError("NETWORK_ERROR", "The source cut the connection.", {
		retryable: true,
		...(retryAfterS === undefined ? {} : { retryAfterS }),
	});
const noRoom = (): GswarmError =>
	new GswarmError("RESOURCE_UNAVAILABLE", "There is no room on disk.", {
		reason: "disk_full",
		details: { required: 2, available: 1, device: "disk" },
		status: 507,
	});

test("a handler's result and its last progress are in the document", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	const job = await at.job(id);
	await at.clock.advance(1000);
	job.context.report({ phase: "moving", bytesDone: 10, bytesTotal: 100 });
	await at.clock.advance(1000);
	job.context.report({ bytesDone: 60, waitingFor: "a peer" });
	expect(at.queue.get(id)).toMatchObject({
		status: "running",
		phase: "moving",
		attempt: 1,
		started_at: at.clock.nowMs() / 1000 - 2,
		completed_at: null,
		waiting_for: "a peer",
		progress: { bytes_done: 60, bytes_total: 100, rate_bytes_per_s: 50, eta_s: 0.8 },
	});
	job.finish({ source_kept: true });
	expect(await at.ended(id)).toMatchObject({
		status: "completed",
		phase: "done",
		completed_at: at.clock.nowMs() / 1000,
		waiting_for: null,
		progress: { bytes_done: 60, bytes_total: 100, rate_bytes_per_s: 0, eta_s: null },
		result: { source_kept: true },
		error: null,
	});
});

test("an error that is not retryable is final, and an unexpected one shows nothing of its text", async () => {
	await using at = await testQueue();
	at.start();
	const [known, unknown] = [await at.add(), await at.add()];
	(await at.job(known)).fail(
		new GswarmError("TASK_FAILED", "The hub says no.", { reason: "gated", hint: "Ask." }),
	);
	(await at.job(unknown)).fail(new TypeError("x is not a function of /home/me"));
	expect(await at.ended(known)).toMatchObject({
		status: "failed",
		attempt: 1,
		result: null,
		error: { code: "TASK_FAILED", message: "The hub says no.", details: { reason: "gated" }, hint: "Ask." },
	});
	const { error } = await at.ended(unknown);
	expect(error?.code).toBe("INTERNAL_ERROR");
	expect(JSON.stringify(error)).not.toContain("/home/me");
});

test("a result that is no JSON fails its task and nothing else", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	(await at.job(id)).finish({ size: 1n });
	expect((await at.ended(id)).error?.code).toBe("INTERNAL_ERROR");
	await at.finish(await at.add());
});

test("a task of a type without a handler fails and says so", async () => {
	await using at = await testQueue();
	at.start({});
	expect((await at.ended(await at.add())).error).toMatchObject({ details: { reason: "no_handler" } });
});

test("a retryable error is tried again later, up to the attempts that the task has", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ maxAttempts: 3 });
	for (const attempt of [1, 2]) {
		const job = await at.job(id);
		expect(job.context.attempt).toBe(attempt);
		job.fail(cut());
		await until("it waits", () => at.queue.get(id).phase === "waiting");
		expect(at.queue.get(id)).toMatchObject({ status: "pending", attempt, error: { code: "NETWORK_ERROR" } });
		await at.clock.advance(1000 * 2 ** (attempt - 1));
	}
	(await at.job(id)).fail(cut());
	expect(await at.ended(id)).toMatchObject({
		status: "failed",
		attempt: 3,
		error: { details: { attempts: 3 } },
	});
	expect(at.begun).toEqual([id, id, id]);
});

test("the next attempt begins no sooner than the source allows", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	(await at.job(id)).fail(cut(90));
	await until("it waits", () => at.queue.get(id).phase === "waiting");
	expect(at.queue.get(id).waiting_for).toBe(
		"the next attempt at 2026-01-01T00:01:30.000Z, after: The source cut the connection.",
	);
	await at.clock.advance(89_999);
	expect(at.jobs.has(id)).toBe(false);
	await at.clock.advance(1);
	await at.finish(id);
});

test("a wall clock that is set back does not hold a retry for long", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	(await at.job(id)).fail(cut());
	await until("it waits", () => at.queue.get(id).phase === "waiting");
	at.clock.jumpWall(-24 * 60 * MINUTE_MS);
	await at.clock.advance(1000);
	await at.finish(id);
});

test("a task without room waits for it without losing attempts or holding anything, for an hour", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ maxAttempts: 1, reservations: [deviceReservation("disk", "exclusive")] });
	const beganMs = at.clock.nowMs();
	let tries = 0;
	for (; at.queue.get(id).status !== "failed"; tries++) {
		(await at.job(id)).fail(noRoom());
		await until("it gave up its attempt", () => !at.jobs.has(id) && at.queue.get(id).status !== "running");
		expect(at.queue.get(id).attempt).toBeLessThanOrEqual(1);
		expect(at.rows("SELECT * FROM queue_reservation")).toEqual([]);
		if (at.queue.get(id).status !== "failed") {
			expect(at.queue.get(id)).toMatchObject({ attempt: 0, error: { details: { device: "disk" } } });
			expect(at.queue.get(id).waiting_for).toStartWith("room at ");
			await at.clock.advance(MINUTE_MS);
		}
	}
	expect(at.clock.nowMs() - beganMs).toBe(60 * MINUTE_MS);
	expect(tries).toBeGreaterThan(50);
	expect(at.queue.get(id).error).toMatchObject({ details: { reason: "disk_full" } });
}, 60_000);

test("progress begins the hour for room anew", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	(await at.job(id)).fail(noRoom());
	await until("it waits", () => at.queue.get(id).phase === "waiting");
	await at.clock.advance(59 * MINUTE_MS);
	const job = await at.job(id);
	await job.context.saveState({ parts: 1 });
	await at.clock.advance(5 * MINUTE_MS);
	job.fail(noRoom());
	await until("it waits again", () => at.queue.get(id).phase === "waiting");
	await at.clock.advance(MINUTE_MS);
	await at.finish(id);
});

test("a checkpoint is there in the next attempt, and an attempt that is over cannot write one", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	const first = await at.job(id);
	expect(first.context.state).toBeUndefined();
	await first.context.saveState({ parts: [1, 2] });
	first.fail(cut());
	await until("it waits", () => at.queue.get(id).phase === "waiting");
	await expect(first.context.saveState({ parts: [] })).rejects.toMatchObject({ reason: "stale_token" });
	await at.clock.advance(1000);
	const second = await at.job(id);
	expect(second.context.state).toEqual({ parts: [1, 2] });
	await expect(first.context.saveState({ parts: [] })).rejects.toMatchObject({ reason: "stale_token" });
});

test("a waiting task is cancelled at once", async () => {
	await using at = await testQueue();
	const pending = await at.add();
	expect(await at.queue.cancel(pending)).toMatchObject({ status: "cancelled", attempt: 0, error: null });
	at.start();
	const retried = await at.add();
	(await at.job(retried)).fail(cut());
	await until("it waits", () => at.queue.get(retried).phase === "waiting");
	expect((await at.queue.cancel(retried)).status).toBe("cancelled");
	await at.clock.advance(10 * MINUTE_MS);
	expect(at.begun).toEqual([retried]);
});

test("a running task is told, and the answer comes when it has ended", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	const job = await at.job(id);
	const answer = at.queue.cancel(id);
	await until("it is told", () => job.context.signal.aborted);
	expect(job.context.signal.reason).toBe("cancelled");
	expect(at.queue.get(id).status).toBe("running");
	job.fail(new Error("cleaned up"));
	expect(await answer).toMatchObject({ status: "cancelled", error: null });
});

test("a handler that does not listen is left behind after five seconds, and its late end changes nothing", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add({ reservations: [deviceReservation("disk", "exclusive")] });
	const next = await at.add({ reservations: [deviceReservation("disk", "exclusive")] });
	const job = await at.job(id);
	const answer = at.queue.cancel(id);
	await until("it is told", () => job.context.signal.aborted);
	await at.clock.advance(4999);
	expect(at.queue.get(id).status).toBe("running");
	await at.clock.advance(1);
	expect((await answer).status).toBe("cancelled");
	await at.job(next);
	job.finish({ late: true });
	await at.finish(next);
	expect(at.queue.get(id)).toMatchObject({ status: "cancelled", result: null });
});

test("a task that completes although it was told is completed, and the cancel says that it came too late", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	const job = await at.job(id);
	const answer = at.queue.cancel(id);
	await until("it is told", () => job.context.signal.aborted);
	job.finish({ published: true });
	await expect(answer).rejects.toMatchObject({ status: 409, reason: "already_terminal" });
	expect(at.queue.get(id)).toMatchObject({ status: "completed", result: { published: true } });
});

test("a finished task cannot be cancelled", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	await at.finish(id);
	await expect(at.queue.cancel(id)).rejects.toMatchObject({
		code: "CONFLICT",
		reason: "already_terminal",
		details: { status: "completed" },
	});
});

test("a cancel in the moment of the claim reaches the task", async () => {
	await using at = await testQueue();
	const ids = [await at.add(), await at.add(), await at.add()];
	at.start({
		move: ({ signal }) =>
			new Promise((_, reject) => {
				signal.addEventListener("abort", () => reject(new Error("told")));
			}),
	});
	const answers = await Promise.all(ids.map((id) => at.queue.cancel(id)));
	expect(answers.map(({ status }) => status)).toEqual(["cancelled", "cancelled", "cancelled"]);
});

test("a stop gives running tasks back without an attempt, and keeps what they had", async () => {
	await using at = await testQueue();
	at.start();
	const [polite, deaf, finishing] = [await at.add(), await at.add(), await at.add()];
	const [politeJob, , finishingJob] = [await at.job(polite), await at.job(deaf), await at.job(finishing)];
	await politeJob.context.saveState({ parts: 3 });
	politeJob.context.signal.addEventListener("abort", () => politeJob.fail(politeJob.context.signal.reason));
	finishingJob.context.signal.addEventListener("abort", () => finishingJob.finish());
	const stopped = at.queue[Symbol.asyncDispose]();
	expect(politeJob.context.signal.reason).toBe("shutdown");
	await at.clock.advance(5000);
	await stopped;
	for (const id of [polite, deaf]) {
		expect(at.queue.get(id)).toMatchObject({ status: "pending", attempt: 0, phase: "queued" });
	}
	expect(at.queue.get(finishing).status).toBe("completed");
	expect(at.rows("SELECT * FROM queue_reservation")).toEqual([]);
	await at.add();
	await at.clock.advance(1000);
	expect(at.begun).toHaveLength(3);
	await using next = await at.afterDeath();
	next.start();
	expect((await next.job(polite)).context).toMatchObject({ attempt: 1, state: { parts: 3 } });
});

test("a stop in the moment of a claim starts nothing", async () => {
	await using at = await testQueue();
	const id = await at.add();
	at.start();
	await at.queue[Symbol.asyncDispose]();
	expect(at.begun).toEqual([]);
	expect(at.queue.get(id)).toMatchObject({ status: "pending", attempt: 0 });
});

test("progress is told four times a second at most, and the last of it always", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	const job = await at.job(id);
	const told: number[] = [];
	using _listener = at.queue.onEvent(({ kind, taskId }) => {
		if (kind === "progress") told.push(at.queue.get(taskId).progress.bytes_done);
	});
	for (let step = 1; step <= 100; step++) {
		job.context.report({ bytesDone: step, bytesTotal: 100 });
		await at.clock.advance(10);
	}
	await at.clock.advance(1000);
	expect(told.length).toBeLessThanOrEqual(6);
	expect(told.length).toBeGreaterThanOrEqual(4);
	expect(told.at(-1)).toBe(100);
});

test("listeners hear of every state once it is committed, and one that throws harms nobody", async () => {
	await using at = await testQueue();
	const heard: string[] = [];
	using _broken = at.queue.onEvent(() => {
		throw new Error("listener");
	});
	const listener = (event: QueueEvent): void => {
		expect(at.queue.get(event.taskId).status).toBe(event.status);
		heard.push(event.status);
	};
	const subscription = at.queue.onEvent(listener);
	const id = await at.add();
	at.start();
	await at.finish(id);
	expect(heard).toEqual(["pending", "running", "completed"]);
	subscription[Symbol.dispose]();
	await at.add();
	expect(heard).toHaveLength(3);
});

test("waiting for a task ends with the signal", async () => {
	await using at = await testQueue();
	const id = await at.add();
	const stop = new AbortController();
	const waiting = at.queue.waitFor(id, stop.signal);
	stop.abort(new Error("enough"));
	await expect(waiting).rejects.toThrow("enough");
	await expect(at.queue.waitFor(id, stop.signal)).rejects.toThrow("enough");
});

test("every change of state is in the event log with its reason", async () => {
	await using at = await testQueue();
	at.start();
	const id = await at.add();
	(await at.job(id)).fail(noRoom());
	await until("it waits", () => at.queue.get(id).phase === "waiting");
	await at.clock.advance(MINUTE_MS);
	await at.finish(id);
	const log = at.rows<object>("SELECT from_state, to_state, attempt, reason FROM queue_event ORDER BY id");
	expect(log.map((row) => Object.values(row).join(" "))).toEqual([
		" pending 0 ",
		"pending running 1 ",
		"running retry_wait 0 disk_full",
		"retry_wait pending 0 ",
		"pending running 1 ",
		"running completed 1 ",
	]);
});
