import { Database as Sqlite } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { beginBatch, runBatch, type WriteRequest } from "../../src/platform/database-batch.ts";
import { backupPath, openForWriting } from "../../src/platform/database-file.ts";
import {
	type Database,
	openInlineDatabase,
	openWorkerDatabase,
	type WriterModule,
} from "../../src/platform/database.ts";
import { asGswarmError, GswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { brokenNotesModule, newerNotesModule, type Note, notesModule } from "./notes-module.ts";

const newWorker = (): Worker => new Worker(new URL("./database-worker.ts", import.meta.url));

const open: Record<string, (path: string) => Promise<Database>> = {
	"in this thread": async (path) => openInlineDatabase(path, [notesModule]),
	"in its own thread": (path) => openWorkerDatabase(path, newWorker()),
};

function notes(db: Database): Note[] {
	return db.read.query<Note, []>("SELECT * FROM note ORDER BY id").all();
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
	try {
		await promise;
	} catch (error) {
		return error;
	}
	throw new Error("it succeeded");
}

describe.each(Object.entries(open))("a database whose writer runs %s", (_where, openAt) => {
	test("what a write answered is there for every reader, also after it was opened again", async () => {
		using dir = tempDir();
		const path = join(dir.path, "agent.sqlite");
		{
			await using db = await openAt(path);
			expect(await db.writer(notesModule).add({ id: 1, text: "ä\0\u{1f600}" })).toBe(1);
			expect(notes(db)).toEqual([{ id: 1, text: "ä\0\u{1f600}" }]);
		}
		await using db = await openAt(path);
		expect(notes(db)).toHaveLength(1);
	});

	test("a write that fails takes nothing of the others with it that were asked for at the same time", async () => {
		using dir = tempDir();
		await using db = await openAt(join(dir.path, "agent.sqlite"));
		const write = db.writer(notesModule);
		const ends = await Promise.allSettled([
			write.add({ id: 1, text: "one" }),
			write.addAndRefuse({ id: 2, text: "two" }),
			write.add({ id: 1, text: "one again" }),
			write.addAndBreak({ id: 3, text: "three" }),
			write.add({ id: 4, text: "four" }),
		]);
		expect(ends.map((it) => it.status)).toEqual([
			"fulfilled",
			"rejected",
			"rejected",
			"rejected",
			"fulfilled",
		]);
		expect(notes(db).map((it) => it.id)).toEqual([1, 4]);
	});

	test("an operating failure arrives as it was thrown, with all it says", async () => {
		using dir = tempDir();
		await using db = await openAt(join(dir.path, "agent.sqlite"));
		const error = await failureOf(db.writer(notesModule).addAndRefuse({ id: 2, text: "two" }));
		expect(error).toBeInstanceOf(GswarmError);
		expect(error).toMatchObject({
			code: "RESOURCE_UNAVAILABLE",
			message: "No room for two.",
			reason: "no_room",
			details: { reason: "no_room", wanted: "two" },
			hint: "Write less.",
			status: 507,
			retryable: true,
			retryAfterS: 7,
		});
	});

	test("a mistake of ours does not arrive as an operating failure", async () => {
		using dir = tempDir();
		await using db = await openAt(join(dir.path, "agent.sqlite"));
		const error = await failureOf(db.writer(notesModule).addAndBreak({ id: 3, text: "three" }));
		expect(error).not.toBeInstanceOf(GswarmError);
		expect(asGswarmError(error).code).toBe("INTERNAL_ERROR");
	});

	test("a full disk is 507 disk_full for everybody in the transaction, and the next write works", async () => {
		using dir = tempDir();
		await using db = await openAt(join(dir.path, "agent.sqlite"));
		const write = db.writer(notesModule);
		const ends = await Promise.all([
			// A failure before it is over and done with, and not what is told.
			failureOf(write.addAndRefuse({ id: 9, text: "nine" })),
			failureOf(write.addAndFillDisk({ id: 1, text: "one" })),
		]);
		expect(ends.at(-1)).toMatchObject({ code: "RESOURCE_UNAVAILABLE", reason: "disk_full", status: 507 });
		expect(ends.at(-1)).toMatchObject({ hint: expect.stringContaining("Make room") });
		expect(await write.add({ id: 5, text: "five" })).toBe(5);
		expect(notes(db)).toEqual([{ id: 5, text: "five" }]);
	});

	test("readers cannot write", async () => {
		using dir = tempDir();
		await using db = await openAt(join(dir.path, "agent.sqlite"));
		expect(() => db.read.run("INSERT INTO note VALUES (1, 'x')")).toThrow(/readonly|read-only/i);
		expect(() => db.read.run("PRAGMA query_only=OFF; INSERT INTO note VALUES (1, 'x')")).toThrow();
	});

	test("a database of a newer version is refused and not one byte of it changes", async () => {
		using dir = tempDir();
		const path = join(dir.path, "agent.sqlite");
		const another: WriterModule = {
			room: "aaa",
			migrations: ["CREATE TABLE aaa (x TEXT) STRICT"],
			writes: {},
		};
		const newer = openInlineDatabase(path, [newerNotesModule]);
		await newer[Symbol.asyncDispose]();
		const before = readFileSync(path);
		const inline = await failureOf(openAt(path));
		expect(asGswarmError(inline)).toMatchObject({ code: "CONFLICT", reason: "newer_schema" });
		// Nor does a room get its tables that comes before the newer one.
		expect(() => openInlineDatabase(path, [another, notesModule])).toThrow("newer gswarm");
		expect(readFileSync(path).equals(before)).toBe(true);
		expect(existsSync(`${path}-wal`)).toBe(false);
	});

	test("what was asked for just before the close is written, what comes after it is refused", async () => {
		using dir = tempDir();
		const path = join(dir.path, "agent.sqlite");
		const db = await openAt(path);
		const write = db.writer(notesModule);
		const last = write.add({ id: 1, text: "last" });
		const closed = db[Symbol.asyncDispose]();
		const late = failureOf(write.add({ id: 2, text: "late" }));
		expect(await last).toBe(1);
		expect(await late).toMatchObject({ code: "RESOURCE_UNAVAILABLE", reason: "stopping" });
		await closed;
		await db[Symbol.asyncDispose]();
		await using again = await openAt(path);
		expect(notes(again).map((it) => it.id)).toEqual([1]);
	});
});

test("an older database is brought up to date, in one step or not at all", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const old = openInlineDatabase(path, [notesModule]);
	await old.writer(notesModule).add({ id: 1, text: "kept" });
	await old[Symbol.asyncDispose]();
	expect(() => openInlineDatabase(path, [brokenNotesModule])).toThrow("nothing");
	{
		await using untouched = openInlineDatabase(path, [notesModule]);
		expect(Object.keys(notes(untouched)[0] ?? {})).toEqual(["id", "text"]);
	}
	await using db = openInlineDatabase(path, [newerNotesModule]);
	expect(notes(db)).toEqual([{ id: 1, text: "kept", color: null } as Note]);
});

test("an upgrade leaves the database as it was before beside it, for this user alone", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const old = openInlineDatabase(path, [notesModule]);
	await old.writer(notesModule).add({ id: 1, text: "kept" });
	await old[Symbol.asyncDispose]();
	expect(existsSync(backupPath(path))).toBe(false);
	{
		await using db = openInlineDatabase(path, [newerNotesModule]);
		await db.writer(newerNotesModule).add({ id: 2, text: "later" });
	}
	expect(statSync(backupPath(path)).mode & 0o777).toBe(0o600);
	await using before = openInlineDatabase(backupPath(path), [notesModule]);
	expect(notes(before)).toEqual([{ id: 1, text: "kept" }]);
	// The next start of the same version keeps nothing again.
	rmSync(backupPath(path));
	await openInlineDatabase(path, [newerNotesModule])[Symbol.asyncDispose]();
	expect(existsSync(backupPath(path))).toBe(false);
});

test("an upgrade that cannot keep a copy does not begin", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	await openInlineDatabase(path, [notesModule])[Symbol.asyncDispose]();
	mkdirSync(join(backupPath(path), "in the way"), { recursive: true });
	expect(() => openInlineDatabase(path, [newerNotesModule])).toThrow();
	expect(existsSync(`${backupPath(path)}.new`)).toBe(false);
	await using db = openInlineDatabase(path, [notesModule]);
	expect(db.read.query("SELECT version FROM schema_migration").all()).toEqual([{ version: 1 }]);
});

test("writes survive a power cut: WAL, and an fsync at each commit", () => {
	using dir = tempDir();
	using db = openForWriting(join(dir.path, "agent.sqlite"), [notesModule]);
	expect(db.query<{ journal_mode: string }, []>("PRAGMA journal_mode").all()).toEqual([
		{ journal_mode: "wal" },
	]);
	// 2 is FULL.
	expect(db.query<{ synchronous: number }, []>("PRAGMA synchronous").all()).toEqual([{ synchronous: 2 }]);
});

test("what is asked for in one turn is one transaction, and one fsync", () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	using db = openForWriting(path, [notesModule]);
	using reader = new Sqlite(path, { readonly: true });
	const seen: number[] = [];
	const spying = {
		...notesModule,
		writes: {
			add(inner: Sqlite, note: Note): void {
				notesModule.writes.add(inner, note);
				seen.push(reader.query<{ n: number }, []>("SELECT count(*) AS n FROM note").all()[0]?.n ?? -1);
			},
		},
	};
	const batch = [1, 2, 3].map((id): WriteRequest => [id, "notes", "add", { id, text: "x" }]);
	const replies = runBatch(db, new Map([["notes", spying]]), batch);
	expect(replies.map(([id, , failure]) => [id, failure])).toEqual([
		[1, undefined],
		[2, undefined],
		[3, undefined],
	]);
	// Until the commit nobody else sees any of it.
	expect(seen).toEqual([0, 0, 0]);
	expect(reader.query("SELECT count(*) AS n FROM note").all()).toEqual([{ n: 3 }]);
});

test("what comes while a transaction is open joins it, and one mistake harms nobody before or after it", () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	using db = openForWriting(path, [notesModule]);
	using reader = new Sqlite(path, { readonly: true });
	const count = (): unknown => reader.query("SELECT count(*) AS n FROM note").all()[0];
	const batch = beginBatch(db, new Map([["notes", notesModule]]));
	batch.add([[1, "notes", "add", { id: 1, text: "one" }]]);
	batch.add([
		[2, "notes", "addAndBreak", { id: 2, text: "two" }],
		[3, "notes", "add", { id: 3, text: "three" }],
	]);
	batch.add([[4, "notes", "add", { id: 4, text: "four" }]]);
	expect([batch.size, count()]).toEqual([4, { n: 0 }]);
	const replies = batch.commit();
	expect(replies.map(([id, , failure]) => [id, failure === undefined])).toEqual([
		[1, true],
		[2, false],
		[3, true],
		[4, true],
	]);
	expect(count()).toEqual({ n: 3 });
});

test("after a full disk nobody of an open transaction is answered as if it were well", () => {
	using dir = tempDir();
	using db = openForWriting(join(dir.path, "agent.sqlite"), [notesModule]);
	const batch = beginBatch(db, new Map([["notes", notesModule]]));
	batch.add([[1, "notes", "add", { id: 1, text: "one" }]]);
	batch.add([[2, "notes", "addAndFillDisk", { id: 2, text: "two" }]]);
	batch.add([[3, "notes", "add", { id: 3, text: "three" }]]);
	expect(batch.commit().map(([id, , failure]) => [id, failure?.options.details["reason"]])).toEqual([
		[1, "disk_full"],
		[2, "disk_full"],
		[3, "disk_full"],
	]);
	expect(db.query("SELECT count(*) AS n FROM note").all()).toEqual([{ n: 0 }]);
});

test("values that are no JSON cross to the writer's thread all the same, beside those that are", async () => {
	using dir = tempDir();
	await using db = await openWorkerDatabase(join(dir.path, "agent.sqlite"), newWorker());
	const plain = db.writer({ ...notesModule, isJson: true });
	const cloned = db.writer(notesModule);
	const ends = await Promise.all(
		Array.from({ length: 50 }, (_, id) => (id % 2 === 0 ? plain : cloned).add({ id, text: `note ${id}` })),
	);
	expect(ends).toEqual(Array.from({ length: 50 }, (_, id) => id));
	const refusal = await failureOf(plain.addAndRefuse({ id: 99, text: "no" }));
	expect(refusal).toMatchObject({ reason: "no_room", status: 507, retryAfterS: 7 });
	expect(notes(db)).toHaveLength(50);
});

test("when the commit itself fails, everybody is told of that and not of what somebody else did wrong before", () => {
	using dir = tempDir();
	const family = {
		room: "family",
		migrations: [
			"CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
		],
		writes: {
			refuse: (): never => {
				throw new GswarmError("NOT_FOUND", "Somebody else's mistake.");
			},
			orphan: (inner: Sqlite): void => void inner.run("INSERT INTO child VALUES (7)"),
		},
	} satisfies WriterModule;
	using db = openForWriting(join(dir.path, "agent.sqlite"), [family]);
	const batch = ["refuse", "orphan"].map((write, id): WriteRequest => [id, "family", write, undefined]);
	const replies = runBatch(db, new Map([["family", family]]), batch);
	expect(replies.map(([, , failure]) => failure?.message)).toEqual(
		Array(2).fill("FOREIGN KEY constraint failed"),
	);
	expect(db.inTransaction).toBe(false);
});

test("a thread that cannot even start is told by opening the database", async () => {
	using dir = tempDir();
	const nobody = new Worker(join(dir.path, "nothing.ts"));
	const failure = await failureOf(openWorkerDatabase(join(dir.path, "agent.sqlite"), nobody));
	expect(String(failure)).toContain("nothing.ts");
});

test("when the writer's thread dies, everybody who waits for it is told, and so is everybody who comes later", async () => {
	using dir = tempDir();
	await using db = await openWorkerDatabase(join(dir.path, "agent.sqlite"), newWorker());
	const write = db.writer(notesModule);
	expect(await write.add({ id: 1, text: "one" })).toBe(1);
	const [died, beside] = [failureOf(write.die(1)), failureOf(write.add({ id: 2, text: "two" }))];
	expect(String(await died)).toContain("database thread");
	expect(String(await beside)).toContain("database thread");
	expect(String(await failureOf(write.add({ id: 3, text: "three" })))).toContain("database thread");
});

test("a thousand writes from everywhere arrive, each with its own answer", async () => {
	using dir = tempDir();
	await using db = await openWorkerDatabase(join(dir.path, "agent.sqlite"), newWorker());
	const write = db.writer(notesModule);
	const answers = await Promise.all(
		Array.from({ length: 1000 }, async (_, id) => {
			if (id % 3 === 0) await Promise.resolve();
			return write.add({ id, text: `note ${id}` });
		}),
	);
	expect(answers).toEqual(Array.from({ length: 1000 }, (_, id) => id));
	expect(notes(db)).toHaveLength(1000);
});
