/** Pages of one queue's tasks, and the cursors of any place in them. */
import type { ListFilter, Queue } from "../core/queue/queue.ts";
import { invalid } from "../schema/errors.ts";
import { PRIORITIES, type TaskDocument } from "../schema/task.ts";

export interface PageFilter extends Omit<ListFilter, "status" | "limit"> {
	status?: "pending" | "running" | undefined;
	limit: number;
	cursor?: string | undefined;
}

/** As much of the line as is looked at. */
const MOST = 1000;

/** Unfinished tasks, running ones first, then the line in order. @throws 400 bad_cursor */
export function pageOf(queue: Queue, { cursor, limit, ...filter }: PageFilter) {
	const all = queue.list({ ...filter, limit: MOST });
	const after = cursor === undefined ? undefined : parseCursor(cursor);
	const rest = after === undefined ? all : all.filter((task) => isBehind(placeOf(task), after));
	const tasks = rest.slice(0, limit);
	const last = tasks.at(-1);
	return {
		tasks,
		next_cursor: last === undefined || rest.length <= limit ? null : pageCursor(last),
		total: all.length,
	};
}

/** The cursor that goes on after this task. */
export function pageCursor(task: TaskDocument): string {
	return Buffer.from(placeOf(task).join(".")).toString("base64url");
}

/** The same in the history. */
export function historyCursor({ completed_at, seq }: TaskDocument): string {
	return Buffer.from(`${Math.round((completed_at ?? 0) * 1000)}.${seq}`).toString("base64url");
}

type Place = readonly [waits: number, rank: number, seq: number];

function placeOf({ status, priority, seq }: TaskDocument): Place {
	return [status === "running" ? 0 : 1, PRIORITIES.indexOf(priority), seq];
}

function isBehind(one: Place, other: Place): boolean {
	return (one[0] - other[0] || one[1] - other[1] || one[2] - other[2]) > 0;
}

function parseCursor(cursor: string): Place {
	const [, waits, rank, seq] =
		/^([01])\.([0-3])\.(\d{1,15})$/.exec(Buffer.from(cursor, "base64url").toString("latin1")) ?? [];
	if (seq !== undefined) return [Number(waits), Number(rank), Number(seq)];
	throw invalid("bad_cursor", "The cursor is not one that a page of this list gave.", { field: "cursor" });
}
