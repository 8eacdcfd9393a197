import { expect, test } from "bun:test";
import { isLegalChange } from "../../src/core/queue/transitions.ts";
import { TASK_STATES, isTerminal } from "../../src/schema/task.ts";
import { queueModule } from "../../src/core/queue/queue.ts";
import { openForWriting } from "../../src/platform/database-file.ts";

const COLUMNS = `token = 1, open_dependencies = CASE $state WHEN 'blocked' THEN 1 ELSE 0 END,
	epoch = CASE WHEN $state IN ('running', 'cancelling') THEN 1 END,
	run_at_ms = CASE WHEN $state = 'retry_wait' THEN 1 END,
	completed_at_ms = CASE WHEN $state IN ('completed', 'failed', 'cancelled') THEN 1 END`;

test("the database refuses exactly the changes of state that the table does not have", () => {
	using db = openForWriting(":memory:", [queueModule]);
	const guards = db
		.query<{ name: string; sql: string }, []>(
			"SELECT name, sql FROM sqlite_master WHERE name = 'queue_task_legal'",
		)
		.all();
	expect(guards).toHaveLength(1);
	db.run(`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations,
		open_dependencies, max_attempts, phase, created_at_ms)
		VALUES ('node', 'a', 'move', 'm', 2, 'pending', '{}', '{}', '[]', 0, 5, 'queued', 0)`);
	const put = db.query(`UPDATE queue_task SET state = $state, ${COLUMNS}`);
	for (const from of TASK_STATES) {
		for (const to of TASK_STATES) {
			for (const { name } of guards) db.run(`DROP TRIGGER ${name}`);
			put.run({ state: from });
			for (const { sql } of guards) db.run(sql);
			let isRefused = false;
			try {
				put.run({ state: to });
			} catch {
				isRefused = true;
			}
			const wanted = from === to ? !isTerminal(from) : isLegalChange(from, to);
			expect({ from, to, isLegal: !isRefused }).toEqual({ from, to, isLegal: wanted });
		}
	}
});

test("nothing follows a terminal state, and every other state has a way to an end", () => {
	for (const state of TASK_STATES) {
		const next = TASK_STATES.filter((to) => isLegalChange(state, to));
		expect({ state, hasNext: next.length > 0 }).toEqual({ state, hasNext: !isTerminal(state) });
	}
	const reachesEnd = new Set(TASK_STATES.filter((state) => isTerminal(state)));
	for (let round = 0; round < TASK_STATES.length; round++) {
		for (const state of TASK_STATES) {
			if ([...reachesEnd].some((end) => isLegalChange(state, end))) reachesEnd.add(state);
		}
	}
	expect(reachesEnd.size).toBe(TASK_STATES.length);
});

test("no column of a finished task can be changed", () => {
	using db = openForWriting(":memory:", [queueModule]);
	db.run(`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations,
		open_dependencies, max_attempts, phase, created_at_ms)
		VALUES ('node', 'a', 'move', 'm', 2, 'pending', '{}', '{}', '[]', 0, 5, 'queued', 0)`);
	db.run("UPDATE queue_task SET state = 'cancelled', completed_at_ms = 1");
	expect(() => db.run("UPDATE queue_task SET result = '{}'")).toThrow("a finished task never changes");
	expect(() => db.run("UPDATE queue_task SET rank = 0")).toThrow("a finished task never changes");
});
