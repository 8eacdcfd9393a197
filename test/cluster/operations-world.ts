/**
 * A host and two nodes with their real queues in one process, in a world that a seed decides: any of them dies at any
 * moment and comes back on what it had committed, lines go down for a while, and messages come late, twice, in another
 * order or not at all. What each node publishes is kept beside it, as on a disk.
 */
import { Database as Sqlite } from "bun:sqlite";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
	type Dispatcher,
	type PartAnswer,
	type PartLine,
	createDispatcher,
} from "../../src/agent/host/dispatch.ts";
import { type HostedWork, createHostedWork } from "../../src/agent/node/hosted-work.ts";
import { toDispatch } from "../../src/agent/operation-token.ts";
import { type Queue, type TaskContext, openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError, asGswarmError } from "../../src/schema/errors.ts";
import { OPERATION_HEADER, type OperationToken, parseToken } from "../../src/schema/operation.ts";
import { type TaskDocument, isTerminal } from "../../src/schema/task.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

export const NODES = ["node1", "node2"] as const;
type NodeName = (typeof NODES)[number];

const FAST = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
/** How long a node's work takes at most, in the world's time. */
const LONGEST_WORK_MS = 20_000;
/** Longer than leases, patience with a silent line, and the pauses between attempts. */
const QUIET_MS = 20 * 60_000;

/** What the lines do to a message. */
export interface Faults {
	lose: number;
	loseAnswer: number;
	repeat: number;
	longestDelayMs: number;
}

export const NO_FAULTS: Faults = { lose: 0, loseAnswer: 0, repeat: 0, longestDelayMs: 0 };
export const BAD_LINES: Faults = { lose: 0.1, loseAnswer: 0.1, repeat: 0.15, longestDelayMs: 3_000 };

interface HostLife {
	kind: "host";
	dead: boolean;
	db: Database;
	queue: Queue;
	dispatcher: Dispatcher;
	path: string;
}

interface NodeLife {
	kind: "node";
	dead: boolean;
	db: Database;
	queue: Queue;
	hosted: HostedWork;
	path: string;
}

/** A task that does a part, as its row is. */
interface PartRow {
	task_id: string;
	state: string;
	fence_epoch: number;
	fence_n: number;
}

/** What survives a node's death. */
interface Disk {
	/** Parts whose result is there, by operation, with how often it was made anew. */
	published: Map<string, number>;
	/** Steps that destroyed something, by operation. */
	destroyed: Map<string, number>;
}

export class OperationsWorld implements AsyncDisposable {
	readonly clock = new FakeClock();
	readonly disks: Record<NodeName, Disk>;
	/** Messages that changed something although the node had answered to a later token. */
	readonly lateTaken: string[] = [];
	faults: Faults = NO_FAULTS;
	/** How long a node works on a part; undefined: as chance will have it. */
	workMs: number | undefined;
	/** Changes what nodes answer when they are asked for a part. */
	forge: ((answer: PartAnswer) => PartAnswer) | undefined;
	/** Questions of nodes to the host, in order. */
	readonly asked: OperationToken[] = [];
	/** Nodes whose host's messages do not arrive, though their own do. */
	readonly deaf = new Set<NodeName>();
	readonly down = new Set<NodeName>();
	readonly #random: () => number;
	readonly #followEveryMs: number | undefined;
	readonly #home = tempDir(FAST);
	readonly #all: (HostLife | NodeLife)[] = [];
	readonly #nodes = new Map<NodeName, NodeLife>();
	/** The highest token that each node has answered well, by operation. */
	readonly #seen = new Map<string, OperationToken>();
	readonly #over = new AbortController();
	#files = 0;
	#host: HostLife | undefined;

	private constructor(random: () => number, followEveryMs: number | undefined) {
		this.#random = random;
		this.#followEveryMs = followEveryMs;
		this.disks = { node1: emptyDisk(), node2: emptyDisk() };
	}

	/** With fewer questions of the host the same world takes less of ours. */
	static async open(
		random: () => number = () => 0.5,
		{ followEveryMs }: { followEveryMs?: number } = {},
	): Promise<OperationsWorld> {
		const world = new OperationsWorld(random, followEveryMs);
		for (const node of NODES) world.#nodes.set(node, await world.#newNode(node, undefined));
		world.#host = await world.#newHost(undefined);
		return world;
	}

	get host(): HostLife {
		if (this.#host === undefined) throw new Error("the host is not there yet");
		return this.#host;
	}

	node(name: NodeName): NodeLife {
		const life = this.#nodes.get(name);
		if (life === undefined) throw new Error(`${name} is not there yet`);
		return life;
	}

	/** An operation of one part: a `copy` makes something on the node, a `delete` destroys something there. */
	async submit(type: "copy" | "delete", node: NodeName, model: string): Promise<string> {
		const { task } = await this.host.queue.submit({
			type,
			model,
			request: { node },
			priority: "normal",
			reservations: [],
		});
		return task.task_id;
	}

	/** Kills the host; another one starts on what was committed. */
	async killHost(): Promise<void> {
		const before = this.host;
		before.dead = true;
		this.#host = await this.#newHost(before.path);
	}

	/** Stops the host as SIGTERM does, and starts it again. */
	async restartHost(): Promise<void> {
		const before = this.host;
		const stopped = before.queue[Symbol.asyncDispose]();
		await this.pass(1_000);
		await stopped;
		before.dead = true;
		this.#host = await this.#newHost(before.path);
	}

	async killNode(name: NodeName): Promise<void> {
		const before = this.node(name);
		before.dead = true;
		// Of parts that never arrived a node remembers tokens in memory alone: a late one is found by its lease.
		for (const key of [...this.#seen.keys()].filter((it) => it.startsWith(`${name} `)))
			if (this.#rows(before, key.slice(name.length + 1)).length === 0) this.#seen.delete(key);
		this.#nodes.set(name, await this.#newNode(name, before.path));
	}

	/** Time passes, with everything that happens in it. */
	async pass(ms: number): Promise<void> {
		for (let left = ms; left > 0; left -= 500) await this.clock.advance(Math.min(500, left));
	}

	/** Good lines, everybody up, until every operation has ended and every lease with it. */
	async settle(): Promise<void> {
		this.faults = NO_FAULTS;
		this.down.clear();
		this.deaf.clear();
		for (let passed = 0; passed < QUIET_MS; passed += 5_000) {
			await this.pass(5_000);
			const open = [this.host.queue, ...[...this.#nodes.values()].map(({ queue }) => queue)];
			if (open.every((queue) => queue.list().length === 0)) return;
		}
		throw new Error(`not settled: ${JSON.stringify(this.unfinished())}`);
	}

	unfinished(): string[] {
		const lives = [["host", this.host.queue], ...[...this.#nodes].map(([name, { queue }]) => [name, queue])];
		return (lives as [string, Queue][]).flatMap(([name, queue]) =>
			queue.list().map((task) => `${name} ${task.task_id} ${task.status} ${task.waiting_for ?? ""}`),
		);
	}

	/** Tasks of a node that did a part of this operation, whatever became of them. */
	partsOf(operation: string): ({ node: NodeName } & PartRow)[] {
		return [...this.#nodes].flatMap(([node, life]) =>
			this.#rows(life, `${operation}/part`).map((row) => ({ node, ...row })),
		);
	}

	/** A message to a node as the network brings it; tests send late ones by hand. */
	async deliver<T>(node: NodeName, token: OperationToken, act: (life: NodeLife) => Promise<T>): Promise<T> {
		const life = this.node(node);
		if (this.down.has(node) || this.deaf.has(node)) throw lost(node);
		const key = `${node} ${token.operation}`;
		const seen = this.#seen.get(key);
		const isLate = seen !== undefined && (token.host_epoch - seen.host_epoch || token.n - seen.n) < 0;
		const before = JSON.stringify(this.#rows(life, token.operation));
		const answer = await act(life);
		if (life.dead) throw lost(node);
		const after = JSON.stringify(this.#rows(life, token.operation));
		if (isLate && before !== after)
			this.lateTaken.push(`${key} ${token.host_epoch}.${token.n}: ${before} ${after}`);
		if (!isLate) this.#seen.set(key, token);
		return answer;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const life of this.#all) life.dead = true;
		this.#over.abort();
		for (const life of this.#all) {
			if (life.kind === "node") await life.hosted[Symbol.asyncDispose]();
			const stopped = life.queue[Symbol.asyncDispose]();
			await this.clock.advance(30_000);
			await stopped;
			await life.db[Symbol.asyncDispose]();
		}
		this.#home[Symbol.dispose]();
	}

	#rows({ db }: NodeLife, operation: string): PartRow[] {
		return db.read
			.query<PartRow, [string]>(
				"SELECT task_id, state, fence_epoch, fence_n FROM queue_task WHERE queue = 'node' AND operation_id = ?1",
			)
			.all(operation);
	}

	/** What a dead process was doing goes nowhere any more. */
	#guarded(
		life: HostLife | NodeLife,
		work: (context: TaskContext) => Promise<Record<string, unknown>>,
	): (context: TaskContext) => Promise<Record<string, unknown>> {
		return async (context) => {
			try {
				return await work(context);
			} finally {
				if (life.dead) await this.#never();
			}
		};
	}

	/** Until the test is over. */
	#never(): Promise<never> {
		const { promise, reject } = Promise.withResolvers<never>();
		const end = (): void => reject(lost("a dead process"));
		this.#over.signal.addEventListener("abort", end, { once: true });
		if (this.#over.signal.aborted) end();
		return promise;
	}

	/** A message over a line with faults: late, lost, twice. */
	async #send<T>(node: NodeName, life: HostLife, token: OperationToken, act: (to: NodeLife) => Promise<T>) {
		const { lose, loseAnswer, repeat, longestDelayMs } = this.faults;
		const delay = (): Promise<void> => this.clock.sleep(Math.floor(this.#random() * longestDelayMs));
		await delay();
		if (life.dead) await this.#never();
		if (this.#random() < lose) throw lost(node);
		if (this.#random() < repeat) {
			void (async () => {
				await delay();
				await delay();
				await this.deliver(node, token, act).catch(() => undefined);
			})();
		}
		const answer = await this.deliver(node, token, act);
		if (this.#random() < loseAnswer) throw lost(node);
		await delay();
		if (life.dead) await this.#never();
		return answer;
	}

	async #open(from: string | undefined): Promise<{ db: Database; path: string }> {
		const path = join(this.#home.path, `${++this.#files}.sqlite`);
		if (from !== undefined) {
			using old = new Sqlite(from);
			old.run("VACUUM INTO ?1", [path]);
		}
		return { db: openInlineDatabase(path, [queueModule]), path };
	}

	async #newHost(from: string | undefined): Promise<HostLife> {
		const { db, path } = await this.#open(from);
		const queue = await openQueue(
			{ db, clock: this.clock, ids: systemIds, log: silentLog },
			{ queue: "host", node: "host" },
		);
		const line = (name: string): PartLine => {
			const node = name as NodeName;
			return {
				follow: async (token) => {
					const answer = await this.#send(node, life, token, (to) => to.hosted.follow(token));
					return this.forge?.(answer) ?? answer;
				},
				revoke: (token) => this.#send(node, life, token, (to) => to.hosted.revoke(token)),
			};
		};
		const dispatcher = createDispatcher({
			clock: this.clock,
			log: silentLog,
			line,
			operation: (taskId) => found(queue, taskId),
			...(this.#followEveryMs === undefined ? {} : { followEveryMs: this.#followEveryMs }),
		});
		const life: HostLife = { kind: "host", dead: false, db, path, queue, dispatcher };
		this.#all.push(life);
		const work = async (context: TaskContext): Promise<Record<string, unknown>> => {
			const node = context.request["node"] as NodeName;
			const send = async (headers: Record<string, string>): Promise<{ task_id: string }> => {
				const token = parseToken(headers[OPERATION_HEADER] ?? "");
				const sent = this.#send(node, life, token, async (to) => {
					to.hosted.accept(token);
					const { task } = await to.queue.submit({
						type: context.type,
						model: context.model,
						request: {},
						priority: "normal",
						dispatch: toDispatch(token),
					});
					return { task_id: task.task_id };
				});
				return await Promise.race([sent, aborted(context.signal)]);
			};
			const task = await dispatcher.run(context).part({ key: "part", node, send });
			return { node_task_id: task.task_id };
		};
		queue.start({ copy: this.#guarded(life, work), delete: this.#guarded(life, work) });
		return life;
	}

	async #newNode(name: NodeName, from: string | undefined): Promise<NodeLife> {
		const { db, path } = await this.#open(from);
		const queue = await openQueue(
			{ db, clock: this.clock, ids: systemIds, log: silentLog },
			{ queue: "node", node: name },
		);
		const ask = async (token: OperationToken): Promise<void> => {
			await this.clock.sleep(Math.floor(this.#random() * this.faults.longestDelayMs));
			if (life.dead) await this.#never();
			this.asked.push(token);
			if (this.down.has(name) || this.#random() < this.faults.lose) throw lost("host");
			this.host.dispatcher.confirm(name, token);
		};
		const hosted = createHostedWork({
			clock: this.clock,
			log: silentLog,
			queue,
			ask,
			hostNowMs: () => this.clock.nowMs(),
		});
		const life: NodeLife = { kind: "node", dead: false, db, path, queue, hosted };
		this.#all.push(life);
		const disk = this.disks[name];
		queue.start({
			copy: this.#guarded(life, async (context) => {
				await this.clock.sleep(this.workMs ?? Math.floor(this.#random() * LONGEST_WORK_MS), context.signal);
				context.signal.throwIfAborted();
				if (life.dead) await this.#never();
				const operation = context.dispatch?.operationId ?? "";
				disk.published.set(operation, (disk.published.get(operation) ?? 0) + 1);
				// Between what is published and the row that says so, a node may die, too.
				await this.clock.sleep(Math.floor(this.#random() * 100));
				return { published: true };
			}),
			delete: this.#guarded(life, async (context) => {
				await this.clock.sleep(this.workMs ?? Math.floor(this.#random() * LONGEST_WORK_MS), context.signal);
				const operation = context.dispatch?.operationId ?? "";
				await hosted.confirm(operation);
				if (life.dead) await this.#never();
				disk.destroyed.set(operation, (disk.destroyed.get(operation) ?? 0) + 1);
				return { destroyed: true };
			}),
		});
		hosted.start();
		return life;
	}
}

/** The task's status in a queue; undefined when it has none of that id. */
export function found(queue: Queue, taskId: string): TaskDocument | undefined {
	try {
		return queue.get(taskId);
	} catch (error) {
		if (asGswarmError(error).code === "NOT_FOUND") return undefined;
		throw error;
	}
}

export function hasEnded(queue: Queue, taskId: string): boolean {
	const task = found(queue, taskId);
	return task !== undefined && isTerminal(task.status);
}

/** As a request is given up, though it may be on its way. */
function aborted(signal: AbortSignal): Promise<never> {
	return new Promise((_resolve, reject) => {
		signal.addEventListener("abort", () => reject(signal.reason), { once: true });
		if (signal.aborted) reject(signal.reason);
	});
}

function lost(node: string): GswarmError {
	return new GswarmError("NETWORK_ERROR", `${node} does not answer.`, {
		reason: "connect_failed",
		retryable: true,
	});
}

function emptyDisk(): Disk {
	return { published: new Map(), destroyed: new Map() };
}
