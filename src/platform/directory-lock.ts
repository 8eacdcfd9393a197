/**
 * One agent per data directory, without FFI: a SQLite file held in an exclusive transaction. A second process is
 * refused at once, and the lock is free again after `kill -9`.
 */
import { Database as Sqlite } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import { GswarmError } from "../schema/errors.ts";

/** Keep what it returns: one that is collected gives the lock back. @throws CONFLICT data_dir_in_use */
export function lockDirectory(path: string, describeHolder: () => string): Disposable {
	makePrivate(path);
	const db = new Sqlite(path, { create: true });
	try {
		db.run("PRAGMA busy_timeout=0");
		db.run("PRAGMA locking_mode=EXCLUSIVE");
		db.run("BEGIN EXCLUSIVE");
	} catch (cause) {
		db.close();
		if ((cause as { code?: unknown }).code !== "SQLITE_BUSY") throw cause;
		throw new GswarmError("CONFLICT", `Another agent runs on this data directory${describeHolder()}.`, {
			reason: "data_dir_in_use",
			hint: "`gswarm agent status` shows it, `gswarm agent stop` ends it; `--data-dir` chooses another directory.",
			cause,
		});
	}
	return {
		[Symbol.dispose]() {
			db.run("ROLLBACK");
			db.close();
		},
	};
}

/**
 * Makes the file 0600 where there is none; SQLite gives its journal the same mode. One that is there is not even
 * opened: closing it again would give back the lock, if it is this process that has it.
 */
function makePrivate(path: string): void {
	try {
		closeSync(openSync(path, "ax", 0o600));
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
	}
}
