/** The database's file: how it is opened, brought up to date, and kept as it was before that. */
import { Database as Sqlite } from "bun:sqlite";
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { GswarmError } from "../schema/errors.ts";
import { fileError } from "./durable-file.ts";

/** Bun keeps 20 prepared statements of a connection and compiles every other one again at each use. */
const CACHED_STATEMENTS = 1000;

/** A room's tables, as its versions made them. */
interface Migrated {
	room: string;
	migrations: readonly string[];
}

/** A room whose tables are older than this version's. */
interface Step {
	room: string;
	version: number;
	sql: readonly string[];
}

/** Opens the database for writing (WAL, synchronous=FULL) and brings every room's tables up to date. */
export function openForWriting(path: string, modules: readonly Migrated[]): Sqlite {
	Sqlite.MAX_QUERY_CACHE_SIZE = CACHED_STATEMENTS;
	const db = new Sqlite(path, { create: true, strict: true });
	db.run("PRAGMA journal_mode=WAL");
	db.run("PRAGMA synchronous=FULL");
	db.run("PRAGMA busy_timeout=5000");
	db.run("PRAGMA foreign_keys=ON");
	db.run("PRAGMA trusted_schema=OFF");
	try {
		bringUpToDate(db, modules);
	} catch (error) {
		db.close();
		throw error;
	}
	return db;
}

/** A read-only connection beside the writer's. */
export function openForReading(path: string): Sqlite {
	Sqlite.MAX_QUERY_CACHE_SIZE = CACHED_STATEMENTS;
	const db = new Sqlite(path, { readonly: true, strict: true });
	db.run("PRAGMA query_only=ON");
	db.run("PRAGMA busy_timeout=2000");
	return db;
}

/** What the database was before the last upgrade, beside it: to go back, stop the agent and put it in its place. */
export function backupPath(path: string): string {
	return `${path}.backup`;
}

function bringUpToDate(db: Sqlite, modules: readonly Migrated[]): void {
	db.run(
		"CREATE TABLE IF NOT EXISTS schema_migration (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID",
	);
	const versions = new Map(
		db
			.query<{ room: string; version: number }, []>("SELECT room, version FROM schema_migration")
			.all()
			.map(({ room, version }) => [room, version] as const),
	);
	const steps = modules.map((module) => stepOf(module, versions.get(module.room) ?? 0));
	// A room that comes with its first tables changes nothing that anybody would want back.
	if (steps.some(({ version, sql }) => version > 0 && sql.length > 0)) backUp(db);
	db.transaction(() => {
		for (const { room, version, sql } of steps.filter((step) => step.sql.length > 0)) {
			for (const statements of sql) db.run(statements);
			db.query("INSERT OR REPLACE INTO schema_migration (room, version) VALUES (?1, ?2)").run(
				room,
				version + sql.length,
			);
		}
	}).immediate();
}

/** @throws CONFLICT newer_schema */
function stepOf({ room, migrations }: Migrated, version: number): Step {
	if (version > migrations.length) {
		throw new GswarmError(
			"CONFLICT",
			`The data directory was written by a newer gswarm (${room} schema ${version}, this version knows ${migrations.length}).`,
			{ reason: "newer_schema", hint: "Use the newer gswarm again; nothing was changed." },
		);
	}
	return { room, version, sql: migrations.slice(version) };
}

/** A whole copy under a staging name, then the name: a copy that a crash or a full disk cut short is never taken for one. */
function backUp(db: Sqlite): void {
	const target = backupPath(db.filename);
	const staged = `${target}.new`;
	rmSync(staged, { force: true });
	try {
		// SQLite fills an empty file, and so it has the mode that we gave it.
		closeSync(openSync(staged, "wx", 0o600));
		db.query("VACUUM INTO ?1").run(staged);
		syncFile(staged);
		renameSync(staged, target);
		syncFile(dirname(target));
	} catch (cause) {
		rmSync(staged, { force: true });
		throw notKept(cause);
	}
}

function notKept(cause: unknown): unknown {
	const full = cause instanceof Error && /disk is full|SQLITE_FULL/i.test(cause.message);
	if (!full) return fileError(cause, "keeping a copy of the database before its upgrade");
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		"The disk of the data directory has no room for a copy of the database, so it was not upgraded.",
		{
			reason: "disk_full",
			status: 507,
			hint: "Make room for a copy of agent.sqlite, then start again; nothing was changed.",
			cause,
		},
	);
}

function syncFile(path: string): void {
	const fd = openSync(path, "r");
	try {
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
}
