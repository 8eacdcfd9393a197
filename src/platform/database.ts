/**
 * SQLite behind one writer. All writes of an agent go through one thread that owns the database: requests that
 * arrive while a commit runs form the next transaction (natural group commit, a savepoint each), and each is
 * acknowledged after its COMMIT, so that an fsync never stalls requests or streams. Reads use a read-only connection.
 *
 * A room brings a WriterModule: its migrations and its write operations, each one whole transaction, synchronous
 * and short. The store calls them by name through `Database.writer`.
 */
import { Database as Sqlite } from "bun:sqlite";
import { dirname } from "node:path";
import { type ErrorCode, GswarmError } from "../schema/errors.ts";
import { releaseBallast } from "./ballast.ts";

/** Write operations by name; the input is structured-cloned to the writer thread, the result back. */
// oxlint-disable-next-line typescript/no-explicit-any -- the types of each operation are recovered by Writer<T>
export type WriteTable = Record<string, (db: Sqlite, input: any) => unknown>;

export interface WriterModule {
	room: string;
	/** SQL of 0001, 0002 …; append-only. */
	migrations: readonly string[];
	writes: WriteTable;
}

/** The same operations as async calls; each resolves after its COMMIT. */
export type Writer<T extends WriteTable> = {
	[K in keyof T]: (input: Parameters<T[K]>[1]) => Promise<ReturnType<T[K]>>;
};

export interface Database extends AsyncDisposable {
	/** A read-only connection. Never leave a statement open: use `.all()`, not `.get()` with RETURNING or `.iterate()`. */
	readonly read: Sqlite;
	writer<T extends WriteTable>(module: { room: string; writes: T }): Writer<T>;
}

/** [id, room, operation, input] */
export type WriteRequest = [number, string, string, unknown];
/** [id, result] or [id, undefined, failure] */
export type WriteReply = [number, unknown, WriteFailure?];
interface WriteFailure {
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

/** Opens the database for writing (WAL, synchronous=FULL) and brings every room's tables up to date. */
export function openForWriting(path: string, modules: readonly WriterModule[]): Sqlite {
	const db = new Sqlite(path, { create: true, strict: true });
	db.run("PRAGMA journal_mode=WAL");
	db.run("PRAGMA synchronous=FULL");
	db.run("PRAGMA busy_timeout=5000");
	db.run("PRAGMA foreign_keys=ON");
	db.run("PRAGMA trusted_schema=OFF");
	try {
		migrate(db, modules);
	} catch (error) {
		db.close();
		throw error;
	}
	return db;
}

/** Runs a batch of requests as one transaction; a failed one is rolled back to its savepoint and does not harm the others. */
export function runBatch(
	db: Sqlite,
	modules: ReadonlyMap<string, WriterModule>,
	batch: readonly WriteRequest[],
): WriteReply[] {
	const replies: WriteReply[] = [];
	/** What a request failed with, until its savepoint is gone. */
	let failing: unknown;
	try {
		db.run("BEGIN IMMEDIATE");
		for (const [id, room, operation, input] of batch) {
			const run = modules.get(room)?.writes[operation];
			db.run("SAVEPOINT request");
			try {
				if (run === undefined) throw new Error(`no write operation ${room}.${operation}`);
				const result = run(db, input);
				db.run("RELEASE request");
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
		db.run("COMMIT");
		return replies;
	} catch (error) {
		if (db.inTransaction) db.run("ROLLBACK");
		const failure = toFailure(failing ?? error);
		return batch.map(([id]) => [id, undefined, failure]);
	}
}

/** runBatch, and once more with the ballast of the database's directory given up when the disk was full. */
function runOnFullDiskToo(
	db: Sqlite,
	modules: ReadonlyMap<string, WriterModule>,
	batch: readonly WriteRequest[],
): WriteReply[] {
	const replies = runBatch(db, modules, batch);
	const full =
		replies.length > 0 &&
		replies.every(([, , failure]) => failure?.options.details["reason"] === "disk_full");
	return full && releaseBallast(dirname(db.filename)) ? runBatch(db, modules, batch) : replies;
}

/** A database whose writer runs in this thread; for tests and short-lived tools. Same batching, same transactions. */
export function openInlineDatabase(path: string, modules: readonly WriterModule[]): Database {
	const db = openForWriting(path, modules);
	const byRoom = new Map(modules.map((m) => [m.room, m]));
	return createDatabase(path, {
		post: (batch, deliver) => deliver(runOnFullDiskToo(db, byRoom, batch)),
		close: () => {
			db.close();
			return Promise.resolve();
		},
	});
}

/** A database whose writer is a Worker that runs serveDatabase. @throws what opening or migrating threw */
export async function openWorkerDatabase(path: string, worker: Worker): Promise<Database> {
	const opened = Promise.withResolvers<void>();
	const closed = Promise.withResolvers<void>();
	const unanswered = new Map<number, (replies: WriteReply[]) => void>();
	let dead: Error | undefined;
	/** Nobody waits for a thread that is gone: what it did not answer has failed, and so has all that comes. */
	const die = (message: string): void => {
		dead = new Error(`The database thread failed: ${message}`);
		opened.reject(dead);
		closed.resolve();
		for (const [id, deliver] of unanswered) deliver([[id, undefined, toFailure(dead)]]);
		unanswered.clear();
	};
	worker.onmessage = (event: MessageEvent<WorkerMessage>) => {
		const message = event.data;
		if ("replies" in message) {
			for (const reply of message.replies) {
				const deliver = unanswered.get(reply[0]);
				unanswered.delete(reply[0]);
				deliver?.([reply]);
			}
		} else if ("opened" in message) opened.resolve();
		else if ("closed" in message) closed.resolve();
		else opened.reject(fromFailure(message.failed));
	};
	worker.onerror = (event) => die(event.message);
	worker.addEventListener("close", () => die("it ended"));
	worker.postMessage({ open: path });
	try {
		await opened.promise;
	} catch (error) {
		worker.terminate();
		throw error;
	}
	return createDatabase(path, {
		post: (batch, deliver) => {
			if (dead !== undefined) {
				const failure = toFailure(dead);
				deliver(batch.map(([id]) => [id, undefined, failure]));
				return;
			}
			for (const [id] of batch) unanswered.set(id, deliver);
			worker.postMessage({ batch });
		},
		close: async () => {
			if (dead === undefined) worker.postMessage({ close: true });
			await closed.promise;
			worker.terminate();
		},
	});
}

type WorkerMessage =
	| { replies: WriteReply[] }
	| { opened: true }
	| { closed: true }
	| { failed: WriteFailure };

/** The body of the writer thread: call it once in the Worker's entry file. */
export function serveDatabase(modules: readonly WriterModule[]): void {
	const byRoom = new Map(modules.map((m) => [m.room, m]));
	const scope = globalThis as unknown as { postMessage(message: WorkerMessage): void; onmessage: unknown };
	let db: Sqlite | undefined;
	let waiting: WriteRequest[] = [];
	const flush = (): void => {
		const batch = waiting;
		waiting = [];
		if (db !== undefined && batch.length > 0)
			scope.postMessage({ replies: runOnFullDiskToo(db, byRoom, batch) });
	};
	scope.onmessage = (event: MessageEvent<{ open?: string; batch?: WriteRequest[]; close?: true }>) => {
		const { open, batch, close } = event.data;
		if (open !== undefined) {
			try {
				db = openForWriting(open, modules);
				scope.postMessage({ opened: true });
			} catch (error) {
				scope.postMessage({ failed: toFailure(error) });
			}
		}
		if (batch !== undefined) {
			if (waiting.length === 0) setImmediate(flush);
			waiting.push(...batch);
		}
		if (close === true) {
			flush();
			db?.close();
			scope.postMessage({ closed: true });
		}
	};
}

interface Transport {
	post(batch: WriteRequest[], deliver: (replies: WriteReply[]) => void): void;
	close(): Promise<void>;
}

function createDatabase(path: string, transport: Transport): Database {
	const read = new Sqlite(path, { readonly: true, strict: true });
	read.run("PRAGMA query_only=ON");
	read.run("PRAGMA busy_timeout=2000");
	const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
	let nextId = 0;
	let batch: WriteRequest[] = [];
	let isClosed = false;
	const deliver = (replies: WriteReply[]): void => {
		for (const [id, result, failure] of replies) {
			const call = waiting.get(id);
			waiting.delete(id);
			if (failure === undefined) call?.resolve(result);
			else call?.reject(fromFailure(failure));
		}
	};
	const send = (room: string, operation: string, input: unknown): Promise<unknown> => {
		if (isClosed)
			return Promise.reject(
				new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", { reason: "stopping" }),
			);
		const call = Promise.withResolvers<unknown>();
		const id = nextId++;
		waiting.set(id, call);
		if (batch.length === 0) {
			queueMicrotask(() => {
				const now = batch;
				batch = [];
				transport.post(now, deliver);
			});
		}
		batch.push([id, room, operation, input]);
		return call.promise;
	};
	return {
		read,
		writer<T extends WriteTable>({ room, writes }: { room: string; writes: T }): Writer<T> {
			const calls: Record<string, (input: unknown) => Promise<unknown>> = {};
			for (const operation of Object.keys(writes)) calls[operation] = (input) => send(room, operation, input);
			return calls as Writer<T>;
		},
		async [Symbol.asyncDispose]() {
			if (isClosed) return;
			isClosed = true;
			// What was asked for just now is on its way to the writer after this turn.
			await Promise.resolve();
			read.close();
			await transport.close();
		},
	};
}

function migrate(db: Sqlite, modules: readonly WriterModule[]): void {
	db.run(
		"CREATE TABLE IF NOT EXISTS schema_migration (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID",
	);
	db.transaction(() => {
		for (const { room, migrations } of modules) {
			const [row] = db
				.query<{ version: number }, [string]>("SELECT version FROM schema_migration WHERE room = ?1")
				.all(room);
			const from = row?.version ?? 0;
			if (from > migrations.length) {
				throw new GswarmError(
					"CONFLICT",
					`The data directory was written by a newer gswarm (${room} schema ${from}, this version knows ${migrations.length}).`,
					{ reason: "newer_schema", hint: "Use the newer gswarm again; nothing was changed." },
				);
			}
			for (const sql of migrations.slice(from)) db.run(sql);
			db.query("INSERT OR REPLACE INTO schema_migration (room, version) VALUES (?1, ?2)").run(
				room,
				migrations.length,
			);
		}
	}).immediate();
}

/** A delete has to be recorded too, so gswarm cannot make the room by itself. */
const FULL_HINT = "Make room on that filesystem, then ask again; nothing was lost.";

function toFailure(error: unknown): WriteFailure {
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

function fromFailure(failure: WriteFailure): Error {
	if (!failure.gswarm) return new Error(`Database write failed: ${failure.message}`);
	const { details, ...options } = failure.options;
	const reason = typeof details["reason"] === "string" ? { reason: details["reason"] } : {};
	return new GswarmError(failure.code, failure.message, { ...options, details, ...reason });
}
