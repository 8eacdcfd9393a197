/**
 * What a join secret is good for. It is spent in one transaction with the look at its time to live and its uses.
 * A node that spent one may ask again with it under the same key, as often as it likes and also after its end: its
 * answer may have been lost, or it waits to be approved.
 */
import type { Database as Sqlite } from "bun:sqlite";
import type { Clock } from "../../platform/clock.ts";
import type { Database, WriterModule } from "../../platform/database.ts";
import { GswarmError } from "../../schema/errors.ts";
import { secretMatches } from "./token.ts";
import sql from "./sql/0001_join.sql" with { type: "text" };

/** Who asks: a name and the key that it proved to have (SPKI, base64). */
export interface Joiner {
	node: string;
	publicKey: string;
}

export interface Joining {
	/** From now on nodes that use this join string wait for an admin. */
	requireApproval(tokenId: string): Promise<void>;
	/**
	 * Whether the secret (`<id>.<secret>` of the join string) is a right one at all, and given `joiner`, whether it lets
	 * this one in now. Spends nothing. @throws 401 join_refused
	 */
	check(secret: string, joiner?: Joiner): void;
	/** Spends one use, unless this joiner has spent one. @throws 401 join_refused */
	spend(secret: string, joiner: Joiner): Promise<{ needsApproval: boolean }>;
	/** A node that is removed or reset has spent nothing any more, and its bearer is nobody's. */
	forget(node: string): Promise<void>;
}

interface SecretRow {
	secret_sha256: string;
	expires_at: number | null;
	uses_left: number | null;
}

interface Spending extends Joiner {
	tokenId: string;
	secret: string;
	nowS: number;
}

const joinWrites = {
	requireApproval(db: Sqlite, { tokenId }: { tokenId: string }): void {
		db.query("INSERT OR IGNORE INTO join_approval (token_id) VALUES (?1)").run(tokenId);
	},
	/** @throws 401 join_refused */
	spend(db: Sqlite, input: Spending): { needsApproval: boolean } {
		const { tokenId, secret, node, publicKey, nowS } = input;
		if (!isRight(db, tokenId, secret)) throw joinRefused();
		if (!hasSpent(db, input)) {
			if (!isOpen(db, tokenId, nowS)) throw joinRefused();
			db.query("UPDATE token SET uses_left = uses_left - 1 WHERE token_id = ?1").run(tokenId);
			db.query("INSERT INTO join_use (token_id, node, public_key, used_at) VALUES (?1, ?2, ?3, ?4)").run(
				tokenId,
				node,
				publicKey,
				nowS,
			);
		}
		return { needsApproval: exists(db, "SELECT 1 FROM join_approval WHERE token_id = ?1", tokenId) };
	},
	forget(db: Sqlite, { node }: { node: string }): void {
		db.query("DELETE FROM join_use WHERE node = ?1").run(node);
		db.query("DELETE FROM token WHERE kind = 'node' AND node = ?1").run(node);
	},
};

export const joinModule = {
	room: "join",
	migrations: [sql],
	writes: joinWrites,
} satisfies WriterModule;

export function createJoining({ db, clock }: { db: Database; clock: Clock }): Joining {
	const write = db.writer(joinModule);
	return {
		requireApproval: (tokenId) => write.requireApproval({ tokenId }),
		check(text, joiner) {
			const { tokenId, secret } = split(text);
			if (!isRight(db.read, tokenId, secret)) throw joinRefused();
			if (joiner === undefined || hasSpent(db.read, { tokenId, ...joiner })) return;
			if (!isOpen(db.read, tokenId, clock.nowMs() / 1000)) throw joinRefused();
		},
		async spend(text, joiner) {
			return write.spend({ ...split(text), ...joiner, nowS: clock.nowMs() / 1000 });
		},
		forget: (node) => write.forget({ node }),
	};
}

function split(text: string): { tokenId: string; secret: string } {
	const [tokenId, secret, ...rest] = text.split(".");
	if (tokenId === undefined || secret === undefined || rest.length > 0) throw joinRefused();
	return { tokenId, secret };
}

function secretRow(db: Sqlite, tokenId: string): SecretRow | undefined {
	return db
		.query<SecretRow, [string]>(
			`SELECT secret_sha256, expires_at, uses_left FROM token
			 WHERE token_id = ?1 AND kind = 'join' AND revoked_at IS NULL`,
		)
		.all(tokenId)[0];
}

function isRight(db: Sqlite, tokenId: string, secret: string): boolean {
	const row = secretRow(db, tokenId);
	return row !== undefined && secretMatches(secret, row.secret_sha256);
}

/** In time, and not used up. */
function isOpen(db: Sqlite, tokenId: string, nowS: number): boolean {
	const row = secretRow(db, tokenId);
	if (row === undefined) return false;
	return (row.expires_at === null || row.expires_at > nowS) && (row.uses_left ?? 1) > 0;
}

function hasSpent(db: Sqlite, { tokenId, node, publicKey }: Joiner & { tokenId: string }): boolean {
	const one = "SELECT 1 FROM join_use WHERE token_id = ?1 AND node = ?2 AND public_key = ?3";
	return exists(db, one, tokenId, node, publicKey);
}

function exists(db: Sqlite, query: string, ...values: string[]): boolean {
	return db.query<unknown, string[]>(query).all(...values).length > 0;
}

/** The answer to every join that is not let in; it does not tell which part was wrong. */
function joinRefused(): GswarmError {
	return new GswarmError("UNAUTHORIZED", "The join string is unknown, expired or used up.", {
		reason: "join_refused",
		hint: "`gswarm token create --join` on the host prints a fresh one.",
	});
}
