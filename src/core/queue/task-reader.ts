/** Reads of the queue, each by an index that the query names or a unique key. */
import type { Database as Sqlite } from "bun:sqlite";
import { type GswarmError, invalid } from "../../schema/errors.ts";
import {
	FINISHED_STATUSES,
	type FinishedStatus,
	type Priority,
	type TaskStatus,
	type TaskType,
	taskStatus,
} from "../../schema/task.ts";
import type { Hold } from "./conflicts.ts";
import { type Dispatch, dispatchOf, findDispatched } from "./dispatch.ts";
import { type Elsewhere, awaitedBy, openAwaited } from "./elsewhere.ts";
import type { Measure } from "./estimate.ts";
import { type QueueName, type TaskRow, param, priorityRank, quoted, taskBySeq } from "./task-row.ts";

const DEFAULT_LIST = 100;
const DEFAULT_PAGE = 50;
const MAX_PAGE = 1000;
/** A place in line is counted up to here. */
const MAX_POSITION = 10_000;
/** Of one thing. */
const MAX_HOLDERS = 100;
const MAX_HOLDERS_SHOWN = 5;

export interface ListFilter {
	/** Left out: the tasks that are not finished. */
	status?: TaskStatus | undefined;
	type?: TaskType | undefined;
	model?: string | undefined;
	priority?: Priority | undefined;
	/** Default 100, at most 1000. */
	limit?: number | undefined;
}

export interface PageFilter {
	/** Left out: both. */
	status?: "pending" | "running" | undefined;
	type?: TaskType | undefined;
	model?: string | undefined;
	priority?: Priority | undefined;
	/** Default 100, at most 1000. */
	limit?: number | undefined;
	/** `next_cursor` of the page before. */
	cursor?: string | undefined;
}

export interface HistoryFilter {
	/** Default 50, at most 1000. */
	limit?: number | undefined;
	status?: FinishedStatus | undefined;
	type?: TaskType | undefined;
	priority?: Priority | undefined;
	/** Seconds since the epoch; tasks that ended at or after it. */
	since?: number | undefined;
	/** `next_cursor` of the page before. */
	cursor?: string | undefined;
}

/** A row, and whether the task depends on others: most do not, and then nobody has to look for them. */
export type FoundRow = TaskRow & { has_dependencies: number };

export class TaskReader {
	readonly #db: Sqlite;
	readonly #queue: QueueName;

	constructor(db: Sqlite, queue: QueueName) {
		this.#db = db;
		this.#queue = queue;
	}

	find(taskId: string): FoundRow | undefined {
		return this.#db
			.query<FoundRow, [string]>(
				`SELECT *, EXISTS (SELECT 1 FROM queue_dependency d WHERE d.seq = queue_task.seq)
					OR EXISTS (SELECT 1 FROM queue_awaited a WHERE a.seq = queue_task.seq) AS has_dependencies
				FROM queue_task WHERE task_id = ?1 AND queue = ${quoted(this.#queue)}`,
			)
			.all(taskId)[0];
	}

	/** Those of other queues after those of this one. */
	dependencies(seq: number): { task_id: string; state: TaskRow["state"] }[] {
		const here = this.#db
			.query<{ depends_on: number }, [number]>(
				`SELECT depends_on FROM queue_dependency WHERE seq = ${param(1)} ORDER BY depends_on`,
			)
			.all(seq)
			.flatMap(({ depends_on }) =>
				this.#db
					.query<{ task_id: string; state: TaskRow["state"] }, [number]>(
						"SELECT task_id, state FROM queue_task WHERE seq = ?1",
					)
					.all(depends_on),
			);
		return [...here, ...awaitedBy(this.#db, seq).map(({ taskId, state }) => ({ task_id: taskId, state }))];
	}

	/** Of other queues. */
	awaited(): Elsewhere[] {
		return openAwaited(this.#db, this.#queue);
	}

	/** Null when the task has been thrown away since. */
	idOf(seq: number): string | null {
		const [row] = this.#db
			.query<{ task_id: string }, [number]>("SELECT task_id FROM queue_task WHERE seq = ?1")
			.all(seq);
		return row?.task_id ?? null;
	}

	/** The task that does this one again; null when nobody asked for that. */
	retriedAs(seq: number): string | null {
		const [row] = this.#db
			.query<{ task_id: string }, [number]>(
				`SELECT task_id FROM queue_task INDEXED BY queue_retried WHERE retry_of = ${param(1)} AND retry_of IS NOT NULL
				ORDER BY seq DESC LIMIT 1`,
			)
			.all(seq);
		return row?.task_id ?? null;
	}

	dispatched(operationId: string): TaskRow | undefined {
		return findDispatched(this.#db, this.#queue, operationId);
	}

	/** Unfinished tasks that the host dispatched. */
	dispatches(): { taskId: string; dispatch: Dispatch }[] {
		return this.#db
			.query<Pick<TaskRow, "task_id" | "operation_id" | "fence_epoch" | "fence_n">, []>(
				`SELECT task_id, operation_id, fence_epoch, fence_n FROM queue_task INDEXED BY queue_dispatched
				WHERE queue = ${quoted(this.#queue)} AND operation_id IS NOT NULL AND completed_at_ms IS NULL ORDER BY seq`,
			)
			.all()
			.flatMap((row) => {
				const dispatch = dispatchOf(row);
				return dispatch === undefined ? [] : [{ taskId: row.task_id, dispatch }];
			});
	}

	/** Unfinished tasks: running ones first, then the line by priority and age. */
	live({ status, limit = DEFAULT_LIST, ...filter }: ListFilter): TaskRow[] {
		return this.page({
			...filter,
			limit,
			status: status === "pending" || status === "running" ? status : undefined,
		}).rows;
	}

	/** One page of unfinished tasks: running ones first, then the line by priority and age. @throws 400 bad_cursor */
	page({ status, limit = DEFAULT_LIST, cursor, ...filter }: PageFilter): {
		rows: TaskRow[];
		nextCursor: string | null;
	} {
		const after = cursor === undefined ? BEFORE_ALL : parsePlace(cursor);
		const page = bounded(limit);
		const running =
			status === "pending" || after.waits ? [] : this.#unfinished(RUNNING, filter, page + 1, after);
		const left = page + 1 - running.length;
		const waiting =
			status === "running" || left === 0
				? []
				: this.#unfinished(WAITING, filter, left, after.waits ? after : BEFORE_ALL);
		const all = [...running, ...waiting];
		const rows = all.slice(0, page);
		const last = all.length > page ? rows.at(-1) : undefined;
		return { rows, nextCursor: last === undefined ? null : placeCursor(last) };
	}

	/** How many unfinished tasks fit the filter, up to 10,000. */
	count({ status, ...filter }: Pick<PageFilter, "status" | "type" | "model" | "priority">): number {
		const { sql, values } = filtersOf(filter);
		return [RUNNING, WAITING]
			.filter((part) => status === undefined || part.status === status)
			.map(
				({ index, condition }) =>
					this.#db
						.query<{ count: number }, [Record<string, string | number>]>(
							`SELECT count(*) AS count FROM (SELECT 1 FROM queue_task INDEXED BY ${index}
							WHERE queue = ${quoted(this.#queue)} AND ${condition} ${sql} LIMIT ${MAX_POSITION})`,
						)
						.all(values)[0]?.count ?? 0,
			)
			.reduce((sum, count) => Math.min(MAX_POSITION, sum + count), 0);
	}

	/** One page of finished tasks, the newest first. @throws 400 bad_cursor */
	finished({
		status,
		type,
		model,
		priority,
		limit = DEFAULT_PAGE,
		since,
		cursor,
	}: HistoryFilter & Pick<ListFilter, "model" | "priority">): {
		rows: TaskRow[];
		nextCursor: string | null;
	} {
		const before = cursor === undefined ? START : parseCursor(cursor);
		const page = bounded(limit);
		const { sql, values } = filtersOf({ type, model, priority });
		// Each state is a line of its own; the newest of all lines are the newest of all.
		const lines = (status === undefined ? FINISHED_STATUSES : [status]).map(
			(state) =>
				`SELECT * FROM (SELECT seq, completed_at_ms FROM queue_task INDEXED BY queue_finished
				WHERE queue = ${quoted(this.#queue)} AND state = '${state}' AND completed_at_ms IS NOT NULL
					AND completed_at_ms >= $sinceMs AND (completed_at_ms, seq) < ($beforeMs, $beforeSeq) ${sql}
				ORDER BY completed_at_ms DESC, seq DESC LIMIT $limit)`,
		);
		const places = this.#db
			.query<{ seq: number }, [Record<string, string | number>]>(
				`${lines.join(" UNION ALL ")} ORDER BY completed_at_ms DESC, seq DESC LIMIT $limit`,
			)
			.all({
				sinceMs: since === undefined ? 0 : Math.ceil(since * 1000),
				...before,
				...values,
				limit: page + 1,
			});
		const rows = places.slice(0, page).map(({ seq }) => taskBySeq(this.#db, seq));
		const last = places.length > page ? rows.at(-1) : undefined;
		return { rows, nextCursor: last === undefined ? null : finishedCursor(last) };
	}

	/** How many of the same priority are before it in line, up to 10,000. */
	olderOfRank({ rank, seq }: Pick<TaskRow, "rank" | "seq">): number {
		const [older] = this.#db
			.query<{ count: number }, [number, number]>(
				`SELECT count(*) AS count FROM (
					SELECT 1 FROM queue_task INDEXED BY queue_live WHERE queue = ${quoted(this.#queue)} AND rank = ${param(1)}
					AND seq < ${param(2)} AND completed_at_ms IS NULL AND epoch IS NULL LIMIT ${MAX_POSITION})`,
			)
			.all(rank, seq);
		return older?.count ?? 0;
	}

	measures(): Measure[] {
		return this.#db
			.query<Measure, [string]>(
				`SELECT type, duration_ms AS durationMs, rate_bytes_per_second AS rateBytesPerSecond, samples
				FROM queue_measure WHERE queue = ?1`,
			)
			.all(this.#queue);
	}

	/** Who holds a thing, and to whom it is promised. */
	holds(key: string): { held: Hold[]; planted: Hold[] } {
		const of = (table: string): Hold[] =>
			this.#db
				.query<Hold, [string]>(
					`SELECT key, mode, bytes, seq FROM ${table} WHERE queue = ${quoted(this.#queue)} AND key = ${param(1)}
					ORDER BY seq LIMIT ${MAX_HOLDERS}`,
				)
				.all(key);
		return { held: of("queue_reservation"), planted: of("queue_planted") };
	}

	/** A task that holds something, and since when it runs, in seconds since the epoch. */
	holder(seq: number): { task_id: string; since: number | null } {
		const { task_id, started_at_ms } = taskBySeq(this.#db, seq);
		return { task_id, since: started_at_ms === null ? null : started_at_ms / 1000 };
	}

	/** The names of who holds a thing, or has planted it for itself. */
	holders(key: string, except: number): string[] {
		const { held, planted } = this.holds(key);
		const seqs = new Set([...held, ...planted].map(({ seq }) => seq));
		seqs.delete(except);
		return [...seqs].slice(0, MAX_HOLDERS_SHOWN).map((seq) => taskBySeq(this.#db, seq).task_id);
	}

	#unfinished(
		{ index, condition }: Part,
		filter: Pick<ListFilter, "type" | "model" | "priority">,
		limit: number,
		{ rank, seq }: { rank: number; seq: number },
	): TaskRow[] {
		const { sql, values } = filtersOf(filter);
		return this.#db
			.query<TaskRow, [Record<string, string | number>]>(
				`SELECT * FROM queue_task INDEXED BY ${index} WHERE queue = ${quoted(this.#queue)} AND ${condition}
				AND (rank, seq) > ($afterRank, $afterSeq) ${sql} ORDER BY rank, seq LIMIT $limit`,
			)
			.all({ ...values, afterRank: rank, afterSeq: seq, limit });
	}
}

/** Running tasks and waiting ones, each in an index of its own. */
interface Part {
	status: "running" | "pending";
	index: string;
	condition: string;
}
const RUNNING: Part = { status: "running", index: "queue_running", condition: "epoch IS NOT NULL" };
const WAITING: Part = {
	status: "pending",
	index: "queue_live",
	condition: "completed_at_ms IS NULL AND epoch IS NULL",
};

/** A place in the list of unfinished tasks. */
interface Place {
	waits: boolean;
	rank: number;
	seq: number;
}
const BEFORE_ALL: Place = { waits: false, rank: -1, seq: 0 };

/** The cursor that goes on after this task in the list of unfinished ones. */
export function placeCursor({ state, rank, seq }: Pick<TaskRow, "state" | "rank" | "seq">): string {
	return Buffer.from(`${taskStatus(state) === "running" ? 0 : 1}.${rank}.${seq}`).toString("base64url");
}

function parsePlace(cursor: string): Place {
	const match = /^([01])\.([0-3])\.(\d{1,16})$/.exec(Buffer.from(cursor, "base64url").toString("latin1"));
	if (match === null) throw badCursor("list");
	return { waits: match[1] === "1", rank: Number(match[2]), seq: Number(match[3]) };
}

/** Conditions for what is wanted, and nothing for what is not. */
function filtersOf({ type, model, priority }: Pick<ListFilter, "type" | "model" | "priority">): {
	sql: string;
	values: Record<string, string | number>;
} {
	return {
		sql: [
			type === undefined ? "" : "AND type = $type",
			model === undefined ? "" : "AND model = $model",
			priority === undefined ? "" : "AND rank = $rank",
		].join(" "),
		values: {
			...(type === undefined ? {} : { type }),
			...(model === undefined ? {} : { model }),
			...(priority === undefined ? {} : { rank: priorityRank(priority) }),
		},
	};
}

const START = { beforeMs: Number.MAX_SAFE_INTEGER, beforeSeq: 0 };

function bounded(limit: number): number {
	return Math.max(1, Math.min(MAX_PAGE, Math.floor(limit)));
}

/** The cursor that goes on after this task in the history. */
export function finishedCursor({ completed_at_ms, seq }: Pick<TaskRow, "completed_at_ms" | "seq">): string {
	return Buffer.from(`${completed_at_ms}.${seq}`).toString("base64url");
}

function parseCursor(cursor: string): { beforeMs: number; beforeSeq: number } {
	const match = /^(\d{1,16})\.(\d{1,16})$/.exec(Buffer.from(cursor, "base64url").toString("latin1"));
	if (match === null) throw badCursor("history");
	return { beforeMs: Number(match[1]), beforeSeq: Number(match[2]) };
}

function badCursor(what: string): GswarmError {
	return invalid("bad_cursor", `The cursor is not one that a page of the ${what} gave.`, { field: "cursor" });
}
