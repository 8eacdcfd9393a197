import { expect, test } from "bun:test";
import { copyFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openForReading, openForWriting } from "../../src/platform/database-file.ts";
import { LOG_BYTES, layOutLog } from "../../src/platform/database-log.ts";
import { openWorkerDatabase } from "../../src/platform/database.ts";
import { tempDir } from "../support/temp-dir.ts";
import { type Note, notesModule } from "./notes-module.ts";

test("the writer's thread lays out the log, and commits do not make it longer", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const worker = new Worker(new URL("./database-worker.ts", import.meta.url));
	await using db = await openWorkerDatabase(path, worker);
	expect(statSync(`${path}-wal`).size).toBe(LOG_BYTES);
	for (let id = 0; id < 20; id++) await db.writer(notesModule).add({ id, text: "x".repeat(3000) });
	expect(statSync(`${path}-wal`).size).toBe(LOG_BYTES);
});

test("what was committed to a log that was laid out is there after a crash, and nothing else is", () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	using db = openForWriting(path, [notesModule]);
	layOutLog(path);
	for (let id = 0; id < 5; id++) notesModule.writes.add(db, { id, text: `note ${id}` });
	// As a power cut leaves it: the file and its log, and nobody who closed them.
	const after = join(dir.path, "after.sqlite");
	for (const end of ["", "-wal"]) copyFileSync(`${path}${end}`, `${after}${end}`);
	using again = openForWriting(after, [notesModule]);
	expect(
		again
			.query<Note, []>("SELECT * FROM note ORDER BY id")
			.all()
			.map(({ text }) => text),
	).toEqual(["note 0", "note 1", "note 2", "note 3", "note 4"]);
	expect(again.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
});

test("a log that nobody wrote to yet is laid out too", () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	openForWriting(path, [notesModule]).close();
	using db = openForWriting(path, [notesModule]);
	layOutLog(path);
	expect(statSync(`${path}-wal`).size).toBe(LOG_BYTES);
	using reader = openForReading(path);
	expect(reader.query("SELECT * FROM note").all()).toEqual([]);
	notesModule.writes.add(db, { id: 1, text: "first" });
	expect(reader.query("SELECT id FROM note").all()).toEqual([{ id: 1 }]);
});

test("a log that is long already is left as it is", () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	writeFileSync(`${path}-wal`, Buffer.alloc(LOG_BYTES + 4096, 7));
	layOutLog(path);
	expect(statSync(`${path}-wal`).size).toBe(LOG_BYTES + 4096);
});
