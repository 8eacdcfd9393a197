import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { queueRoutes } from "../../src/agent/node/queue-routes.ts";
import type { NodeRouteDependencies } from "../../src/agent/node/node-requests.ts";
import { readEvents } from "../../src/api/event-reader.ts";
import {
	type Queue,
	type SubmitInput,
	type TaskContext,
	modelReservation,
	openQueue,
	queueModule,
} from "../../src/core/queue/queue.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { type Ask, type TestApp, errorOf, testApp, told } from "./test-app.ts";

/** A node's queue behind its real routes; tasks end when the test says so. */
interface Stand extends AsyncDisposable {
	queue: Queue;
	app: TestApp;
	get(path: string, ask?: Ask): Promise<Response>;
	json<T>(path: string): Promise<T>;
	add(input?: Partial<SubmitInput>): Promise<string>;
	/** Tasks in the hands of their handler. */
	jobs: Map<string, { context: TaskContext; finish(): void; fail(error: Error): void }>;
	job(taskId: string): Promise<{ context: TaskContext; finish(): void; fail(error: Error): void }>;
	end(taskId: string): Promise<void>;
}

const NODE = "node1";

async function stand({ maxPendingTasks }: { maxPendingTasks?: number } = {}): Promise<Stand> {
	const stack = new AsyncDisposableStack();
	const dir = stack.use(tempDir());
	const db = stack.use(openInlineDatabase(join(dir.path, "agent.sqlite"), [queueModule]));
	const queue = await openQueue(
		{ db, clock: systemClock, ids: systemIds, log: silentLog },
		{ queue: "node", node: NODE, ...(maxPendingTasks === undefined ? {} : { maxPendingTasks }) },
	);
	const jobs: Stand["jobs"] = new Map();
	const work = async (context: TaskContext): Promise<undefined> => {
		const { promise, resolve, reject } = Promise.withResolvers<undefined>();
		context.signal.addEventListener("abort", () => reject(new Error("told to end")));
		jobs.set(context.taskId, { context, finish: () => resolve(undefined), fail: reject });
		try {
			return await promise;
		} finally {
			jobs.delete(context.taskId);
		}
	};
	queue.start({ download: work, copy: work, delete: work, move: work });
	stack.defer(async () => {
		for (const { finish } of jobs.values()) finish();
		await queue[Symbol.asyncDispose]();
	});
	const d = { queue, clock: systemClock, nodeName: NODE } as NodeRouteDependencies;
	const app = stack.use(await testApp("node", { real: queueRoutes(d) }));
	const self: Stand = {
		queue,
		app,
		get: (path, ask) => app.ask("GET", path, ask),
		async json<T>(path: string) {
			const response = await app.ask("GET", path);
			expect({ path, status: response.status }).toEqual({ path, status: 200 });
			return (await response.json()) as T;
		},
		add: async (input) =>
			(await queue.submit({ type: "download", model: "m", request: {}, priority: "normal", ...input })).task
				.task_id,
		jobs,
		job: (taskId) => until(`${taskId} begins`, () => jobs.get(taskId)),
		async end(taskId) {
			(await self.job(taskId)).finish();
			await queue.waitFor(taskId, AbortSignal.timeout(20_000));
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
	return self;
}

interface Page {
	tasks: { task_id: string; status: string }[];
	total: number;
	next_cursor: string | null;
}

const ids = ({ tasks }: Page): string[] => tasks.map((task) => task.task_id);

describe("the queue", () => {
	test("tells its tasks a page at a time, running ones first, and how many there are", async () => {
		await using t = await stand();
		const running = await t.add({ reservations: [modelReservation("m", "disk", "exclusive")] });
		await t.job(running);
		const waiting: string[] = [];
		for (let n = 0; n < 5; n++)
			waiting.push(await t.add({ reservations: [modelReservation("m", "disk", "exclusive")] }));
		const first = await t.json<Page>("/api/v1/queue?limit=2");
		expect({ ids: ids(first), total: first.total }).toEqual({ ids: [running, waiting[0] ?? ""], total: 6 });
		const seen = [...ids(first)];
		let cursor = first.next_cursor;
		while (cursor !== null) {
			const page: Page = await t.json(`/api/v1/queue?limit=2&cursor=${cursor}`);
			seen.push(...ids(page));
			cursor = page.next_cursor;
		}
		expect(seen).toEqual([running, ...waiting]);
	});

	test("is filtered by status, type, model and priority, and says what fits", async () => {
		await using t = await stand();
		const held = { reservations: [modelReservation("m", "disk", "exclusive")] };
		const running = await t.add(held);
		await t.job(running);
		const urgent = await t.add({ ...held, type: "copy", priority: "high" });
		const other = await t.add({ ...held, model: "other" });
		for (const [query, fits] of [
			["status=running", [running]],
			["status=pending", [urgent, other]],
			["type=copy", [urgent]],
			["priority=high", [urgent]],
			["model=other", [other]],
			["type=copy&priority=low", []],
			[`node=${NODE}&status=running`, [running]],
		] as const) {
			const page = await t.json<Page>(`/api/v1/queue?${query}`);
			expect({ query, ids: ids(page), total: page.total }).toEqual({
				query,
				ids: [...fits],
				total: fits.length,
			});
		}
	});

	test("refuses what is not asked right, in the design's words", async () => {
		await using t = await stand();
		for (const [path, reason] of [
			["/api/v1/queue?status=completed", "400 bad_field status"],
			["/api/v1/queue?limit=0", "400 bad_field limit"],
			["/api/v1/queue?limit=201", "400 bad_field limit"],
			["/api/v1/queue?priority=urgent", "400 bad_field priority"],
			["/api/v1/queue?cursor=x", "400 bad_cursor cursor"],
			["/api/v1/queue?colour=red", "400 unknown_field colour"],
			["/api/v1/queue?node=node9", "400 wrong_node"],
			["/api/v1/queue/history?cursor=x", "400 bad_cursor cursor"],
			["/api/v1/queue/history?node=node9", "400 wrong_node"],
			["/api/v1/queue/config?node=node9", "400 wrong_node"],
			["/api/v1/queue/events?node=node9", "400 wrong_node"],
			["/api/v1/queue/events?after=node1%3D4", "400 bad_event_id Last-Event-ID"],
			["/api/v1/queue/tasks/copy-none-1/events", "404 task_not_found"],
			["/api/v1/queue/tasks/copy-none-1", "404 task_not_found"],
		] as const) {
			expect({ path, told: await told(await t.get(path)) }).toEqual({ path, told: reason });
		}
	});

	test("a task in line tells what is in its way, who has that, since when and for how long", async () => {
		await using t = await stand();
		const held = { reservations: [modelReservation("m", "disk", "exclusive")] };
		const holder = await t.add(held);
		const { context } = await t.job(holder);
		const waiter = await t.add(held);
		context.report({ bytesDone: 1, bytesTotal: 1000 });
		const task = await t.json<{ obstacles: unknown[] }>(`/api/v1/queue/tasks/${waiter}`);
		expect(task.obstacles).toEqual([
			{
				kind: "reservation",
				key: "model:m@disk",
				mode: "exclusive",
				held_by: [{ task_id: holder, mode: "exclusive", since: expect.any(Number), eta_s: null }],
				promised_to: [],
			},
		]);
		expect(await t.json(`/api/v1/queue/tasks/${holder}`)).toMatchObject({ obstacles: [] });
		const dependent = await t.add({ dependencies: [holder] });
		expect(await t.json(`/api/v1/queue/tasks/${dependent}`)).toMatchObject({
			obstacles: [{ kind: "dependency", task_id: holder, status: "running" }],
		});
	});

	test("a finished task cannot be cancelled: 409 already_terminal", async () => {
		await using t = await stand();
		const id = await t.add();
		await t.end(id);
		const response = await t.app.ask("POST", `/api/v1/queue/tasks/${id}/cancel`);
		expect(response.status).toBe(409);
		expect((await errorOf(response)).details).toMatchObject({
			reason: "already_terminal",
			status: "completed",
		});
	});
});

describe("a retry", () => {
	const retry = (t: Stand, id: string, ask: Ask = {}): Promise<Response> =>
		t.app.ask("POST", `/api/v1/queue/tasks/${id}/retry`, ask);
	const failed = async (t: Stand, input: Partial<SubmitInput> = {}): Promise<string> => {
		const id = await t.add(input);
		(await t.job(id)).fail(new GswarmError("TASK_FAILED", "no", { reason: "broken" }));
		await t.queue.waitFor(id, AbortSignal.timeout(20_000));
		return id;
	};

	test("answers 202 with a new task, which the old one does not change for", async () => {
		await using t = await stand();
		const id = await failed(t);
		const before = t.queue.get(id);
		const response = await retry(t, id);
		const body = (await response.json()) as Record<string, unknown>;
		expect(response.status).toBe(202);
		expect(response.headers.get("location")).toBe(`/api/v1/queue/tasks/${String(body["task_id"])}`);
		expect(body).toMatchObject({ status: "queued", node: NODE, position: expect.any(Number) });
		expect(body["task_id"]).not.toBe(id);
		expect(t.queue.get(id)).toEqual({ ...before, retried_as: String(body["task_id"]) });
	});

	test("of what did not fail is 409 not_failed, of what is unknown 404", async () => {
		await using t = await stand();
		const id = await t.add();
		await t.job(id);
		expect(await told(await retry(t, id))).toBe("409 not_failed");
		await t.end(id);
		expect(await told(await retry(t, id))).toBe("409 not_failed");
		expect(await told(await retry(t, "copy-none-1"))).toBe("404 task_not_found");
	});

	test("needs the role that the first submit needed", async () => {
		await using t = await stand();
		const download = await failed(t);
		const move = await failed(t, { type: "move" });
		const forced = await failed(t, { type: "delete", request: { force: true } });
		expect(await told(await retry(t, download, { as: "viewer" }))).toBe("403 role_not_allowed");
		expect(await told(await retry(t, move, { as: "user" }))).toBe("403 role_not_allowed");
		expect(await told(await retry(t, forced, { as: "operator" }))).toBe("403 role_not_allowed");
		expect((await retry(t, download, { as: "user" })).status).toBe(202);
		expect((await retry(t, move, { as: "operator" })).status).toBe(202);
		expect((await retry(t, forced, { as: "admin" })).status).toBe(202);
	});

	test("of a part of an operation is the operation's", async () => {
		await using t = await stand();
		const id = await failed(t, { type: "copy", request: { pull: { operation_id: "copy-m-host" } } });
		const response = await retry(t, id);
		expect(response.status).toBe(409);
		expect((await errorOf(response)).details).toMatchObject({
			reason: "part_of_operation",
			operation: "copy-m-host",
		});
	});
});

describe("the configuration", () => {
	const put = (t: Stand, body: unknown, ask: Ask = {}): Promise<Response> =>
		t.app.ask("PUT", "/api/v1/queue/config", { ...ask, body });

	test("is read by who may read and changed by an admin alone, field by field, at once", async () => {
		await using t = await stand();
		const before = { max_concurrent_tasks: 4, resource_tracking: true };
		expect(await t.json("/api/v1/queue/config")).toMatchObject(before);
		expect(await told(await put(t, { max_concurrent_tasks: 1 }, { as: "operator" }))).toBe(
			"403 role_not_allowed",
		);
		expect(await (await put(t, { max_concurrent_tasks: 1 })).json()).toMatchObject({
			...before,
			max_concurrent_tasks: 1,
		});
		expect(await (await put(t, { resource_tracking: false })).json()).toMatchObject({
			max_concurrent_tasks: 1,
			resource_tracking: false,
		});
		const first = await t.add();
		const second = await t.add();
		await t.job(first);
		expect(t.jobs.has(second)).toBe(false);
		expect((await put(t, { max_concurrent_tasks: 2 })).status).toBe(200);
		await t.job(second);
	});

	test("a level that is off is refused at the submit, and bad values are named", async () => {
		await using t = await stand();
		expect((await put(t, { priority_levels: ["high", "low"] })).status).toBe(200);
		await expect(t.add({ priority: "normal" })).rejects.toMatchObject({ reason: "unknown_priority" });
		for (const [body, reason] of [
			[{ max_concurrent_tasks: 0 }, "400 bad_field max_concurrent_tasks"],
			[{ max_concurrent_tasks: 1.5 }, "400 bad_field max_concurrent_tasks"],
			[{ max_concurrent_tasks: 2000 }, "400 bad_field max_concurrent_tasks"],
			[{ priority_levels: [] }, "400 bad_field priority_levels"],
			[{ priority_levels: ["urgent"] }, "400 bad_field priority_levels.0"],
			[{ priority_levels: ["low", "high"] }, "400 bad_queue_config priority_levels"],
			[{ colour: "red" }, "400 unknown_field colour"],
		] as const) {
			expect({ body, told: await told(await put(t, body)) }).toEqual({ body, told: reason });
		}
	});
});

/** What events of either stream may tell. */
interface EventData {
	task_id: string;
	state: string;
	from: string | null;
}

describe("streams", () => {
	async function* eventsOf(
		response: Response,
	): AsyncGenerator<{ id: string | undefined; event: string; data: EventData }> {
		expect(response.headers.get("content-type")).toBe("text/event-stream");
		if (response.body === null) return;
		for await (const { id, event, data } of readEvents(response.body))
			yield { id, event, data: JSON.parse(data) as EventData };
	}

	test("a task's stream begins with the task, tells its changes, and ends with it", async () => {
		await using t = await stand();
		const id = await t.add();
		const { context } = await t.job(id);
		const events = eventsOf(await t.get(`/api/v1/queue/tasks/${id}/events`));
		const first = await events.next();
		expect(first.value).toMatchObject({ event: "task", data: { task_id: id, status: "running" } });
		context.report({ phase: "downloading", bytesDone: 5, bytesTotal: 10 });
		const second = await events.next();
		expect(second.value).toMatchObject({ event: "task", data: { progress: { bytes_done: 5 } } });
		await t.end(id);
		expect((await events.next()).value).toMatchObject({ event: "end", data: { status: "completed" } });
		expect((await events.next()).done).toBe(true);
		const late = eventsOf(await t.get(`/api/v1/queue/tasks/${id}/events`));
		expect((await late.next()).value).toMatchObject({ event: "end" });
	});

	test("the queue's stream tells every change once, and goes on after the one that was named", async () => {
		await using t = await stand();
		const before = await t.add();
		await t.end(before);
		const events = eventsOf(await t.get("/api/v1/queue/events"));
		const open = await events.next();
		expect(open.value).toMatchObject({ event: "open", data: { node: NODE } });
		const id = await t.add();
		await t.end(id);
		const states: string[] = [];
		const eventIds: string[] = [];
		for await (const { id: eventId = "", event, data } of events) {
			if (event !== "task") continue;
			expect(data).toMatchObject({ task_id: id, node: NODE });
			states.push(data.state);
			eventIds.push(eventId);
			if (data.state === "completed") break;
		}
		expect(states).toEqual(["pending", "running", "completed"]);
		const again = await t.get("/api/v1/queue/events", { headers: { "last-event-id": eventIds[0] ?? "" } });
		const missed: string[] = [];
		for await (const { event, data } of eventsOf(again)) {
			if (event !== "task") continue;
			missed.push(data.state);
			if (data.state === "completed") break;
		}
		expect(missed).toEqual(["running", "completed"]);
	});

	test("progress is told, at most once a second for each task, and is nothing to go on after", async () => {
		await using t = await stand();
		const id = await t.add();
		const { context } = await t.job(id);
		const events = eventsOf(await t.get("/api/v1/queue/events"));
		await events.next();
		let seen = 0;
		// Far more often than it may be told.
		const reporting = until("three reports were told", () => {
			context.report({ bytesDone: Math.random(), bytesTotal: 10 });
			return seen >= 3;
		});
		try {
			const from = performance.now();
			while (seen < 3) {
				const { value } = await events.next();
				if (value?.event !== "progress") continue;
				expect(value.data).toMatchObject({ task_id: id, node: NODE });
				seen++;
			}
			expect(performance.now() - from).toBeGreaterThan(1_500);
		} finally {
			await reporting;
			await events.return(undefined);
		}
	});

	test("a reader that does not read keeps nobody waiting, and has missed nothing when it reads again", async () => {
		await using t = await stand();
		const events = eventsOf(await t.get("/api/v1/queue/events"));
		await events.next();
		const held = { reservations: [modelReservation("m", "disk", "exclusive")] };
		const added: string[] = [];
		for (let n = 0; n < 1200; n++) added.push(await t.add(held));
		const submitted: string[] = [];
		while (submitted.length < added.length) {
			const { value } = await events.next();
			if (value?.event === "task" && value.data.from === null) submitted.push(value.data.task_id);
		}
		expect(submitted).toEqual(added);
		await events.return(undefined);
	}, 60_000);
});
