import { expect, test } from "bun:test";
import { join } from "node:path";
import { openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { openForWriting } from "../../src/platform/database-file.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

const INSERT = `INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations,
	open_dependencies, attempt, max_attempts, token, epoch, phase, run_at_ms, completed_at_ms, created_at_ms)
	VALUES ('node', ?1, 'move', 'llama', 2, 'pending', '{"a":1}', '{"devices":[],"models":[],"exclusive":false}',
	'[{"key":"device:disk","mode":"exclusive"}]', 0, 0, 5, 0, NULL, 'queued', NULL, NULL, 1)`;

test("a database of the first version keeps every task, what it holds, and the order of the line", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	{
		using old = openForWriting(path, [{ ...queueModule, migrations: queueModule.migrations.slice(0, 1) }]);
		for (const id of ["runs", "waits", "parked", "done", "failed"]) old.query(INSERT).run(id);
		const run =
			"UPDATE queue_task SET state = 'running', epoch = 1, token = 1, attempt = 1 WHERE task_id = ?1";
		for (const id of ["runs", "done", "failed"]) old.query(run).run(id);
		const end = "UPDATE queue_task SET state = ?2, epoch = NULL, completed_at_ms = 5 WHERE task_id = ?1";
		old.query(end).run("done", "completed");
		old.query(end).run("failed", "failed");
		old.run("INSERT INTO queue_epoch VALUES ('node', 1)");
		old.run("INSERT INTO queue_reservation VALUES ('node', 'device:disk', 1, 'exclusive')");
		old.run(
			"UPDATE queue_task SET parked_on = 'device:disk', parked_mode = 'exclusive', parked_at_ms = 2 WHERE task_id = 'parked'",
		);
	}
	await using db = openInlineDatabase(path, [queueModule]);
	await using queue = await openQueue(
		{ db, clock: new FakeClock(), ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1" },
	);
	expect(queue.recovered()).toEqual([{ taskId: "runs", status: "pending" }]);
	expect(queue.list().map(({ task_id }) => task_id)).toEqual(["runs", "waits", "parked"]);
	expect(queue.history().tasks.map(({ task_id, status }) => [task_id, status])).toEqual([
		["failed", "failed"],
		["done", "completed"],
	]);
	expect(queue.counters()).toEqual({ pending: 3, running: 0, completed: 0 });
	const ran: string[] = [];
	queue.start({
		move: ({ taskId, request }) => {
			ran.push(taskId);
			expect(request).toEqual({ a: 1 });
			return Promise.resolve({});
		},
	});
	await queue.waitFor("parked", AbortSignal.timeout(20_000));
	expect(ran).toEqual(["runs", "waits", "parked"]);
});
