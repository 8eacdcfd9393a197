/**
 * SQLite behind one writer. All writes of an agent go through one thread that owns the database: requests that
 * arrive while a commit runs form the next transaction (natural group commit, a savepoint each), and each is
 * acknowledged after its COMMIT, so that an fsync never stalls requests or streams. Reads use a read-only connection.
 *
 * A room brings a WriterModule: its migrations and its write operations, each one whole transaction, synchronous
 * and short. The store calls them by name through `Database.writer`.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../schema/errors.ts";
import {
	type Batch,
	type WriteFailure,
	type WriteReply,
	type WriteRequest,
	fromFailure,
	beginBatch,
	runBatch,
	toFailure,
} from "./database-batch.ts";
import { openForReading, openForWriting } from "./database-file.ts";
import { layOutLog } from "./database-log.ts";

/** Requests that go to the writer's thread together. */
const LARGEST_MESSAGE = 16;
/** Requests that share a transaction, however fast more of them come. */
const LARGEST_BATCH = 1024;

/** Write operations by name; the input is structured-cloned to the writer thread, the result back. */
// oxlint-disable-next-line typescript/no-explicit-any -- the types of each operation are recovered by Writer<T>
export type WriteTable = Record<string, (db: Sqlite, input: any) => unknown>;

export interface WriterModule {
	room: string;
	/** SQL of 0001, 0002 …; append-only. */
	migrations: readonly string[];
	writes: WriteTable;
	/** Inputs and results are plain JSON: they cross the thread's border as text, in half the time that a clone takes. */
	isJson?: true;
}

/** The same operations as async calls; each resolves after its COMMIT. */
export type Writer<T extends WriteTable> = {
	[K in keyof T]: (input: Parameters<T[K]>[1]) => Promise<ReturnType<T[K]>>;
};

export interface Database extends AsyncDisposable {
	/** A read-only connection. Never leave a statement open: use `.all()`, not `.get()` with RETURNING or `.iterate()`. */
	readonly read: Sqlite;
	writer<T extends WriteTable>(module: Pick<WriterModule, "room" | "isJson"> & { writes: T }): Writer<T>;
}

/** A database whose writer runs in this thread; for tests and short-lived tools. Same batching, same transactions. */
export function openInlineDatabase(path: string, modules: readonly WriterModule[]): Database {
	const db = openForWriting(path, modules);
	const byRoom = new Map(modules.map((m) => [m.room, m]));
	return createDatabase(path, {
		post: (batch, deliver) => deliver(runBatch(db, byRoom, batch)),
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
	const answer = (replies: readonly WriteReply[]): void => {
		for (const reply of replies) {
			const deliver = unanswered.get(reply[0]);
			unanswered.delete(reply[0]);
			deliver?.([reply]);
		}
	};
	worker.onmessage = (event: MessageEvent<WorkerMessage | string>) => {
		const message = event.data;
		if (typeof message === "string") answer(JSON.parse(message) as WriteReply[]);
		else if ("replies" in message) answer(message.replies);
		else if ("opened" in message) opened.resolve();
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
		post: (batch, deliver, isJson) => {
			if (dead !== undefined) {
				const failure = toFailure(dead);
				deliver(batch.map(([id]) => [id, undefined, failure]));
				return;
			}
			for (const [id] of batch) unanswered.set(id, deliver);
			worker.postMessage(isJson ? JSON.stringify(batch) : { requests: batch });
		},
		close: async () => {
			if (dead === undefined) worker.postMessage({ close: true });
			await closed.promise;
			worker.terminate();
		},
	});
}

/** Or text: a batch of requests that are all plain JSON, and replies to such. */
interface WorkerRequest {
	open?: string;
	requests?: WriteRequest[];
	close?: true;
}

type WorkerMessage =
	| { replies: WriteReply[] }
	| { opened: true }
	| { closed: true }
	| { failed: WriteFailure };

/** The body of the writer thread: call it once in the Worker's entry file. */
export function serveDatabase(modules: readonly WriterModule[]): void {
	const byRoom = new Map(modules.map((m) => [m.room, m]));
	const scope = globalThis as unknown as {
		postMessage(message: WorkerMessage | string): void;
		onmessage: unknown;
	};
	let db: Sqlite | undefined;
	let batch: Batch | undefined;
	let isJson = true;
	/** Requests of the batch when it was last looked at. */
	let seen = 0;
	const commit = (): void => {
		if (batch === undefined) return;
		const replies = batch.commit();
		batch = undefined;
		scope.postMessage(isJson ? JSON.stringify(replies) : { replies });
	};
	/** Commits when nothing more came in since: what arrives together, however many messages it is, shares an fsync. */
	const commitWhenQuiet = (): void => {
		if (batch === undefined) return;
		if (batch.size === seen || batch.size >= LARGEST_BATCH) return commit();
		seen = batch.size;
		setImmediate(commitWhenQuiet);
	};
	const add = (requests: readonly WriteRequest[]): void => {
		if (db === undefined || requests.length === 0) return;
		if (batch === undefined) {
			batch = beginBatch(db, byRoom);
			[isJson, seen] = [true, 0];
			setImmediate(commitWhenQuiet);
		}
		isJson &&= requests.every(([, room]) => byRoom.get(room)?.isJson === true);
		batch.add(requests);
		seen ||= batch.size;
	};
	scope.onmessage = ({ data }: MessageEvent<string | WorkerRequest>) => {
		if (typeof data === "string") return add(JSON.parse(data) as WriteRequest[]);
		const { open, requests, close } = data;
		if (open !== undefined) {
			try {
				db = openForWriting(open, modules);
				layOutLog(open);
				scope.postMessage({ opened: true });
			} catch (error) {
				scope.postMessage({ failed: toFailure(error) });
			}
		}
		if (requests !== undefined) add(requests);
		if (close === true) {
			commit();
			db?.close();
			scope.postMessage({ closed: true });
		}
	};
}

interface Transport {
	/** `isJson`: every request and its result is plain JSON. */
	post(batch: WriteRequest[], deliver: (replies: WriteReply[]) => void, isJson: boolean): void;
	close(): Promise<void>;
}

function createDatabase(path: string, transport: Transport): Database {
	const read = openForReading(path);
	const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
	let nextId = 0;
	let batch: WriteRequest[] = [];
	let isBatchJson = true;
	let isClosed = false;
	const deliver = (replies: WriteReply[]): void => {
		for (const [id, result, failure] of replies) {
			const call = waiting.get(id);
			waiting.delete(id);
			if (failure === undefined) call?.resolve(result);
			else call?.reject(fromFailure(failure));
		}
	};
	const post = (): void => {
		if (batch.length === 0) return;
		const now = batch;
		batch = [];
		transport.post(now, deliver, isBatchJson);
		isBatchJson = true;
	};
	const send = (room: string, operation: string, input: unknown, isJson: boolean): Promise<unknown> => {
		if (isClosed)
			return Promise.reject(
				new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", { reason: "stopping" }),
			);
		const call = Promise.withResolvers<unknown>();
		const id = nextId++;
		waiting.set(id, call);
		if (batch.length === 0) queueMicrotask(post);
		isBatchJson &&= isJson;
		batch.push([id, room, operation, input]);
		// The writer begins with these while this thread still asks for more.
		if (batch.length === LARGEST_MESSAGE) post();
		return call.promise;
	};
	return {
		read,
		writer<T extends WriteTable>({
			room,
			writes,
			isJson = false,
		}: Pick<WriterModule, "room"> & { isJson?: boolean; writes: T }): Writer<T> {
			const calls: Record<string, (input: unknown) => Promise<unknown>> = {};
			for (const operation of Object.keys(writes))
				calls[operation] = (input) => send(room, operation, input, isJson);
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
