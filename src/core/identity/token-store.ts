/** Rows of tokens. A join secret is spent, and a node bearer made, in one transaction. */
import type { Database as Sqlite } from "bun:sqlite";
import { GswarmError } from "../../schema/errors.ts";
import type { WriterModule } from "../../platform/database.ts";
import { secretMatches } from "./token.ts";
import sql from "./sql/0001_identity.sql" with { type: "text" };

export interface TokenRow {
	token_id: string;
	kind: "admin" | "node" | "join";
	role: string;
	secret_sha256: string;
	node: string | null;
	created_at: number;
	expires_at: number | null;
	uses_left: number | null;
}

const identityWrites = {
	insertToken(db: Sqlite, row: TokenRow): void {
		db.query(
			`INSERT INTO token (token_id, kind, role, secret_sha256, node, created_at, expires_at, uses_left)
			 VALUES ($token_id, $kind, $role, $secret_sha256, $node, $created_at, $expires_at, $uses_left)`,
		).run({ ...row });
	},
	/** The agent's own admin token: made again from the file of the data directory at every start. */
	replaceAdmin(db: Sqlite, row: TokenRow): void {
		db.query("DELETE FROM token WHERE kind = 'admin'").run();
		identityWrites.insertToken(db, row);
	},
	/**
	 * Spends one use of a join secret and stores the node's bearer in its place of the former one.
	 * @throws 401 join_refused
	 */
	spendJoin(db: Sqlite, input: { token_id: string; secret: string; now: number; bearer: TokenRow }): void {
		const [row] = db
			.query<TokenRow, [string]>(
				"SELECT * FROM token WHERE token_id = ?1 AND kind = 'join' AND revoked_at IS NULL",
			)
			.all(input.token_id);
		const good =
			row !== undefined &&
			secretMatches(input.secret, row.secret_sha256) &&
			(row.expires_at === null || row.expires_at > input.now) &&
			(row.uses_left ?? 1) > 0;
		if (!good) throw joinRefused();
		db.query("UPDATE token SET uses_left = uses_left - 1 WHERE token_id = ?1").run(input.token_id);
		identityWrites.replaceBearer(db, input.bearer);
	},
	/** Stores a node's bearer; the former one of that node is gone with it. */
	replaceBearer(db: Sqlite, bearer: TokenRow): void {
		db.query("DELETE FROM token WHERE kind = 'node' AND node = ?1").run(bearer.node);
		identityWrites.insertToken(db, bearer);
	},
};

export const identityModule = {
	room: "identity",
	migrations: [sql],
	writes: identityWrites,
} satisfies WriterModule;

/** The answer to every join that is not let in; it does not tell which part was wrong. */
export function joinRefused(): GswarmError {
	return new GswarmError("UNAUTHORIZED", "The join string is unknown, expired or used up.", {
		reason: "join_refused",
		hint: "`gswarm token create --join` on the host prints a fresh one.",
	});
}
