/** Requests to the writer, many in one transaction, and what they failed with on its way back over the thread's border. */
import type { Database as Sqlite } from "bun:sqlite";
import { dirname } from "node:path";
import { type ErrorCode, GswarmError } from "../schema/errors.ts";
import { releaseBallast } from "./ballast.ts";

/** The write operations of the rooms, by name. */
type Rooms = ReadonlyMap<string, { writes: Readonly<Record<string, (db: Sqlite, input: never) => unknown>> }>;

/** [id, room, operation, input] */
export type WriteRequest = [number, string, string, unknown];
/** [id, result] or [id, undefined, failure] */
export type WriteReply = [number, unknown, WriteFailure?];
export interface WriteFailure {
	gswarm: boolean;
	code: ErrorCode;
	message: string;
	options: {
		details: Record<string, unknown>;
		hint?: string;
		status?: number;
		retryable?: boolean;
		retryAfterS?: number;
	};
}

/** A transaction to which requests are added until it is committed. */
export interface Batch {
	/** Requests that were added. */
	readonly size: number;
	/** Runs them at once; a failed one is rolled back to its savepoint and does not harm the others. */
	add(requests: readonly WriteRequest[]): void;
	/** The replies, once everything is durable. */
	commit(): WriteReply[];
}

export function beginBatch(db: Sqlite, rooms: Rooms): Batch {
	const requests: WriteRequest[] = [];
	const replies: WriteReply[] = [];
	/** Set when the transaction itself is gone, and with it every request. */
	let broken: { error: unknown } | undefined;
	const giveUp = (error: unknown): void => {
		broken = { error };
		if (db.inTransaction) db.run("ROLLBACK");
	};
	const runOne = (request: WriteRequest): void => {
		const [id, room, operation, input] = request;
		const run = rooms.get(room)?.writes[operation];
		db.query("SAVEPOINT request").run();
		try {
			if (run === undefined) throw new Error(`no write operation ${room}.${operation}`);
			const result = run(db, input as never);
			db.query("RELEASE request").run();
			replies.push([id, result]);
		} catch (error) {
			if (!undo()) return giveUp(error);
			replies.push([id, undefined, toFailure(error)]);
		}
	};
	/** False after a full disk: then there is no transaction any more, and no savepoint. */
	const undo = (): boolean => {
		if (!db.inTransaction) return false;
		db.run("ROLLBACK TO request");
		db.run("RELEASE request");
		return true;
	};
	const end = (): WriteReply[] => {
		try {
			if (broken === undefined) {
				db.query("COMMIT").run();
				return replies;
			}
		} catch (error) {
			giveUp(error);
		}
		const failure = toFailure(broken?.error);
		return requests.map(([id]) => [id, undefined, failure]);
	};
	return {
		get size() {
			return requests.length;
		},
		add(more) {
			try {
				if (requests.length === 0) db.query("BEGIN IMMEDIATE").run();
				for (const request of more) {
					requests.push(request);
					if (broken === undefined) runOne(request);
				}
			} catch (error) {
				for (const request of more) if (!requests.includes(request)) requests.push(request);
				giveUp(error);
			}
		},
		commit() {
			const all = end();
			const isFull = all.every(([, , failure]) => failure?.options.details["reason"] === "disk_full");
			// Nobody was answered yet: once more with the ballast of the database's directory given up.
			return all.length > 0 && isFull && releaseBallast(dirname(db.filename))
				? runBatch(db, rooms, requests)
				: all;
		},
	};
}

/** Runs a batch of requests as one transaction. */
export function runBatch(db: Sqlite, rooms: Rooms, requests: readonly WriteRequest[]): WriteReply[] {
	const batch = beginBatch(db, rooms);
	batch.add(requests);
	return batch.commit();
}

/** A delete has to be recorded too, so gswarm cannot make the room by itself. */
const FULL_HINT = "Make room on that filesystem, then ask again; nothing was lost.";

export function toFailure(error: unknown): WriteFailure {
	if (error instanceof GswarmError) {
		const { code, message, details, hint, status, retryable, retryAfterS } = error;
		return {
			gswarm: true,
			code,
			message,
			options: {
				details,
				status,
				retryable,
				...(hint === undefined ? {} : { hint }),
				...(retryAfterS === undefined ? {} : { retryAfterS }),
			},
		};
	}
	const text = error instanceof Error ? error.message : String(error);
	const full = /disk is full|SQLITE_FULL/i.test(text);
	return {
		gswarm: full,
		code: full ? "RESOURCE_UNAVAILABLE" : "INTERNAL_ERROR",
		message: full ? "The disk of the data directory is full; nothing was recorded." : text,
		options: full ? { details: { reason: "disk_full" }, status: 507, hint: FULL_HINT } : { details: {} },
	};
}

export function fromFailure(failure: WriteFailure): Error {
	if (!failure.gswarm) return new Error(`Database write failed: ${failure.message}`);
	const { details, ...options } = failure.options;
	const reason = typeof details["reason"] === "string" ? { reason: details["reason"] } : {};
	return new GswarmError(failure.code, failure.message, { ...options, details, ...reason });
}
