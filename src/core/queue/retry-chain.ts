/** A task that was done again by hand, and again: the rows that follow one another. */
import type { Database as Sqlite } from "bun:sqlite";
import { type TaskRow, param } from "./task-row.ts";

/** The last task that does this one again; the row itself when nobody asked for that. */
export function newestRetry(db: Sqlite, row: TaskRow): TaskRow {
	const query = db.query<TaskRow, [number]>(
		`SELECT * FROM queue_task INDEXED BY queue_retried WHERE retry_of = ${param(1)} AND retry_of IS NOT NULL
		ORDER BY seq DESC LIMIT 1`,
	);
	let newest = row;
	for (let next = query.all(row.seq)[0]; next !== undefined; next = query.all(newest.seq)[0]) newest = next;
	return newest;
}
