/** Rows of tokens and of who submitted what. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError, notFound } from "../../schema/errors.ts";
import type { WriterModule } from "../../platform/database.ts";
import type { TokenKind } from "./token.ts";
import sql from "./sql/0001_identity.sql" with { type: "text" };
import people from "./sql/0002_people.sql" with { type: "text" };

export interface TokenRow {
	token_id: string;
	kind: TokenKind;
	role: string;
	secret_sha256: string;
	node: string | null;
	created_at: number;
	expires_at: number | null;
	uses_left: number | null;
	revoked_at: number | null;
	name: string | null;
	created_by: string | null;
	last_used_at: number | null;
}

/** A row as it is made: nothing has happened to it yet. */
export type NewToken = Omit<TokenRow, "revoked_at" | "name" | "created_by" | "last_used_at"> &
	Partial<Pick<TokenRow, "name" | "created_by">>;

/** Tokens of people and join strings that are good; more would be a program that makes one per request. */
const MAX_TOKENS = 10_000;
/** Of what ended, so that its owner can still be told that it did. */
const KEEP_ENDED_S = 90 * 86_400;
/** Longer than any task waits. */
const KEEP_OWNERS_S = 30 * 86_400;

const identityWrites = {
	insertToken(db: Sqlite, row: NewToken): void {
		db.query(
			`INSERT INTO token (token_id, kind, role, secret_sha256, node, created_at, expires_at, uses_left, name, created_by)
			 VALUES ($token_id, $kind, $role, $secret_sha256, $node, $created_at, $expires_at, $uses_left, $name, $created_by)`,
		).run({ name: null, created_by: null, ...row });
	},
	/** A join string, or a person's token under a name that no other good one has. @throws 409 token_name_taken, 503 too_many_tokens */
	addToken(db: Sqlite, { row, nowMs }: { row: NewToken; nowMs: number }): { version: number } {
		const now = nowMs / 1000;
		db.query(
			`DELETE FROM token WHERE kind IN ('user', 'join') AND coalesce(revoked_at, expires_at, ?1) < ?1 - ?2`,
		).run(now, KEEP_ENDED_S);
		const live = "kind IN ('user', 'join') AND revoked_at IS NULL AND coalesce(expires_at, ?1 + 1) > ?1";
		const [count] = db.query<{ n: number }, [number]>(`SELECT count(*) n FROM token WHERE ${live}`).all(now);
		if ((count?.n ?? 0) >= MAX_TOKENS) throw tooManyTokens();
		if (typeof row.name === "string") {
			const [taken] = db
				.query<{ token_id: string }, [number, string]>(
					`SELECT token_id FROM token WHERE (name = ?2 AND ${live}) OR token_id = ?2`,
				)
				.all(now, row.name);
			if (taken !== undefined) throw nameTaken(row.name, taken.token_id);
		}
		identityWrites.insertToken(db, row);
		return { version: row.kind === "user" ? raiseVersion(db, nowMs) : versionOf(db) };
	},
	/**
	 * Ends a person's token or a join string, by its id or the name of a good one; one that has ended stays as it is.
	 * @throws 404 token_not_found, 409 admin_token
	 */
	revokeToken(
		db: Sqlite,
		{ ref, nowMs }: { ref: string; nowMs: number },
	): { row: TokenRow; version: number } {
		const [row] = db
			.query<TokenRow, [string]>(
				`SELECT * FROM token WHERE kind IN ('user', 'join', 'admin') AND (token_id = ?1 OR name = ?1)
				 ORDER BY token_id = ?1 DESC, revoked_at IS NOT NULL, created_at DESC LIMIT 1`,
			)
			.all(ref);
		if (row === undefined) throw notFound("token", ref, "`gswarm token list` shows them.");
		if (row.kind === "admin") throw adminToken();
		if (row.revoked_at !== null) return { row, version: versionOf(db) };
		const revoked_at = nowMs / 1000;
		db.query("UPDATE token SET revoked_at = ?2 WHERE token_id = ?1").run(row.token_id, revoked_at);
		return {
			row: { ...row, revoked_at },
			version: row.kind === "user" ? raiseVersion(db, nowMs) : versionOf(db),
		};
	},
	/** Remembers that a token was used. */
	touchToken(db: Sqlite, { token_id, now }: { token_id: string; now: number }): void {
		db.query("UPDATE token SET last_used_at = ?2 WHERE token_id = ?1").run(token_id, now);
	},
	/**
	 * Somebody submitted a task, or joined one. The same submission again changes nothing, and is whose it was at first:
	 * who repeats another one's key is answered with a task that they did not submit.
	 */
	ownTask(db: Sqlite, input: { task_id: string; token_id: string; submission: string; now: number }): void {
		db.query("DELETE FROM task_owner WHERE submitted_at < ?1").run(input.now - KEEP_OWNERS_S);
		db.query(
			`INSERT OR IGNORE INTO task_owner (task_id, token_id, submission, submitted_at)
			 SELECT $task_id, $token_id, $submission, $now WHERE NOT EXISTS
			 (SELECT 1 FROM task_owner WHERE task_id = $task_id AND submission = $submission AND token_id <> $token_id)`,
		).run({ ...input });
	},
	/** A person cancelled a task: one of their submissions of it is gone. */
	disownTask(db: Sqlite, input: { task_id: string; token_id: string }): void {
		db.query(
			`UPDATE task_owner SET cancelled = 1 WHERE task_id = $task_id AND token_id = $token_id AND submission IN
			 (SELECT submission FROM task_owner
			  WHERE task_id = $task_id AND token_id = $token_id AND cancelled = 0 LIMIT 1)`,
		).run({ ...input });
	},
	/** The agent's own admin token: made again from the file of the data directory at every start. */
	replaceAdmin(db: Sqlite, row: NewToken): void {
		db.query("DELETE FROM token WHERE kind = 'admin'").run();
		identityWrites.insertToken(db, row);
	},
	/** Stores a node's bearer; the former one of that node is gone with it. */
	replaceBearer(db: Sqlite, bearer: NewToken): void {
		db.query("DELETE FROM token WHERE kind = 'node' AND node = ?1").run(bearer.node);
		identityWrites.insertToken(db, bearer);
	},
};

export const identityModule = {
	room: "identity",
	migrations: [sql, people],
	writes: identityWrites,
} satisfies WriterModule;

function versionOf(db: Sqlite): number {
	const [row] = db.query<{ version: number }, []>("SELECT version FROM auth_version").all();
	return row?.version ?? 0;
}

/** By the clock, and in any case higher: a database from a backup then never has a version that meant something else. */
function raiseVersion(db: Sqlite, nowMs: number): number {
	const version = Math.max(versionOf(db) + 1, Math.floor(nowMs));
	db.query("UPDATE auth_version SET version = ?1").run(version);
	return version;
}

function nameTaken(name: string, tokenId: string): GswarmError {
	return new GswarmError("CONFLICT", `There is a token named ${JSON.stringify(name)} already.`, {
		reason: "token_name_taken",
		details: { name, token_id: tokenId },
		hint: "Choose another name, e.g. with the machine's, or `gswarm token revoke` the other one first.",
	});
}

function tooManyTokens(): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `There are ${MAX_TOKENS} good tokens already.`, {
		reason: "too_many_tokens",
		details: { limit: MAX_TOKENS },
		hint: "`gswarm token revoke` those that nobody uses; `gswarm token list` shows when each was used last.",
	});
}

function adminToken(): GswarmError {
	return new GswarmError("CONFLICT", "The admin token of the host's data directory cannot be revoked here.", {
		reason: "admin_token",
		hint: "Stop the agent, remove `admin.token` there, and start it: it makes another one.",
	});
}
