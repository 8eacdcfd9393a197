import { expect, test } from "bun:test";
import { queueModule } from "../../src/core/queue/queue.ts";
import { changeState, taskBySeq } from "../../src/core/queue/task-row.ts";
import { openForWriting } from "../../src/platform/database-file.ts";

function withTask() {
	const db = openForWriting(":memory:", [queueModule]);
	db.run(`INSERT INTO queue_task (queue, task_id, type, model, rank, state, request, resources, reservations,
		open_dependencies, max_attempts, phase, created_at_ms)
		VALUES ('node', 'a', 'move', 'm', 2, 'pending', '{}', '{}', '[]', 0, 5, 'queued', 0)`);
	return db;
}

test("a change of state needs the state and the token that the row has", () => {
	using db = withTask();
	const row = taskBySeq(db, 1);
	const stale = expect.objectContaining({ reason: "stale_token", status: 409 });
	expect(() => changeState(db, { ...row, token: 1 }, "cancelled", { nowMs: 1, completed_at_ms: 1 })).toThrow(
		stale,
	);
	expect(() =>
		changeState(db, { ...row, state: "retry_wait" }, "cancelled", { nowMs: 1, completed_at_ms: 1 }),
	).toThrow(stale);
	expect(taskBySeq(db, 1)).toEqual(row);
	expect(db.query("SELECT * FROM queue_event").all()).toEqual([]);
	changeState(db, row, "cancelled", { nowMs: 1, completed_at_ms: 1 });
	expect(taskBySeq(db, 1).state).toBe("cancelled");
	expect(db.query("SELECT to_state FROM queue_event").all()).toEqual([{ to_state: "cancelled" }]);
});

test("a change that the table does not have is refused before it is tried", () => {
	using db = withTask();
	expect(() => changeState(db, taskBySeq(db, 1), "completed", { nowMs: 1 })).toThrow(
		"cannot go from pending to completed",
	);
});
