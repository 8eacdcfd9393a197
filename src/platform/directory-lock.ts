/**
 * One agent per data directory, without FFI: a SQLite file held in an exclusive transaction. A second process is
 * refused at once, and the lock is free again after `kill -9`.
 */
import { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../schema/errors.ts";

/** @throws CONFLICT data_dir_in_use */
export function lockDirectory(path: string, describeHolder: () => string): Disposable {
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
