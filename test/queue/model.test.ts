/**
 * Random sequences of everything that can happen to a queue, deaths and stops included. After each step the whole
 * database is checked against what must always hold, and in the end every task must have come to its end.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Reservation, firstConflict } from "../../src/core/queue/conflicts.ts";
import { countTasks } from "../../src/core/queue/tally.ts";
import type { TaskRow } from "../../src/core/queue/task-row.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { type Priority, TASK_STATES, type TaskState, isTerminal, taskStatus } from "../../src/schema/task.ts";
import { type TestQueue, testQueue } from "./test-queue.ts";

const SLOTS = 3;
const MINUTE_MS = 60_000;

/** What the test knows of a task besides its row. */
interface Known {
	token: number;
	/** The whole row, once it is terminal. */
	end: string | undefined;
}

interface World {
	at: TestQueue;
	ids: string[];
	known: Map<string, Known>;
}

type Step = (world: World) => Promise<void>;

const priority = fc.constantFrom<Priority>("critical", "high", "normal", "low");
const reservation: fc.Arbitrary<Reservation> = fc.record({
	key: fc.constantFrom("device:a", "device:b", "model:m@a"),
	mode: fc.constantFrom("shared", "exclusive"),
});
const steps = fc.oneof(
	{
		weight: 6,
		arbitrary: fc
			.tuple(
				priority,
				fc.array(reservation, { maxLength: 3 }),
				fc.array(fc.nat(40), { maxLength: 3 }),
				fc.option(fc.constantFrom("j1", "j2"), { nil: undefined }),
			)
			.map((input) => named(`submit ${JSON.stringify(input)}`, (world) => submit(world, ...input))),
	},
	{
		weight: 5,
		arbitrary: fc.nat(9).map((n) => named(`finish ${n}`, (world) => endJob(world, n, undefined))),
	},
	{
		weight: 1,
		arbitrary: fc.nat(9).map((n) => named(`fail ${n}`, (world) => endJob(world, n, new Error("broken")))),
	},
	{
		weight: 2,
		arbitrary: fc.nat(9).map((n) => named(`cut ${n}`, (world) => endJob(world, n, failure("cut")))),
	},
	{
		weight: 1,
		arbitrary: fc.nat(9).map((n) => named(`no room ${n}`, (world) => endJob(world, n, failure("disk_full")))),
	},
	{ weight: 2, arbitrary: fc.nat(40).map((n) => named(`cancel ${n}`, (world) => cancel(world, n))) },
	{
		weight: 2,
		arbitrary: fc
			.constantFrom(1, 900, 20_000, MINUTE_MS, 6 * MINUTE_MS)
			.map((ms) => named(`advance ${ms}`, ({ at }) => at.clock.advance(ms))),
	},
	{ weight: 1, arbitrary: fc.constant(named("die", (world) => restart(world, "die"))) },
	{ weight: 1, arbitrary: fc.constant(named("stop", (world) => restart(world, "stop"))) },
);

test("whatever happens, no task is lost, none runs twice at once, and every one comes to its end", async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(steps, { minLength: 10, maxLength: 60 }), async (program) => {
			const world: World = { at: await testQueue({ maxConcurrentTasks: SLOTS }), ids: [], known: new Map() };
			world.at.start();
			try {
				for (const step of program) {
					await step(world);
					await world.at.clock.advance(0);
					check(world);
				}
				await drain(world);
			} finally {
				await world.at[Symbol.asyncDispose]();
			}
		}),
		{ numRuns: 60 },
	);
}, 240_000);

/** A step that says in a counterexample what it does. */
function named(name: string, step: Step): Step {
	return Object.assign(step, { [fc.toStringMethod]: () => name });
}

function failure(reason: string): GswarmError {
	return new GswarmError("NETWORK_ERROR", reason, { reason, retryable: true });
}

async function submit(
	{ at, ids }: World,
	urgency: Priority,
	reservations: Reservation[],
	dependencies: number[],
	joinKey: string | undefined,
): Promise<void> {
	const wanted = ids.length === 0 ? [] : dependencies.map((n) => ids[n % ids.length] ?? "");
	const isRefused = wanted.some((id) => ["failed", "cancelled"].includes(at.queue.get(id).status));
	const answer = at.add({ priority: urgency, reservations, dependencies: wanted, joinKey, maxAttempts: 3 });
	if (isRefused) await expect(answer).rejects.toMatchObject({ code: "DEPENDENCY_FAILED" });
	else {
		const id = await answer;
		if (!ids.includes(id)) ids.push(id);
	}
}

async function endJob({ at }: World, n: number, error: unknown): Promise<void> {
	const jobs = [...at.jobs.values()];
	const job = jobs[n % Math.max(1, jobs.length)];
	if (error === undefined) job?.finish({ done: true });
	else job?.fail(error);
	await at.clock.advance(0);
}

async function cancel({ at, ids }: World, n: number): Promise<void> {
	const id = ids[n % Math.max(1, ids.length)];
	if (id === undefined) return;
	const { status } = at.queue.get(id);
	const job = at.jobs.get(id);
	job?.context.signal.addEventListener("abort", () => job.fail(new Error("told")));
	if (isTerminal(status))
		await expect(at.queue.cancel(id)).rejects.toMatchObject({ reason: "already_terminal" });
	else await at.queue.cancel(id);
}

async function restart(world: World, how: "die" | "stop"): Promise<void> {
	const { at } = world;
	if (how === "stop") {
		const stopped = at.queue[Symbol.asyncDispose]();
		for (const { fail } of at.jobs.values()) fail(new Error("told"));
		await stopped;
	}
	world.at = await at.afterDeath();
	await at[Symbol.asyncDispose]();
	expect(world.at.rows("SELECT * FROM queue_reservation")).toEqual([]);
	world.at.start();
}

function check({ at, ids, known }: World): void {
	const rows = at.rows<TaskRow>("SELECT * FROM queue_task ORDER BY seq");
	expect(rows.map((row) => row.task_id)).toEqual(ids);
	const running = rows.filter(({ epoch }) => epoch !== null);
	checkCounters(at, rows);
	checkHolds(at, running);
	expect(running.filter(({ rank }) => rank > 0).length).toBeLessThanOrEqual(SLOTS);
	expect(running.length).toBeLessThanOrEqual(SLOTS + 1);
	expect(new Set(at.jobs.keys())).toEqual(new Set(running.map((row) => row.task_id)));
	for (const row of rows) {
		const before = known.get(row.task_id) ?? { token: 0, end: undefined };
		expect(row.token).toBeGreaterThanOrEqual(before.token);
		if (before.end !== undefined) expect(JSON.stringify(row)).toBe(before.end);
		expect(row.attempt).toBeLessThanOrEqual(row.max_attempts);
		known.set(row.task_id, {
			token: row.token,
			end: isTerminal(row.state) ? JSON.stringify(row) : undefined,
		});
	}
	checkDependencies(at);
	checkLine(at, rows, running.length);
}

/** What is counted is what is there, and every row's last event is its state. */
function checkCounters(at: TestQueue, rows: readonly TaskRow[]): void {
	const count = (...states: TaskState[]): number => rows.filter(({ state }) => states.includes(state)).length;
	const counted = countTasks(at.db.read, "node");
	for (const state of TASK_STATES)
		expect({ state, count: counted.states()[state] }).toEqual({ state, count: count(state) });
	for (const rank of [0, 1, 2, 3]) {
		const before = rows.filter((row) => row.rank <= rank && taskStatus(row.state) === "pending");
		expect({ rank, waiting: counted.waiting(rank) }).toEqual({ rank, waiting: before.length });
	}
	expect(at.queue.counters()).toMatchObject({
		pending: count("blocked", "pending", "retry_wait"),
		running: count("running", "cancelling"),
	});
	const last = at.rows<{ to_state: TaskState }>(
		"SELECT (SELECT to_state FROM queue_event e WHERE e.seq = t.seq ORDER BY id DESC LIMIT 1) AS to_state FROM queue_task t ORDER BY seq",
	);
	expect(last.map(({ to_state }) => to_state)).toEqual(rows.map(({ state }) => state));
}

/** Running tasks hold exactly what they need, nobody else holds anything, and what is exclusive is held alone. */
function checkHolds(at: TestQueue, running: readonly TaskRow[]): void {
	const held = at.rows<Reservation & { seq: number }>(
		"SELECT key, mode, seq FROM queue_reservation ORDER BY seq, key",
	);
	const needed = running.flatMap((row) =>
		(JSON.parse(row.reservations) as Reservation[]).map(({ key, mode }) => ({ key, mode, seq: row.seq })),
	);
	const byKey = (a: { seq: number; key: string }, b: { seq: number; key: string }): number =>
		a.seq - b.seq || (a.key < b.key ? -1 : 1);
	expect(held).toEqual(needed.sort(byKey));
	for (const one of held) {
		const others = held.filter(({ seq }) => seq !== one.seq);
		expect(firstConflict([one], others)).toBeUndefined();
	}
}

function checkDependencies(at: TestQueue): void {
	const wrong = at.rows(
		`SELECT t.task_id FROM queue_dependency d JOIN queue_task t ON t.seq = d.seq JOIN queue_task o ON o.seq = d.depends_on
		WHERE o.state <> 'completed' AND t.token > 0`,
	);
	expect(wrong).toEqual([]);
	const stuck = at.rows(
		`SELECT t.task_id FROM queue_dependency d JOIN queue_task t ON t.seq = d.seq JOIN queue_task o ON o.seq = d.depends_on
		WHERE o.state IN ('failed', 'cancelled') AND t.state NOT IN ('failed', 'cancelled')`,
	);
	expect(stuck).toEqual([]);
}

/** Nobody waits for nothing: a task in line waits for a slot, a parked one for what is held or planted before it. */
function checkLine(at: TestQueue, rows: readonly TaskRow[], running: number): void {
	const held = at.rows<Reservation>("SELECT key, mode FROM queue_reservation");
	const planted = at.rows<Reservation & { seq: number }>("SELECT key, mode, seq FROM queue_planted");
	const pending = rows.filter(({ state }) => state === "pending");
	const unfinished = rows.filter(({ state, epoch }) => state === "pending" || epoch !== null);
	expect(planted.filter(({ seq }) => !unfinished.some((row) => row.seq === seq))).toEqual([]);
	const ready = pending.filter((row) => row.parked_on === null);
	for (const row of ready) {
		expect({ id: row.task_id, hasSlot: running < SLOTS + (row.rank === 0 ? 1 : 0) }).toEqual({
			id: row.task_id,
			hasSlot: false,
		});
	}
	for (const row of pending.filter((one) => one.parked_on !== null)) {
		const on = (JSON.parse(row.reservations) as Reservation[]).find(({ key }) => key === row.parked_on);
		if (on === undefined)
			throw new Error(`${row.task_id} is parked on ${row.parked_on}, which it does not need`);
		// Someone is before it: a holder, an older one that planted, or a ready one or the head of its line that comes next.
		const before = [
			...held,
			...planted.filter(({ seq }) => seq < row.seq),
			...ready.flatMap((one) => JSON.parse(one.reservations) as Reservation[]),
			...pending
				.filter((one) => one.parked_on === row.parked_on && one.seq < row.seq)
				.map(
					(one) =>
						({
							key: row.parked_on ?? "",
							mode: one.parked_mode === "shared" ? "shared" : "exclusive",
						}) as const,
				),
		];
		expect({ id: row.task_id, waitsFor: firstConflict([on], before) !== undefined }).toEqual({
			id: row.task_id,
			waitsFor: true,
		});
	}
}

/** Ends what runs and lets time pass until nothing is left. */
async function drain(world: World): Promise<void> {
	for (let round = 0; round < 200; round++) {
		const { at } = world;
		if (at.queue.counters().pending + at.queue.counters().running === 0) return;
		for (const { finish } of at.jobs.values()) finish({ done: true });
		await at.clock.advance(MINUTE_MS);
		check(world);
	}
	throw new Error(`tasks that never end: ${JSON.stringify(world.at.queue.list())}`);
}
