/**
 * Random sequences of everything that can happen to a queue, deaths and stops included, beside a model that says which
 * tasks must have ended and how. After each step the whole database is checked against what must always hold, and in
 * the end every task must have come to its end.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Hold, type Reservation, firstConflict } from "../../src/core/queue/conflicts.ts";
import type { TaskRow } from "../../src/core/queue/task-row.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { type Priority, type TaskStatus, isTerminal } from "../../src/schema/task.ts";
import { type Memory, checkInvariants, newMemory } from "./invariants.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

const MINUTE_MS = 60_000;
const CAPACITY = { "bytes:d": 10 };
const MAX_ATTEMPTS = 3;
const MAX_CRASHES = 3;
const RUNS = process.env["LONG"] === "1" ? 1000 : 60;

/** Tasks of another queue, done again and again. */
const FAR = ["far-1", "far-2"] as const;

type End = "completed" | "failed" | "cancelled";

/** A task as the model sees it. */
interface Expected {
	dependencies: string[];
	joinKey: string | undefined;
	waiters: number;
	/** Tries that counted. */
	attempts: number;
	crashes: number;
	end: End | undefined;
}

interface Model {
	tasks: Map<string, Expected>;
	slots: number;
}

interface World {
	at: TestQueue;
	memory: Memory;
}

type Step = fc.AsyncCommand<Model, World>;

const priority = fc.constantFrom<Priority>("critical", "high", "normal", "low");
const reservation: fc.Arbitrary<Reservation> = fc.oneof(
	fc.record({
		key: fc.constantFrom("device:a", "device:b", "model:m@a"),
		mode: fc.constantFrom("shared" as const, "exclusive" as const),
	}),
	fc.integer({ min: 1, max: 9 }).map((bytes) => ({ key: "bytes:d", mode: "shared" as const, bytes })),
);
const needs = fc.uniqueArray(reservation, { maxLength: 3, selector: ({ key }) => key });
const some = fc.nat(60);

/** A step that is always possible, and what it does is checked by `run`; the invariants are checked after each. */
function step(name: string, run: (model: Model, world: World) => Promise<void>): Step {
	return {
		check: () => true,
		toString: () => name,
		async run(model, world) {
			await run(model, world);
			await world.at.clock.advance(0);
			check(model, world);
		},
	};
}

const commands: fc.Arbitrary<Step>[] = [
	...repeat(
		4,
		fc
			.tuple(
				priority,
				needs,
				fc.array(some, { maxLength: 3 }),
				fc.option(fc.constantFrom("j1", "j2"), { nil: undefined }),
			)
			.map((input) => step(`submit ${JSON.stringify(input)}`, (m, w) => submit(m, w, ...input))),
	),
	fc
		.array(fc.tuple(priority, needs, fc.option(some, { nil: undefined })), { minLength: 1, maxLength: 4 })
		.map((items) => step(`batch ${JSON.stringify(items)}`, (m, w) => submitBatch(m, w, items))),
	...repeat(
		4,
		some.map((n) => step(`finish ${n}`, (m, w) => endJob(m, w, n, undefined))),
	),
	some.map((n) => step(`fail ${n}`, (m, w) => endJob(m, w, n, new Error("broken")))),
	some.map((n) => step(`cut ${n}`, (m, w) => endJob(m, w, n, failure("cut")))),
	some.map((n) => step(`no room ${n}`, (m, w) => endJob(m, w, n, failure("disk_full")))),
	fc
		.tuple(some, fc.integer({ min: 1, max: 9 }))
		.map(([n, bytes]) => step(`learn ${n} ${bytes}`, (m, w) => learn(m, w, n, bytes))),
	fc
		.tuple(fc.constantFrom(...FAR), some)
		.map(([far, n]) => step(`submit after ${far} ${n}`, (m, w) => submitAfter(m, w, far, n))),
	fc
		.tuple(fc.constantFrom(...FAR), fc.constantFrom<End>("completed", "failed", "cancelled"))
		.map(([far, how]) => step(`heard ${far} ${how}`, (m, w) => hear(m, w, far, how))),
	some.map((n) => step(`cancel ${n}`, (m, w) => cancel(m, w, n))),
	some.map((n) => step(`retry ${n}`, (m, w) => retry(m, w, n))),
	fc.integer({ min: 1, max: 5 }).map((slots) => step(`slots ${slots}`, (m, w) => setSlots(m, w, slots))),
	fc.boolean().map((on) =>
		step(`tracking ${on}`, async (_m, { at }) => {
			await at.queue.configure({ resource_tracking: on });
		}),
	),
	fc
		.constantFrom(1, 900, 20_000, MINUTE_MS, 6 * MINUTE_MS)
		.map((ms) => step(`advance ${ms}`, (_m, { at }) => at.clock.advance(ms))),
	fc.constant(step("die", (m, w) => restart(m, w, "die"))),
	fc.constant(step("stop", (m, w) => restart(m, w, "stop"))),
];

test("whatever happens, no task is lost, none runs twice at once, and every one comes to its end", async () => {
	await fc.assert(
		fc.asyncProperty(fc.commands(commands, { size: "+1", maxCommands: 60 }), async (program) => {
			const model: Model = { tasks: new Map(), slots: 3 };
			const at = await testQueue({ maxConcurrentTasks: model.slots, capacity: () => CAPACITY });
			const world: World = { at, memory: newMemory() };
			at.start();
			try {
				await fc.asyncModelRun(() => ({ model, real: world }), program);
				await drain(model, world);
			} finally {
				await world.at[Symbol.asyncDispose]();
			}
		}),
		{ numRuns: RUNS },
	);
}, 600_000);

function repeat<T>(times: number, value: T): T[] {
	return Array.from({ length: times }, () => value);
}

function failure(reason: string): GswarmError {
	return new GswarmError("NETWORK_ERROR", reason, { reason, retryable: true });
}

function pick(model: Model, n: number): string | undefined {
	return [...model.tasks.keys()][n % Math.max(1, model.tasks.size)];
}

function expected(dependencies: readonly string[], joinKey?: string): Expected {
	return { dependencies: [...dependencies], joinKey, waiters: 1, attempts: 0, crashes: 0, end: undefined };
}

/** Ends a task in the model, and what depends on it when it did not end well. */
function end(model: Model, id: string, how: End): void {
	const task = model.tasks.get(id);
	if (task === undefined || task.end !== undefined) return;
	task.end = how;
	if (how === "completed") return;
	for (const [other, { dependencies }] of model.tasks)
		if (dependencies.includes(id)) end(model, other, "failed");
}

async function submit(
	model: Model,
	{ at }: World,
	urgency: Priority,
	reservations: Reservation[],
	wanted: number[],
	joinKey: string | undefined,
): Promise<void> {
	const dependencies = [...new Set(wanted.map((n) => pick(model, n)).filter((id) => id !== undefined))];
	const answer = at.submit({
		priority: urgency,
		reservations,
		dependencies,
		joinKey,
		maxAttempts: MAX_ATTEMPTS,
	});
	const live = [...model.tasks].find(
		([, task]) => joinKey !== undefined && task.joinKey === joinKey && task.end === undefined,
	);
	const failed = dependencies.some((id) => ["failed", "cancelled"].includes(model.tasks.get(id)?.end ?? ""));
	if (live !== undefined && dependencies.length === 0) {
		expect(await answer).toMatchObject({ joined: true, task: { task_id: live[0] } });
		live[1].waiters++;
	} else if (failed) await expect(answer).rejects.toMatchObject({ code: "DEPENDENCY_FAILED" });
	else {
		const { task, joined } = await answer;
		expect(joined).toBe(false);
		model.tasks.set(task.task_id, expected(dependencies, joinKey));
	}
}

async function submitBatch(
	model: Model,
	{ at }: World,
	items: [Priority, Reservation[], number | undefined][],
): Promise<void> {
	const { taskIds } = await at.queue.submitBatch(
		items.map(([urgency, reservations, after], place) => ({
			type: "move",
			model: "llama",
			request: {},
			priority: urgency,
			reservations,
			maxAttempts: MAX_ATTEMPTS,
			after: after === undefined || place === 0 ? [] : [after % place],
		})),
	);
	for (const [place, id] of taskIds.entries()) {
		const after = items[place]?.[2];
		const before = after === undefined || place === 0 ? undefined : taskIds[after % place];
		model.tasks.set(id, expected(before === undefined ? [] : [before]));
	}
}

async function endJob(model: Model, { at }: World, n: number, error: unknown): Promise<void> {
	const [id, job] = [...at.jobs][n % Math.max(1, at.jobs.size)] ?? [];
	const task = model.tasks.get(id ?? "");
	if (id === undefined || job === undefined || task === undefined) return;
	if (error === undefined) job.finish({ done: true });
	else job.fail(error);
	await at.clock.advance(0);
	if (error === undefined) end(model, id, "completed");
	else if (!(error instanceof GswarmError)) end(model, id, "failed");
	else if (error.reason === "disk_full") {
		// Room is waited for an hour, and that is not an attempt.
		if (at.queue.get(id).status === "failed") end(model, id, "failed");
	} else if (++task.attempts === MAX_ATTEMPTS) end(model, id, "failed");
}

/** A running task learns that it needs room: it has it now, or goes back to the line. */
async function learn(model: Model, { at }: World, n: number, bytes: number): Promise<void> {
	const [id, job] = [...at.jobs][n % Math.max(1, at.jobs.size)] ?? [];
	if (id === undefined || job === undefined || !model.tasks.has(id)) return;
	await job.context
		.reserve({ key: "bytes:d", mode: "shared", bytes })
		.catch((error: unknown) => job.fail(error));
	await at.clock.advance(0);
}

async function submitAfter(model: Model, { at }: World, far: string, n: number): Promise<void> {
	const before = pick(model, n);
	const isOpen = before !== undefined && model.tasks.get(before)?.end === undefined;
	const { task } = await at.submit({
		dependencies: isOpen ? [before] : [],
		elsewhere: [{ taskId: far, place: "node2" }],
		maxAttempts: MAX_ATTEMPTS,
	});
	model.tasks.set(task.task_id, expected(isOpen ? [before, far] : [far]));
}

async function hear(model: Model, { at }: World, far: string, how: End): Promise<void> {
	await at.queue.heard(far, { status: how, root: far });
	for (const [id, task] of model.tasks) {
		if (!task.dependencies.includes(far)) continue;
		// Who waits for it from now on waits for the next one of that name.
		task.dependencies = task.dependencies.filter((one) => one !== far);
		if (how !== "completed") end(model, id, "failed");
	}
}

async function cancel(model: Model, { at }: World, n: number): Promise<void> {
	const id = pick(model, n);
	const task = model.tasks.get(id ?? "");
	if (id === undefined || task === undefined) return;
	const job = at.jobs.get(id);
	job?.context.signal.addEventListener("abort", () => job.fail(new Error("told")));
	if (task.end !== undefined) {
		await expect(at.queue.cancel(id)).rejects.toMatchObject({ reason: "already_terminal" });
		return;
	}
	const { status } = await at.queue.cancel(id);
	if (task.waiters > 1) task.waiters--;
	else {
		expect(status).toBe("cancelled");
		end(model, id, "cancelled");
	}
}

async function retry(model: Model, { at }: World, n: number): Promise<void> {
	const id = pick(model, n);
	const task = model.tasks.get(id ?? "");
	if (id === undefined || task === undefined) return;
	if (task.end !== "failed" && task.end !== "cancelled") {
		await expect(at.queue.retry(id)).rejects.toMatchObject({ reason: "not_failed" });
		return;
	}
	try {
		const { task: again, joined } = await at.queue.retry(id);
		expect(model.tasks.has(again.task_id)).toBe(joined);
		if (!joined) {
			const open = at.queue.awaited().map(({ taskId }) => taskId);
			const isFar = (name: string): boolean => (FAR as readonly string[]).includes(name);
			const dependencies = again.dependencies.filter((name) => !isFar(name) || open.includes(name));
			model.tasks.set(again.task_id, expected(dependencies, task.joinKey));
		}
	} catch (error) {
		// It was done again since and well, or what it depends on was not.
		expect(["not_failed", "dependency_failed"]).toContain((error as GswarmError).reason ?? "");
	}
}

async function setSlots(model: Model, { at }: World, slots: number): Promise<void> {
	await at.queue.configure({ max_concurrent_tasks: slots });
	model.slots = slots;
}

async function restart(model: Model, world: World, how: "die" | "stop"): Promise<void> {
	const { at } = world;
	if (how === "stop") {
		const stopped = at.queue[Symbol.asyncDispose]();
		for (const { fail } of at.jobs.values()) fail(new Error("told"));
		await stopped;
	} else {
		for (const id of at.jobs.keys()) {
			const task = model.tasks.get(id);
			if (task === undefined) continue;
			task.attempts++;
			if (++task.crashes === MAX_CRASHES || task.attempts === MAX_ATTEMPTS) end(model, id, "failed");
		}
	}
	world.at = await at.afterDeath();
	await at[Symbol.asyncDispose]();
	expect(world.at.rows("SELECT * FROM queue_reservation")).toEqual([]);
	world.at.start();
}

function check(model: Model, { at, memory }: World): void {
	const rows = checkInvariants(at.db.read, memory, { slots: model.slots, capacity: CAPACITY });
	expect(rows.map((row) => row.task_id)).toEqual([...model.tasks.keys()]);
	for (const row of rows) {
		const status: TaskStatus | undefined = isTerminal(row.state) ? (row.state as TaskStatus) : undefined;
		expect({ id: row.task_id, end: status }).toEqual({
			id: row.task_id,
			end: model.tasks.get(row.task_id)?.end,
		});
	}
	const running = rows.filter(({ epoch }) => epoch !== null);
	expect(new Set(at.jobs.keys())).toEqual(new Set(running.map((row) => row.task_id)));
	const pending = rows.filter(({ state }) => ["blocked", "pending", "retry_wait"].includes(state));
	expect(at.queue.counters()).toMatchObject({ pending: pending.length, running: running.length });
	checkLine(at, rows, model.slots);
}

/** Nobody waits for nothing: a task in line waits for a slot, a parked one for what is held or planted before it. */
function checkLine(at: TestQueue, rows: readonly TaskRow[], slots: number): void {
	const held = at.rows<Hold>("SELECT key, mode, seq FROM queue_reservation");
	const planted = at.rows<Hold>("SELECT key, mode, seq FROM queue_planted");
	const pending = rows.filter(({ state }) => state === "pending");
	const running = rows.filter(({ epoch }) => epoch !== null);
	expect(planted.filter(({ seq }) => ![...pending, ...running].some((row) => row.seq === seq))).toEqual([]);
	const ready = pending.filter((row) => row.parked_on === null);
	for (const row of ready) {
		const hasSlot = running.length < slots + (row.rank === 0 ? 1 : 0);
		expect({ id: row.task_id, hasSlot }).toEqual({ id: row.task_id, hasSlot: false });
	}
	for (const row of pending.filter((one) => one.parked_on !== null && one.parked_bytes === 0)) {
		const on = needsOf(row).find(({ key }) => key === row.parked_on);
		if (on === undefined)
			throw new Error(`${row.task_id} is parked on ${row.parked_on}, which it does not need`);
		// Someone is before it: a holder, an older one that planted, or a ready one or the head of its line that comes next.
		const line = pending.filter((one) => one.parked_on === row.parked_on && one.seq < row.seq);
		const before = [
			...held,
			...planted.filter(({ seq }) => seq < row.seq),
			...line.flatMap((one) => needsOf(one).filter(({ key }) => key === row.parked_on)),
		];
		// One that was woken before it and has no slot yet wakes it when it starts, whether or not both go together.
		const woken = ready.some((one) => needsOf(one).some(({ key }) => key === row.parked_on));
		expect({ id: row.task_id, waitsFor: woken || firstConflict([on], before) !== undefined }).toEqual({
			id: row.task_id,
			waitsFor: true,
		});
	}
}

function needsOf(row: TaskRow): Reservation[] {
	return JSON.parse(row.reservations) as Reservation[];
}

/** Ends what runs and lets time pass until nothing is left. */
async function drain(model: Model, world: World): Promise<void> {
	for (let round = 0; round < 200; round++) {
		const { at } = world;
		if (at.queue.counters().pending + at.queue.counters().running === 0) return;
		for (const far of FAR) await hear(model, world, far, "completed");
		for (const [id, { finish }] of at.jobs) {
			finish({ done: true });
			end(model, id, "completed");
		}
		await at.clock.advance(MINUTE_MS);
		check(model, world);
	}
	throw new Error(`tasks that never end: ${JSON.stringify(world.at.queue.list())}`);
}
