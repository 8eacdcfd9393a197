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

/** Runs a batch of requests as one transaction; a failed one is rolled back to its savepoint and does not harm the others. */
export function runBatch(db: Sqlite, modules: Rooms, batch: readonly WriteRequest[]): WriteReply[] {
	const replies: WriteReply[] = [];
	/** What a request failed with, until its savepoint is gone. */
	let failing: unknown;
	try {
		db.query("BEGIN IMMEDIATE").run();
		for (const request of batch) {
			const [id] = request;
			// A request that is alone goes with its transaction.
			if (batch.length === 1) {
				replies.push([id, runOne(db, modules, request)]);
				continue;
			}
			db.query("SAVEPOINT request").run();
			try {
				const result = runOne(db, modules, request);
				db.query("RELEASE request").run();
				replies.push([id, result]);
			} catch (error) {
				failing = error;
				// After a full disk there is no transaction any more, and no savepoint: then this throws.
				db.run("ROLLBACK TO request");
				db.run("RELEASE request");
				failing = undefined;
				replies.push([id, undefined, toFailure(error)]);
			}
		}
		db.query("COMMIT").run();
		return replies;
	} catch (error) {
		if (db.inTransaction) db.run("ROLLBACK");
		const failure = toFailure(failing ?? error);
		return batch.map(([id]) => [id, undefined, failure]);
	}
}

function runOne(db: Sqlite, modules: Rooms, [, room, operation, input]: WriteRequest): unknown {
	const run = modules.get(room)?.writes[operation];
	if (run === undefined) throw new Error(`no write operation ${room}.${operation}`);
	return run(db, input as never);
}

/** runBatch, and once more with the ballast of the database's directory given up when the disk was full. */
export function runOnFullDiskToo(db: Sqlite, modules: Rooms, batch: readonly WriteRequest[]): WriteReply[] {
	const replies = runBatch(db, modules, batch);
	const full =
		replies.length > 0 &&
		replies.every(([, , failure]) => failure?.options.details["reason"] === "disk_full");
	return full && releaseBallast(dirname(db.filename)) ? runBatch(db, modules, batch) : replies;
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
