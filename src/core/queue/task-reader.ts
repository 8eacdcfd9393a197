/** Reads of the queue, each by an index that the query names or a unique key. */
import type { Database as Sqlite } from "bun:sqlite";
import { invalid } from "../../schema/errors.ts";
import type { TaskCounters } from "../../schema/node.ts";
import type { FinishedStatus, TaskStatus, TaskType } from "../../schema/task.ts";
import type { Measure } from "./estimate.ts";
import { type QueueName, type TaskRow, findTask } from "./task-row.ts";

const DEFAULT_LIST = 100;
const DEFAULT_PAGE = 50;
const MAX_PAGE = 1000;
/** A place in line is counted up to here. */
const MAX_POSITION = 10_000;

export interface ListFilter {
	/** Left out: the tasks that are not finished. */
	status?: TaskStatus | undefined;
	type?: TaskType | undefined;
	model?: string | undefined;
	/** Default 100, at most 1000. */
	limit?: number | undefined;
}

export interface HistoryFilter {
	/** Default 50, at most 1000. */
	limit?: number | undefined;
	status?: FinishedStatus | undefined;
	type?: TaskType | undefined;
	/** Seconds since the epoch; tasks that ended at or after it. */
	since?: number | undefined;
	/** `next_cursor` of the page before. */
	cursor?: string | undefined;
}

export class TaskReader {
	readonly #db: Sqlite;
	readonly #queue: QueueName;

	constructor(db: Sqlite, queue: QueueName) {
		this.#db = db;
		this.#queue = queue;
	}

	find(taskId: string): TaskRow | undefined {
		return findTask(this.#db, this.#queue, taskId);
	}

	dependencies(seq: number): { task_id: string; state: TaskRow["state"] }[] {
		return this.#db
			.query<{ task_id: string; state: TaskRow["state"] }, [number]>(
				`SELECT t.task_id, t.state FROM queue_dependency d JOIN queue_task t ON t.seq = d.depends_on
				WHERE d.seq = ?1 ORDER BY t.seq`,
			)
			.all(seq);
	}

	/** Unfinished tasks: running ones first, then the line by priority and age. */
	live({ status, type, model, limit = DEFAULT_LIST }: ListFilter): TaskRow[] {
		const all = bounded(limit);
		const running =
			status === "pending"
				? []
				: this.#unfinished("queue_running", "epoch IS NOT NULL", { type, model }, all);
		const left = all - running.length;
		if (status === "running" || left === 0) return running;
		const line = this.#unfinished(
			"queue_live",
			"completed_at_ms IS NULL AND epoch IS NULL",
			{ type, model },
			left,
		);
		return [...running, ...line];
	}

	/** One page of finished tasks, the newest first. @throws 400 bad_cursor */
	finished({
		status,
		type,
		model,
		limit = DEFAULT_PAGE,
		since,
		cursor,
	}: HistoryFilter & Pick<ListFilter, "model">): {
		rows: TaskRow[];
		nextCursor: string | null;
	} {
		const { beforeMs, beforeSeq } = cursor === undefined ? START : parseCursor(cursor);
		const index = status === undefined ? "queue_done" : "queue_done_state";
		const page = bounded(limit);
		const rows = this.#db
			.query<TaskRow, [Record<string, string | number | null>]>(
				`SELECT * FROM queue_task INDEXED BY ${index}
				WHERE queue = $queue AND completed_at_ms IS NOT NULL AND completed_at_ms >= $sinceMs
					AND (completed_at_ms, seq) < ($beforeMs, $beforeSeq) ${status === undefined ? "" : "AND state = $status"}
					AND ($type IS NULL OR type = $type) AND ($model IS NULL OR model = $model)
				ORDER BY completed_at_ms DESC, seq DESC LIMIT $limit`,
			)
			.all({
				queue: this.#queue,
				sinceMs: since === undefined ? 0 : Math.ceil(since * 1000),
				beforeMs,
				beforeSeq,
				...(status === undefined ? {} : { status }),
				type: type ?? null,
				model: model ?? null,
				limit: page + 1,
			});
		const last = rows.length > page ? rows[page - 1] : undefined;
		return { rows: rows.slice(0, page), nextCursor: last === undefined ? null : formatCursor(last) };
	}

	/** Waiting and running now, and all that ever completed here. */
	counters(): TaskCounters {
		const rows = this.#db
			.query<{ state: TaskRow["state"]; count: number }, [string]>(
				"SELECT state, sum(count) AS count FROM queue_counter WHERE queue = ?1 GROUP BY state",
			)
			.all(this.#queue);
		const of = (...states: TaskRow["state"][]): number =>
			rows.reduce((sum, { state, count }) => (states.includes(state) ? sum + count : sum), 0);
		return {
			pending: of("blocked", "pending", "retry_wait"),
			running: of("running", "cancelling"),
			completed: of("completed"),
		};
	}

	/** Place in line: 1 is next. Waiting tasks of a more urgent priority come before, and older ones of the same. */
	position({ rank, seq }: Pick<TaskRow, "rank" | "seq">): number {
		const [older] = this.#db
			.query<{ count: number }, [string, number, number]>(
				`SELECT count(*) AS count FROM (
					SELECT 1 FROM queue_task INDEXED BY queue_live
					WHERE queue = ?1 AND rank = ?2 AND seq < ?3 AND completed_at_ms IS NULL AND epoch IS NULL LIMIT ${MAX_POSITION})`,
			)
			.all(this.#queue, rank, seq);
		return 1 + this.waiting(rank - 1) + (older?.count ?? 0);
	}

	/** How many wait with this priority or a more urgent one; the place of a task that was just submitted. */
	waiting(rank: number): number {
		const [row] = this.#db
			.query<{ count: number }, [string, number]>(
				`SELECT coalesce(sum(count), 0) AS count FROM queue_counter
				WHERE queue = ?1 AND rank <= ?2 AND state IN ('blocked', 'pending', 'retry_wait')`,
			)
			.all(this.#queue, rank);
		return row?.count ?? 0;
	}

	measures(): Measure[] {
		return this.#db
			.query<Measure, [string]>(
				`SELECT type, duration_ms AS durationMs, rate_bytes_per_second AS rateBytesPerSecond, samples
				FROM queue_measure WHERE queue = ?1`,
			)
			.all(this.#queue);
	}

	/** Who holds a reservation, or has planted it for itself. */
	holders(key: string, except: number): string[] {
		return this.#db
			.query<{ task_id: string }, [string, string, number]>(
				`SELECT DISTINCT t.task_id FROM (
					SELECT seq FROM queue_reservation WHERE queue = ?1 AND key = ?2
					UNION ALL SELECT seq FROM queue_planted WHERE queue = ?1 AND key = ?2
				) h JOIN queue_task t ON t.seq = h.seq WHERE h.seq <> ?3 LIMIT 5`,
			)
			.all(this.#queue, key, except)
			.map(({ task_id }) => task_id);
	}

	#unfinished(
		index: string,
		condition: string,
		{ type, model }: Pick<ListFilter, "type" | "model">,
		limit: number,
	): TaskRow[] {
		return this.#db
			.query<TaskRow, [string, string | null, string | null, number]>(
				`SELECT * FROM queue_task INDEXED BY ${index} WHERE queue = ?1 AND ${condition}
				AND (?2 IS NULL OR type = ?2) AND (?3 IS NULL OR model = ?3) ORDER BY rank, seq LIMIT ?4`,
			)
			.all(this.#queue, type ?? null, model ?? null, limit);
	}
}

const START = { beforeMs: Number.MAX_SAFE_INTEGER, beforeSeq: 0 };

function bounded(limit: number): number {
	return Math.max(1, Math.min(MAX_PAGE, Math.floor(limit)));
}

function formatCursor({ completed_at_ms, seq }: TaskRow): string {
	return Buffer.from(`${completed_at_ms}.${seq}`).toString("base64url");
}

function parseCursor(cursor: string): { beforeMs: number; beforeSeq: number } {
	const match = /^(\d{1,16})\.(\d{1,16})$/.exec(Buffer.from(cursor, "base64url").toString("latin1"));
	if (match === null) {
		throw invalid("bad_cursor", "The cursor is not one that a page of the history gave.", {
			field: "cursor",
		});
	}
	return { beforeMs: Number(match[1]), beforeSeq: Number(match[2]) };
}
