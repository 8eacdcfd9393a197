/** Why a task does not run now: everything that stands in its way, with names. */
import type { StoredError } from "../../schema/errors.ts";
import { type TaskStatus, taskStatus } from "../../schema/task.ts";
import { type Capacity, type Hold, type Reservation, bytesOf, modesConflict } from "./conflicts.ts";
import { needsOf } from "./reservations.ts";
import type { TaskReader } from "./task-reader.ts";
import type { TaskRow } from "./task-row.ts";

/** One thing in the way. Times are seconds since the epoch. */
export type Obstacle =
	| { kind: "dependency"; task_id: string; status: TaskStatus }
	/** Others hold the thing, or have waited so long that it is theirs next. */
	| {
			kind: "reservation";
			key: string;
			mode: Reservation["mode"];
			held_by: { task_id: string; mode: Reservation["mode"]; since: number | null }[];
			promised_to: { task_id: string; mode: Reservation["mode"] }[];
	  }
	/** Bytes that others may fill leave too few. */
	| { kind: "space"; key: string; needed: number; capacity: number; reserved: number; held_by: string[] }
	/** It failed for now and is tried again: after an error, for room on a tier, or for the host's word. */
	| { kind: "retry"; until: number; why: "error" | "space" | "host"; error: StoredError | null }
	| { kind: "slots"; running: number; limit: number }
	| { kind: "line"; ahead: number };

export interface Explanation {
	task_id: string;
	status: TaskStatus;
	/** In words for people, one sentence; null when it runs or has ended. */
	summary: string | null;
	obstacles: Obstacle[];
	/** When it is looked at again whatever happens, in seconds since the epoch; null when others decide that. */
	until: number | null;
}

export interface ExplainOptions {
	/** Tasks that run now. */
	running: number;
	/** Tasks that come before it. */
	ahead: number;
	slots: number;
	tracksDevices: boolean;
	capacity: Capacity;
}

export function explain(row: TaskRow, reader: TaskReader, options: ExplainOptions): Explanation {
	const obstacles = obstaclesOf(row, reader, options);
	const retry = obstacles.find((one) => one.kind === "retry");
	return {
		task_id: row.task_id,
		status: taskStatus(row.state),
		summary: obstacles.length === 0 ? null : obstacles.map(inWords).join("; "),
		obstacles,
		until: retry?.until ?? null,
	};
}

function obstaclesOf(row: TaskRow, reader: TaskReader, options: ExplainOptions): Obstacle[] {
	switch (row.state) {
		case "blocked":
			return reader
				.dependencies(row.seq)
				.filter(({ state }) => state !== "completed")
				.map(({ task_id, state }) => ({ kind: "dependency", task_id, status: taskStatus(state) }));
		case "retry_wait":
			return [retryOf(row)];
		case "pending": {
			const held = needsOf(row, options.tracksDevices).flatMap((need) =>
				obstaclesAt(need, row, reader, options.capacity),
			);
			if (held.length > 0) return held;
			const { running, ahead } = options;
			return [
				...(running >= options.slots ? [{ kind: "slots", running, limit: options.slots } as const] : []),
				...(ahead > 0 ? [{ kind: "line", ahead } as const] : []),
			];
		}
		case "running":
		case "cancelling":
		case "completed":
		case "failed":
		case "cancelled":
			return [];
	}
}

function retryOf({ run_at_ms, space_wait_since_ms, error: text }: TaskRow): Obstacle {
	const error = text === null ? null : (JSON.parse(text) as StoredError);
	const waits = error?.details["reason"] === "host_unreachable" ? "host" : "space";
	return {
		kind: "retry",
		until: (run_at_ms ?? 0) / 1000,
		why: space_wait_since_ms === null ? "error" : waits,
		error,
	};
}

function obstaclesAt(need: Reservation, row: TaskRow, reader: TaskReader, capacity: Capacity): Obstacle[] {
	const { key, mode, bytes = 0 } = need;
	const { held, planted } = reader.holds(key);
	const older = planted.filter((one) => one.seq < row.seq && !held.some((hold) => hold.seq === one.seq));
	const clashing = (holds: Hold[]): Hold[] => holds.filter((one) => modesConflict(one.mode, mode));
	const [holders, promised] = [clashing(held), clashing(older)];
	const obstacles: Obstacle[] = [];
	if (holders.length + promised.length > 0) {
		obstacles.push({
			kind: "reservation",
			key,
			mode,
			held_by: holders.map((hold) => ({ ...reader.holder(hold.seq), mode: hold.mode })),
			promised_to: promised.map((hold) => ({ task_id: reader.holder(hold.seq).task_id, mode: hold.mode })),
		});
	}
	const limit = capacity[key];
	const reserved = bytesOf([...held, ...older], key);
	if (bytes > 0 && limit !== undefined && reserved + bytes > limit) {
		const heldBy = held.map(({ seq }) => reader.holder(seq).task_id);
		obstacles.push({ kind: "space", key, needed: bytes, capacity: limit, reserved, held_by: heldBy });
	}
	return obstacles;
}

function inWords(obstacle: Obstacle): string {
	switch (obstacle.kind) {
		case "dependency":
			return `it waits for ${obstacle.task_id} (${obstacle.status})`;
		case "reservation": {
			const { key, mode, held_by, promised_to } = obstacle;
			const holders = held_by.map((one) => `${one.task_id} (${one.mode})`).join(", ");
			const promised = promised_to.map(({ task_id }) => task_id).join(", ");
			return [
				`it needs ${key} (${mode})`,
				...(holders === "" ? [] : [`held by ${holders}`]),
				...(promised === "" ? [] : [`promised to ${promised}, which waited longer`]),
			].join(", ");
		}
		case "space": {
			const { key, needed, capacity, reserved } = obstacle;
			return `it needs ${needed} bytes on ${key.replace(/^bytes:/, "")}, where tasks may use ${capacity} and others reserved ${reserved}`;
		}
		case "retry": {
			const what = {
				error: "it is tried again",
				space: "room is looked for",
				host: "the host is asked again",
			}[obstacle.why];
			const why = obstacle.error === null ? "" : `, after: ${obstacle.error.message}`;
			return `${what} at ${new Date(obstacle.until * 1000).toISOString()}${why}`;
		}
		case "slots":
			return `${obstacle.running} tasks run, and ${obstacle.limit} may`;
		case "line":
			return `${obstacle.ahead} tasks are before it`;
	}
}
