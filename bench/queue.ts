/**
 * The queue beside the least that durability costs on this machine (raw-writer.ts): the same writer thread, the same
 * fsync per commit, on the same disk, round by round; and beside BullMQ on a redis-server that is as durable. A cycle is
 * submit, claim, run and complete.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
	type BatchItem,
	type Queue,
	deviceReservation,
	openQueue,
	queueModule,
} from "../src/core/queue/queue.ts";
import { systemClock } from "../src/platform/clock.ts";
import { openWorkerDatabase } from "../src/platform/database.ts";
import { openForWriting } from "../src/platform/database-file.ts";
import { systemIds } from "../src/platform/ids.ts";
import { silentLog } from "../src/platform/log.ts";
import { startBullmq } from "./bullmq.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	one: { name: "submit+claim+complete, one at a time", unit: "cycles/s", goal: { oursAtLeast: 2500 } },
	many: { name: "the same, 64 clients", unit: "cycles/s", goal: { oursAtLeast: 25_000 } },
	bullmqOne: { name: "one at a time (peer: BullMQ)", unit: "cycles/s", goal: { ratioAtLeast: 3 } },
	bullmqMany: {
		name: "64 clients (peer: 64 BullMQ workers)",
		unit: "cycles/s",
		goal: { ratioAtLeast: 5 },
	},
	// BullMQ's addBulk stands beside it; the goal is ours alone.
	batch: {
		name: "submit in batches of 10,000, two clients",
		unit: "tasks/s",
		goal: { oursAtLeast: 100_000 },
	},
	claim: { name: "claim with 1,000,000 pending (peer: with 1,000)", unit: "ms", goal: { ratioAtMost: 2 } },
	blocked: { name: "claim past 10,000 blocked (peer: none)", unit: "ms", goal: { ratioAtMost: 2 } },
	page: { name: "history page of 1,000,000, p99", unit: "ms", goal: { oursBelow: 20 } },
	status: { name: "status with that history, p99", unit: "ms", goal: { oursBelow: 20 } },
	open: { name: "open with 1,000,000 pending and as many finished", unit: "ms", goal: { oursBelow: 2000 } },
} as const;

/** `warmUp`: cycles before the clock runs, until what agents run for months is compiled; the peers have as many. */
const FULL = { rounds: 5, cycles: 1500, warmUp: 20_000, batch: 10_000, batches: 5, rows: 1_000_000 };
const QUICK = { rounds: 2, cycles: 300, warmUp: 1000, batch: 10_000, batches: 1, rows: 50_000 };
const CLIENTS = 64;
const PAGES = 300;
/** Claims of a storm that park it, 2,000 tasks each. */
const PARKING_CLAIMS = 10;
const work = {
	type: "move",
	model: "llama-7b",
	request: { model_name: "llama-7b", source_device: "node1:disk", target_device: "node1:gpu0" },
	priority: "normal",
} as const;

export async function benchQueue({ say, quick }: BenchContext): Promise<Measured[]> {
	const scale = quick ? QUICK : FULL;
	const dir = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	try {
		const cycles = await measureCycles(dir, scale, say);
		const batches = await measureBatches(dir, scale, say);
		const depth = await measureDepth(dir, scale, say);
		return [...cycles, ...batches, ...depth];
	} finally {
		rmSync(dir, { recursive: true, force: true });
	}
}

async function measureCycles(
	dir: string,
	{ rounds, cycles, warmUp }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	const one: number[] = [];
	const many: number[] = [];
	const rawOne: number[] = [];
	const rawMany: number[] = [];
	const bullmqOne: number[] = [];
	const bullmqMany: number[] = [];
	for (let round = 0; round < rounds; round++) {
		{
			await using at = await openAt(join(dir, `cycles-${round}.sqlite`), CLIENTS);
			at.queue.start({ move: () => Promise.resolve({ done: true }) });
			await runCycles(at.queue, CLIENTS, warmUp);
			one.push(await rateOf(cycles, () => runCycles(at.queue, 1, cycles)));
			many.push(await rateOf(cycles * 8, () => runCycles(at.queue, CLIENTS, cycles * 8)));
		}
		using raw = await openRaw(join(dir, `raw-${round}.sqlite`));
		await rawCycles(raw.call, CLIENTS, warmUp);
		rawOne.push(await rateOf(cycles, () => rawCycles(raw.call, 1, cycles)));
		rawMany.push(await rateOf(cycles * 8, () => rawCycles(raw.call, CLIENTS, cycles * 8)));
		for (const [clients, rates] of [
			[1, bullmqOne],
			[CLIENTS, bullmqMany],
		] as const) {
			await using bullmq = await startBullmq(join(dir, `bullmq-${round}-${clients}`), {
				workers: clients,
				job: work.request,
			});
			if (bullmq === undefined) continue;
			await bullmq.cycles(clients, clients === 1 ? cycles : warmUp);
			const count = clients === 1 ? cycles : cycles * 4;
			rates.push(await rateOf(count, () => bullmq.cycles(clients, count)));
		}
		const [alone, rawAlone, busy, rawBusy, bullmqAlone, bullmqBusy] = [
			one,
			rawOne,
			many,
			rawMany,
			bullmqOne,
			bullmqMany,
		].map((list) => list.at(-1)?.toFixed(0) ?? "no redis-server");
		say(`round ${round + 1}: ${alone} alone (raw ${rawAlone}, BullMQ ${bullmqAlone})`);
		say(`round ${round + 1}: ${busy} with ${CLIENTS} clients (raw ${rawBusy}, BullMQ ${bullmqBusy})`);
	}
	return [
		{ ...ROWS.one, ours: one, peer: rawOne },
		{ ...ROWS.many, ours: many, peer: rawMany },
		{ ...ROWS.bullmqOne, ours: one, peer: orMissing(bullmqOne) },
		{ ...ROWS.bullmqMany, ours: many, peer: orMissing(bullmqMany) },
	];
}

async function measureBatches(
	dir: string,
	{ rounds, batch, batches, warmUp }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	const ours: number[] = [];
	const bulk: number[] = [];
	const items: BatchItem[] = Array.from({ length: batch }, () => work);
	for (let round = 0; round < rounds; round++) {
		await using at = await openAt(join(dir, `batch-${round}.sqlite`), 1);
		for (let n = 0; n < warmUp; n += batch) await at.queue.submitBatch(items);
		ours.push(
			await rateOf(2 * batch * batches, async () => {
				const client = async (): Promise<void> => {
					for (let n = 0; n < batches; n++) await at.queue.submitBatch(items);
				};
				await Promise.all([client(), client()]);
			}),
		);
		await using bullmq = await startBullmq(join(dir, `bullmq-bulk-${round}`), {
			workers: 1,
			job: work.request,
		});
		if (bullmq !== undefined) {
			for (let n = 0; n < warmUp; n += batch) await bullmq.addBulk(batch);
			bulk.push(await rateOf(batch, () => bullmq.addBulk(batch)));
		}
		const theirs = bulk.at(-1)?.toFixed(0) ?? "no redis-server";
		say(`round ${round + 1}: ${ours.at(-1)?.toFixed(0)} tasks/s in batches (BullMQ ${theirs})`);
	}
	return [{ ...ROWS.batch, ours, peer: orMissing(bulk) }];
}

/** What a long line and a long history cost. */
async function measureDepth(
	dir: string,
	{ rows }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	const claims: Record<string, number[]> = {};
	for (const pending of [1000, rows]) {
		const path = join(dir, `depth-${pending}.sqlite`);
		fill(path, { pending, finished: pending === rows ? rows : 0 });
		claims[pending] = claimTimes(path);
		say(`claim with ${pending} pending: ${claims[pending]?.at(0)?.toFixed(3)} ms …`);
	}
	const path = join(dir, `depth-${rows}.sqlite`);
	const openMs: number[] = [];
	for (let n = 0; n < 3; n++) {
		const started = performance.now();
		await using _at = await openAt(path, 4);
		openMs.push(performance.now() - started);
	}
	await using at = await openAt(path, 4);
	const pageMs: number[] = [];
	let cursor: string | undefined;
	for (let n = 0; n < PAGES; n++) {
		const started = performance.now();
		const page = at.queue.history({ limit: 50, cursor, ...(n % 3 === 0 ? { status: "failed" } : {}) });
		pageMs.push(performance.now() - started);
		cursor = page.next_cursor ?? undefined;
	}
	const statusMs: number[] = [];
	for (let n = 0; n < PAGES; n++) {
		const started = performance.now();
		at.queue.counters();
		at.queue.page({ limit: 100 });
		statusMs.push(performance.now() - started);
	}
	const blocked = await blockedTimes(dir);
	return [
		{ ...ROWS.claim, ours: claims[rows] ?? [], peer: claims[1000] },
		{ ...ROWS.blocked, ours: blocked.past, peer: blocked.none },
		{ ...ROWS.page, ours: [percentile(pageMs, 0.99)], peer: undefined },
		{ ...ROWS.status, ours: [percentile(statusMs, 0.99)], peer: undefined },
		{ ...ROWS.open, ours: openMs, peer: undefined },
	];
}

/** The writer's own time for claims of one task each, in one transaction: the fsync would be the same for all. */
function claimTimes(path: string): number[] {
	using db = openForWriting(path, [queueModule]);
	db.run("INSERT OR REPLACE INTO queue_epoch VALUES ('node', 1)");
	const claim = (slots: number) =>
		queueModule.writes.claim(db, {
			queue: "node",
			epoch: 1,
			limits: { slots, criticalSlots: 0 },
			tracksDevices: true,
			capacity: {},
			nowMs: 2,
		});
	const samples: number[] = [];
	db.run("BEGIN IMMEDIATE");
	// What is blocked is parked once, before the clock runs.
	while (claim(1).more);
	for (let n = 0; n < 250; n++) {
		const started = performance.now();
		const { claimed, more } = claim(n + 2);
		if (n >= 50) samples.push(performance.now() - started);
		if (claimed.length === 0 && !more) throw new Error("nothing was claimed");
	}
	db.run("ROLLBACK");
	return samples;
}

/** Claims beside 10,000 tasks that wait for one device, once they are parked, and without them. */
async function blockedTimes(dir: string): Promise<{ past: number[]; none: number[] }> {
	const times = async (blocked: number): Promise<number[]> => {
		const path = join(dir, `blocked-${blocked}.sqlite`);
		const exclusive = { ...work, reservations: [deviceReservation("disk", "exclusive")] };
		{
			await using at = await openAt(path, 1);
			await at.queue.submitBatch([
				{ ...exclusive, priority: "critical" },
				...Array.from({ length: blocked }, () => exclusive),
				...Array.from({ length: 500 }, () => ({ ...work, priority: "low" as const })),
			]);
		}
		return claimTimes(path).slice(blocked === 0 ? 0 : PARKING_CLAIMS);
	};
	return { past: await times(10_000), none: await times(0) };
}

/** A line and a history straight into the tables: what was submitted over months. */
function fill(path: string, { pending, finished }: { pending: number; finished: number }): void {
	using db = openForWriting(path, [queueModule]);
	db.run("PRAGMA synchronous=OFF");
	const insert = db.query(
		`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations,
			open_dependencies, attempt, max_attempts, phase, created_at_ms)
		VALUES ('node', ?1, 'move', 'llama-7b', ?2, 'pending', ?3, '{"devices":[],"models":[],"exclusive":false}', '[]', 0, 0, 5, 'queued', 1)`,
	);
	const request = JSON.stringify(work.request);
	const slice = 50_000;
	for (let done = 0; done < pending + finished; done += slice) {
		db.run("BEGIN");
		for (let n = done; n < Math.min(done + slice, pending + finished); n++)
			insert.run(`move-llama-7b-${n.toString(36).split("").reverse().join("")}-${n}`, n % 4, request);
		db.run("COMMIT");
	}
	if (finished === 0) return;
	db.run("UPDATE queue_task SET state = 'running', epoch = 1, token = 1 WHERE seq <= ?1", [finished]);
	db.run(
		`UPDATE queue_task SET state = iif(seq % 10 = 0, 'failed', 'completed'), epoch = NULL, completed_at_ms = seq
		WHERE epoch = 1`,
	);
	db.run("PRAGMA wal_checkpoint(TRUNCATE)");
}

interface At extends AsyncDisposable {
	queue: Queue;
}

async function openAt(path: string, slots: number): Promise<At> {
	const worker = new Worker(new URL("./queue-writer.ts", import.meta.url));
	const db = await openWorkerDatabase(path, worker);
	const queue = await openQueue(
		{ db, clock: systemClock, ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1", maxConcurrentTasks: slots },
	);
	return {
		queue,
		async [Symbol.asyncDispose]() {
			await queue[Symbol.asyncDispose]();
			await db[Symbol.asyncDispose]();
		},
	};
}

async function runCycles(queue: Queue, clients: number, cycles: number): Promise<void> {
	const { signal } = new AbortController();
	let begun = 0;
	const client = async (): Promise<void> => {
		while (begun++ < cycles) {
			const { task } = await queue.submit(work);
			await queue.waitFor(task.task_id, signal);
		}
	};
	await Promise.all(Array.from({ length: clients }, client));
}

type Call = (operation: string, input: number | string) => Promise<number | null>;

async function openRaw(path: string): Promise<{ call: Call } & Disposable> {
	const worker = new Worker(new URL("./raw-writer.ts", import.meta.url));
	const waiting = new Map<number, (value: number | null) => void>();
	const opened = Promise.withResolvers<void>();
	worker.onmessage = ({ data }: MessageEvent<[number, number | null][]>) => {
		opened.resolve();
		for (const [id, value] of data) {
			waiting.get(id)?.(value);
			waiting.delete(id);
		}
	};
	worker.postMessage({ open: path });
	await opened.promise;
	let next = 0;
	return {
		call: (operation, input) =>
			new Promise((resolve) => {
				waiting.set(next, resolve);
				worker.postMessage([next++, operation, input]);
			}),
		[Symbol.dispose]: () => worker.terminate(),
	};
}

/** Submit and claim in one transaction, settle in another: two fsyncs a cycle, as the queue has. */
async function rawCycles(call: Call, clients: number, cycles: number): Promise<void> {
	const request = JSON.stringify(work.request);
	let begun = 0;
	const client = async (): Promise<void> => {
		while (begun++ < cycles) {
			const [, id] = await Promise.all([call("submit", request), call("claim", 0)]);
			if (id !== null) await call("settle", id);
		}
	};
	await Promise.all(Array.from({ length: clients }, client));
}

async function rateOf(count: number, run: () => Promise<void>): Promise<number> {
	const started = performance.now();
	await run();
	return (count / (performance.now() - started)) * 1000;
}

function orMissing(samples: readonly number[]): readonly number[] | "missing" {
	return samples.length === 0 ? "missing" : samples;
}

function percentile(samples: readonly number[], share: number): number {
	const sorted = samples.toSorted((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
