/**
 * BullMQ on a redis-server of our own, as durable as the queue beside it: `appendfsync always` is an fsync before each
 * answer. Over a unix socket, and with the workers in the client's process, so that the end of a job needs no further message.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

const NAME = "bench";
const DEADLINE_MS = 10_000;
/** As one call of addBulk; a larger script holds Redis up. */
const BULK = 1000;

export interface Bullmq extends AsyncDisposable {
	/** Adds, works off and completes so many jobs, from so many clients that each wait for the end of theirs. */
	cycles(clients: number, count: number): Promise<void>;
	/** Adds so many jobs in bulk, to a queue that nobody works off. */
	addBulk(count: number): Promise<void>;
}

/** Undefined where redis-server is not installed. */
export async function startBullmq(
	dir: string,
	{ workers, job }: { workers: number; job: Record<string, unknown> },
): Promise<Bullmq | undefined> {
	const program = Bun.which("redis-server");
	if (program === null) return undefined;
	mkdirSync(dir);
	const path = join(dir, "redis.sock");
	const settings = { port: 0, unixsocket: path, dir, appendonly: "yes", appendfsync: "always", save: "" };
	const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
	const child = Bun.spawn([program, ...args], { stdout: "ignore", stderr: "inherit" });
	await answering(path);
	// A worker waits with commands that block, and so may not give up on one.
	const connection = { path, maxRetriesPerRequest: null };
	const queue = new Queue(NAME, { connection });
	const bulk = new Queue(`${NAME}-bulk`, { connection });
	// Each fetches for itself: 64 workers of one job each are four times as fast as one of 64.
	const crew = Array.from(
		{ length: workers },
		() => new Worker(NAME, () => Promise.resolve({ done: true }), { connection }),
	);
	await Promise.all([queue, bulk, ...crew].map((one) => one.waitUntilReady()));
	const ended = new Set<string>();
	const waiting = new Map<string, () => void>();
	const onEnd = (id: string): void => {
		const resolve = waiting.get(id);
		waiting.delete(id);
		if (resolve === undefined) ended.add(id);
		else resolve();
	};
	for (const worker of crew) worker.on("completed", ({ id = "" }) => onEnd(id));
	const cycle = async (): Promise<void> => {
		const { id = "" } = await queue.add("work", job);
		if (ended.delete(id)) return;
		await new Promise<void>((resolve) => waiting.set(id, resolve));
	};
	return {
		async cycles(clients, count) {
			let begun = 0;
			const client = async (): Promise<void> => {
				while (begun++ < count) await cycle();
			};
			await Promise.all(Array.from({ length: clients }, client));
		},
		async addBulk(count) {
			const jobs = Array.from({ length: BULK }, () => ({ name: "work", data: job }));
			for (let added = 0; added < count; added += BULK) await bulk.addBulk(jobs);
		},
		async [Symbol.asyncDispose]() {
			await Promise.all([queue, bulk, ...crew].map((one) => one.close()));
			child.kill("SIGTERM");
			await child.exited;
		},
	};
}

async function answering(path: string): Promise<void> {
	const redis = new Redis({ path, retryStrategy: () => 20, maxRetriesPerRequest: null });
	redis.on("error", () => undefined);
	const timer = setTimeout(() => redis.disconnect(), DEADLINE_MS);
	await redis.ping();
	clearTimeout(timer);
	await redis.quit();
}
