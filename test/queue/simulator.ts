/**
 * A queue in a world that a seed decides: processes die between any two writes, before or after the commit, or only
 * seem to and go on with what they were doing; messages to the writer come late, twice and in another order; time passes
 * in leaps. The database is the only thing that all lives share.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { expect } from "bun:test";
import { type Queue, type TaskHandlers, openQueue, queueModule } from "../../src/core/queue/queue.ts";
import {
	type WriteReply,
	type WriteRequest,
	fromFailure,
	runBatch,
} from "../../src/platform/database-batch.ts";
import { openForWriting } from "../../src/platform/database-file.ts";
import type { Database } from "../../src/platform/database.ts";
import type { Ids } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError, asGswarmError } from "../../src/schema/errors.ts";
import { PRIORITIES, TASK_TYPES } from "../../src/schema/task.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { type Memory, checkInvariants, newMemory } from "./invariants.ts";

const MODULES = new Map([[queueModule.room, queueModule]]);
const CAPACITY = { "bytes:d": 10 };
const STEPS = 70;
const MAX_TASKS = 14;
const KEYS = ["device:a", "device:b", "model:m@a", "bytes:d"];

/** A message to the writer that was not handled yet. */
interface Message {
	life: Life;
	request: WriteRequest;
	resolve(value: unknown): void;
	reject(error: unknown): void;
}

/** One process: its queue, and the jobs that its handlers have in hand. */
interface Life {
	queue: Queue | undefined;
	jobs: Map<string, { finish(): void; fail(error: unknown): void }>;
	/** Its messages still arrive, though another process has taken over. */
	isZombie: boolean;
}

export async function simulate(seed: number): Promise<void> {
	await new World(seed).run();
}

class World {
	readonly #random: () => number;
	readonly #clock = new FakeClock();
	readonly #db: Sqlite = openForWriting(":memory:", [queueModule]);
	readonly #memory: Memory = newMemory();
	readonly #messages: Message[] = [];
	/** Settles that were handled and may arrive once more. */
	readonly #handled: WriteRequest[] = [];
	/** Tasks whose submit was answered, and ids that were cancelled with success. */
	readonly #answered = new Set<string>();
	readonly #cancelled = new Set<string>();
	readonly #zombies: Life[] = [];
	/** Attempts that ended well, by task: which may be its result. */
	readonly #results = new Map<string, string[]>();
	#life: Life;
	#lives = 0;
	#submitted = 0;
	#slots = 2;

	constructor(seed: number) {
		this.#random = randomOf(seed);
		this.#life = this.#newLife();
	}

	async run(): Promise<void> {
		await this.#open();
		for (let step = 0; step < STEPS; step++) {
			await this.#step();
			await this.#clock.advance(0);
		}
		await this.#drain();
		this.#checkEnd();
		this.#db.close();
	}

	async #step(): Promise<void> {
		const dice = this.#random();
		if (dice < 0.22) void this.#submit();
		else if (dice < 0.52) this.#deliver();
		else if (dice < 0.68) this.#endJob();
		else if (dice < 0.73) void this.#cancel();
		else if (dice < 0.77) this.#duplicate();
		else if (dice < 0.84) await this.#clock.advance(this.#pick([1, 1000, 6000, 61_000, 400_000]) ?? 1);
		else if (dice < 0.87) void this.#configure();
		else if (dice < 0.91) this.#actAsZombie();
		else if (dice < 0.96) await this.#crash();
		else if (dice < 0.98) await this.#restart();
		else this.#deliver();
	}

	/** Some of the messages become one transaction, in any order, but a claim never overtakes what its process sent before. */
	#deliver(): void {
		const count = 1 + Math.floor(this.#random() * 4);
		const batch: Message[] = [];
		while (batch.length < count && this.#messages.length > 0) {
			const any = this.#random() < 0.7 ? 0 : Math.floor(this.#random() * this.#messages.length);
			const next = this.#messages[any]?.request[2] === "claim" ? 0 : any;
			batch.push(...this.#messages.splice(next, 1));
		}
		this.#handle(batch);
	}

	#handle(batch: readonly Message[]): void {
		if (batch.length === 0) return;
		const requests = batch.map(({ request }, id): WriteRequest => [id, request[1], request[2], request[3]]);
		const replies = runBatch(this.#db, MODULES, requests);
		for (const request of requests) if (request[2] === "settle") this.#handled.push(request);
		for (const [id, result, failure] of replies) {
			const message = batch[id];
			if (failure === undefined) message?.resolve(result);
			else message?.reject(fromFailure(failure));
		}
		this.#check();
	}

	/** What was settled once arrives again: it must not change anything any more. */
	#duplicate(): void {
		const request = this.#pick(this.#handled);
		if (request === undefined) return;
		const before = this.#state();
		const [reply]: WriteReply[] = runBatch(this.#db, MODULES, [request]);
		expect(asGswarmError(reply?.[2] === undefined ? undefined : fromFailure(reply[2])).reason).toBe(
			"stale_token",
		);
		expect(this.#state()).toBe(before);
	}

	async #submit(): Promise<void> {
		const { queue } = this.#life;
		if (queue === undefined || this.#submitted >= MAX_TASKS) return;
		const n = ++this.#submitted;
		const reservations = KEYS.filter(() => this.#random() < 0.25).map((key) =>
			key.startsWith("bytes:")
				? { key, mode: "shared" as const, bytes: 1 + Math.floor(this.#random() * 9) }
				: { key, mode: this.#random() < 0.5 ? ("shared" as const) : ("exclusive" as const) },
		);
		const before = this.#random() < 0.3 ? this.#pick([...this.#answered]) : undefined;
		const input = {
			type: "move",
			model: `m${n}`,
			request: { n },
			priority: this.#pick(PRIORITIES) ?? "normal",
			reservations,
			dependencies: before === undefined ? [] : [before],
			// Who hears nothing asks again with the same key.
			idempotencyKey: `key-${n}`,
			maxAttempts: 4,
		} as const;
		try {
			const { task } = await queue.submit(input);
			this.#answered.add(task.task_id);
		} catch (error) {
			expect(["dependency_failed", "stopping"]).toContain(asGswarmError(error).reason ?? "");
		}
	}

	#endJob(life = this.#life): void {
		const [id, job] = this.#pick([...life.jobs]) ?? [];
		if (id === undefined || job === undefined) return;
		const dice = this.#random();
		if (dice < 0.6) job.finish();
		else if (dice < 0.8)
			job.fail(new GswarmError("NETWORK_ERROR", "cut", { reason: "cut", retryable: true }));
		else if (dice < 0.9) job.fail(new GswarmError("RESOURCE_UNAVAILABLE", "full", { reason: "disk_full" }));
		else job.fail(new Error("broken"));
	}

	async #cancel(): Promise<void> {
		const { queue } = this.#life;
		const id = this.#pick([...this.#answered]);
		if (queue === undefined || id === undefined) return;
		try {
			const { status } = await queue.cancel(id);
			if (status === "cancelled") this.#cancelled.add(id);
		} catch (error) {
			expect(asGswarmError(error).reason).toBe("already_terminal");
		}
	}

	async #configure(): Promise<void> {
		const slots = 1 + Math.floor(this.#random() * 3);
		await this.#life.queue?.configure({ max_concurrent_tasks: slots });
	}

	/** The process dies: of what it sent, some has arrived, and the rest never will, or comes late from a zombie. */
	async #crash(): Promise<void> {
		const dying = this.#life;
		const isZombie = this.#random() < 0.5;
		const arrives = Math.floor(this.#random() * (this.#messages.length + 1));
		const mine = this.#messages.splice(0, arrives);
		const requests = mine.map(({ request }, id): WriteRequest => [id, request[1], request[2], request[3]]);
		if (requests.length > 0) runBatch(this.#db, MODULES, requests);
		if (isZombie) {
			dying.isZombie = true;
			this.#zombies.push(dying);
		} else this.#messages.length = 0;
		await this.#open();
	}

	async #restart(): Promise<void> {
		const { queue, jobs } = this.#life;
		const stopped = queue?.[Symbol.asyncDispose]();
		for (const { fail } of jobs.values()) fail(new Error("told"));
		for (let turn = 0; turn < 50 && this.#messages.length + jobs.size > 0; turn++) {
			this.#handle(this.#messages.splice(0));
			await this.#clock.advance(turn < 5 ? 0 : 1000);
		}
		this.#handle(this.#messages.splice(0));
		await this.#clock.advance(0);
		await Promise.race([stopped, this.#clock.advance(60_000)]);
		await this.#open();
	}

	/** A process that was taken for dead ends a job, or what it sent arrives now. */
	#actAsZombie(): void {
		const zombie = this.#pick(this.#zombies);
		if (zombie !== undefined) this.#endJob(zombie);
	}

	async #open(): Promise<void> {
		this.#life = this.#newLife();
		const life = this.#life;
		const opening = openQueue(
			{ db: this.#databaseOf(life), clock: this.#clock, ids: this.#idsOf(++this.#lives), log: silentLog },
			{ queue: "node", node: "node1", maxConcurrentTasks: this.#slots, capacity: () => CAPACITY },
		);
		// Nobody answers before the recovery is committed.
		this.#handle(this.#messages.splice(this.#messages.findIndex((message) => message.life === life)));
		life.queue = await opening;
		this.#slots = life.queue.config().max_concurrent_tasks;
		expect(this.#db.query("SELECT * FROM queue_reservation").all()).toEqual([]);
		life.queue.start(this.#handlersOf(life));
		await this.#clock.advance(0);
	}

	#newLife(): Life {
		return { queue: undefined, jobs: new Map(), isZombie: false };
	}

	#handlersOf(life: Life): TaskHandlers {
		const mine = this.#lives;
		return Object.fromEntries(
			TASK_TYPES.map((type) => [
				type,
				async ({ taskId, attempt, signal }) => {
					// Never twice at once in one process.
					expect(life.jobs.has(taskId)).toBe(false);
					const end = Promise.withResolvers<void>();
					life.jobs.set(taskId, { finish: end.resolve, fail: end.reject });
					signal.addEventListener("abort", () => {
						if (this.#random() < 0.7) end.reject(new Error("told"));
					});
					try {
						await end.promise;
					} finally {
						life.jobs.delete(taskId);
					}
					const by = `life ${mine}, attempt ${attempt}`;
					this.#results.set(taskId, [...(this.#results.get(taskId) ?? []), by]);
					return { by };
				},
			]),
		) as TaskHandlers;
	}

	#databaseOf(life: Life): Database {
		const messages = this.#messages;
		return {
			read: this.#db,
			writer: ({ room, writes }) =>
				Object.fromEntries(
					Object.keys(writes).map((operation) => [
						operation,
						(input: unknown) =>
							new Promise((resolve, reject) => {
								messages.push({
									life,
									request: [0, room, operation, structuredClone(input)],
									resolve,
									reject,
								});
							}),
					]),
				) as ReturnType<Database["writer"]>,
			[Symbol.asyncDispose]: () => Promise.resolve(),
		} as Database;
	}

	#idsOf(life: number): Ids {
		let n = 0;
		return {
			short: () => `l${life}n${n++}`,
			secret: () => `l${life}n${n++}`,
			fraction: this.#random,
		};
	}

	/** Nothing bad happens any more: every task comes to its end. */
	async #drain(): Promise<void> {
		for (const zombie of this.#zombies) for (const { finish } of zombie.jobs.values()) finish();
		for (let round = 0; round < 300; round++) {
			this.#handle(this.#messages.splice(0));
			for (const { finish } of this.#life.jobs.values()) finish();
			await this.#clock.advance(round % 4 === 3 ? 60_000 : 0);
			const live = this.#db.query("SELECT task_id FROM queue_task WHERE completed_at_ms IS NULL").all();
			if (live.length === 0 && this.#messages.length === 0) return;
		}
		const left = this.#db.query("SELECT * FROM queue_task WHERE completed_at_ms IS NULL").all();
		throw new Error(`tasks that never end: ${JSON.stringify(left)}`);
	}

	#check(): void {
		const { queue } = this.#life;
		this.#slots = Math.max(this.#slots, queue?.config().max_concurrent_tasks ?? 0);
		checkInvariants(this.#db, this.#memory, { slots: 3, capacity: CAPACITY });
	}

	/** No answered task is lost, none is there twice, and each result is of an attempt that did end well. */
	#checkEnd(): void {
		this.#check();
		const rows = this.#db
			.query<{ task_id: string; model: string; state: string; result: string | null }, []>(
				"SELECT task_id, model, state, result FROM queue_task",
			)
			.all();
		const ids = new Set(rows.map(({ task_id }) => task_id));
		expect([...this.#answered].filter((id) => !ids.has(id))).toEqual([]);
		expect(new Set(rows.map(({ model }) => model)).size).toBe(rows.length);
		for (const { task_id, state, result } of rows) {
			if (this.#cancelled.has(task_id)) expect({ task_id, state }).toEqual({ task_id, state: "cancelled" });
			if (state !== "completed") continue;
			const { by } = JSON.parse(result ?? "{}") as { by: string };
			expect(this.#results.get(task_id)).toContain(by);
		}
		// Each change of a task began where the one before ended.
		const events = this.#db
			.query<{ seq: number; from_state: string | null; to_state: string }, []>(
				"SELECT seq, from_state, to_state FROM queue_event ORDER BY seq, id",
			)
			.all();
		for (const [place, { seq, from_state }] of events.entries()) {
			const before = events[place - 1];
			expect(from_state).toBe(before?.seq === seq ? before.to_state : null);
		}
	}

	#state(): string {
		return JSON.stringify(this.#db.query("SELECT * FROM queue_task ORDER BY seq").all());
	}

	#pick<T>(from: readonly T[]): T | undefined {
		return from[Math.floor(this.#random() * from.length)];
	}
}

/** mulberry32: the same numbers for the same seed, on every machine. */
function randomOf(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
}
