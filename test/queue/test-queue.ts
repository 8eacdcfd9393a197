/** A queue on a real database in a directory of its own, whose tasks end when the test says so. */
import { Database as Sqlite } from "bun:sqlite";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
	type Queue,
	type QueueOptions,
	type Submission,
	type SubmitInput,
	type TaskContext,
	type TaskHandlers,
	openQueue,
	queueModule,
} from "../../src/core/queue/queue.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { TASK_TYPES } from "../../src/schema/task.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** Where an fsync costs nothing: a kill of a real process is tested elsewhere. */
const FAST = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** A task in the hands of its handler. */
export interface Job {
	context: TaskContext;
	finish(result?: Record<string, unknown>): void;
	fail(error: unknown): void;
}

export interface TestQueue extends AsyncDisposable {
	queue: Queue;
	db: Database;
	clock: FakeClock;
	path: string;
	/** Jobs that began and did not end, by task id. */
	jobs: Map<string, Job>;
	/** Ids in the order in which they began. */
	begun: string[];
	submit(input?: Partial<SubmitInput>): Promise<Submission>;
	/** The id of a new task. */
	add(input?: Partial<SubmitInput>): Promise<string>;
	job(taskId: string): Promise<Job>;
	/** Ends a job well and waits until that is in the database. */
	finish(taskId: string): Promise<void>;
	/** The end of a task. */
	ended(taskId: string): ReturnType<Queue["waitFor"]>;
	start(handlers?: TaskHandlers): void;
	/** What another process would find now, as if this one had died: a copy of the database, opened with a new queue. */
	afterDeath(options?: Partial<QueueOptions>): Promise<TestQueue>;
	/** Rows straight from the database. */
	rows<Row>(sql: string): Row[];
}

export async function testQueue(options: Partial<QueueOptions> = {}, copyOf?: TestQueue): Promise<TestQueue> {
	const dir = tempDir(FAST);
	const path = join(dir.path, "agent.sqlite");
	if (copyOf !== undefined) copyDatabase(copyOf.path, path);
	const clock = copyOf?.clock ?? new FakeClock();
	const db = openInlineDatabase(path, [queueModule]);
	const queue = await openQueue(
		{ db, clock, ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1", ...options },
	);
	const jobs = new Map<string, Job>();
	const begun: string[] = [];
	const handler = async (context: TaskContext): Promise<Record<string, unknown> | undefined> => {
		const end = Promise.withResolvers<Record<string, unknown> | undefined>();
		jobs.set(context.taskId, { context, finish: (result) => end.resolve(result), fail: end.reject });
		begun.push(context.taskId);
		try {
			return await end.promise;
		} finally {
			jobs.delete(context.taskId);
		}
	};
	const self: TestQueue = {
		queue,
		db,
		clock,
		path,
		jobs,
		begun,
		submit: (input) =>
			queue.submit({ type: "move", model: "llama-7b", request: {}, priority: "normal", ...input }),
		add: async (input) => (await self.submit(input)).task.task_id,
		job: (taskId) => until(`${taskId} begins`, () => jobs.get(taskId)),
		finish: async (taskId) => {
			(await self.job(taskId)).finish();
			await self.ended(taskId);
		},
		ended: (taskId) => queue.waitFor(taskId, AbortSignal.timeout(20_000)),
		start: (handlers) =>
			queue.start(handlers ?? Object.fromEntries(TASK_TYPES.map((type) => [type, handler]))),
		afterDeath: (more) => testQueue({ ...options, ...more }, self),
		rows: <Row>(sql: string) => db.read.query<Row, []>(sql).all(),
		async [Symbol.asyncDispose]() {
			const stopped = queue[Symbol.asyncDispose]();
			for (const { fail } of jobs.values()) fail(new Error("the test is over"));
			await stopped;
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
	return self;
}

/** What is committed, and nothing else. */
function copyDatabase(from: string, to: string): void {
	using db = new Sqlite(from);
	db.run("VACUUM INTO ?1", [to]);
}
