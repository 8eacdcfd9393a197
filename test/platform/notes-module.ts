/** A room with one table, and writes that fail in every way. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../src/platform/database.ts";
import { GswarmError } from "../../src/schema/errors.ts";

export interface Note {
	id: number;
	text: string;
}

const FIRST = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT";

export const notesModule = {
	room: "notes",
	migrations: [FIRST],
	writes: {
		add(db: Sqlite, { id, text }: Note): number {
			db.query("INSERT INTO note (id, text) VALUES (?1, ?2)").run(id, text);
			return id;
		},
		/** Writes, and then thinks better of it. */
		addAndRefuse(db: Sqlite, note: Note): void {
			notesModule.writes.add(db, note);
			throw new GswarmError("RESOURCE_UNAVAILABLE", `No room for ${note.text}.`, {
				reason: "no_room",
				details: { wanted: note.text },
				hint: "Write less.",
				status: 507,
				retryable: true,
				retryAfterS: 7,
			});
		},
		addAndBreak(db: Sqlite, note: Note): void {
			notesModule.writes.add(db, note);
			throw new TypeError("a programmer's mistake");
		},
		/** As SQLite does when the disk is full: the transaction is gone with it. */
		addAndFillDisk(db: Sqlite, note: Note): void {
			notesModule.writes.add(db, note);
			db.run("ROLLBACK");
			throw new Error("database or disk is full");
		},
		die(_db: Sqlite, status: number): void {
			process.exit(status);
		},
	},
} satisfies WriterModule;

/** The same room a version later. */
export const newerNotesModule = {
	...notesModule,
	migrations: [FIRST, "ALTER TABLE note ADD COLUMN color TEXT"],
} satisfies WriterModule;

/** A version whose migration is wrong in its second statement. */
export const brokenNotesModule = {
	...notesModule,
	migrations: [FIRST, "ALTER TABLE note ADD COLUMN color TEXT; INSERT INTO nothing VALUES (1)"],
} satisfies WriterModule;
