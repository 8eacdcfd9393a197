/** Tokens of people on the host: made, listed, revoked, and what nodes are told of them. */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { TokenName } from "../../schema/names.ts";
import type { AuthSnapshot, TokenDocument, TokenRole, TokenStatus } from "../../schema/token.ts";
import { type TokenRow, identityModule } from "./token-store.ts";
import { formatToken, makeToken, secretHash } from "./token.ts";

export interface NewPersonToken {
	name: TokenName;
	role: TokenRole;
	/** Undefined: it is good until it is revoked. */
	ttlS: number | undefined;
	/** Name of the token that makes it. */
	createdBy: string;
}

export interface People {
	/** Makes a token; its text is told this once. @throws 409 token_name_taken, 503 too_many_tokens */
	create(input: NewPersonToken): Promise<{ text: string; token: TokenDocument }>;
	/** Tokens of people, join strings and the admin's, the newest first. */
	list(): TokenDocument[];
	/** Ends a token at once, on this agent. @throws 404 token_not_found, 409 admin_token */
	revoke(idOrName: string): Promise<TokenDocument>;
	/** Rises with every change of people's tokens. */
	version(): number;
	/** What nodes are told. */
	snapshot(): AuthSnapshot;
}

export function createPeople({ db, clock, ids }: { db: Database; clock: Clock; ids: Ids }): People {
	const write = db.writer(identityModule);
	const all = db.read.query<TokenRow, []>(
		"SELECT * FROM token WHERE kind IN ('user', 'join', 'admin') ORDER BY created_at DESC, token_id",
	);
	const good = db.read.query<TokenRow, [number]>(
		`SELECT * FROM token WHERE kind = 'user' AND revoked_at IS NULL AND coalesce(expires_at, ?1 + 1) > ?1`,
	);
	const stored = db.read.query<{ version: number }, []>("SELECT version FROM auth_version");
	const nowS = (): number => clock.nowMs() / 1000;

	return {
		async create({ name, role, ttlS, createdBy }) {
			const made = makeToken(ids, "user");
			const row = {
				token_id: made.id,
				kind: "user" as const,
				role,
				secret_sha256: secretHash(made.secret),
				node: null,
				created_at: nowS(),
				expires_at: ttlS === undefined ? null : nowS() + ttlS,
				uses_left: null,
				name,
				created_by: createdBy,
			};
			await write.addToken({ row, nowMs: clock.nowMs() });
			const token = documentOf({ ...row, revoked_at: null, last_used_at: null }, nowS());
			return { text: formatToken(made), token };
		},
		list: () => all.all().map((row) => documentOf(row, nowS())),
		async revoke(idOrName) {
			const { row } = await write.revokeToken({ ref: idOrName, nowMs: clock.nowMs() });
			return documentOf(row, nowS());
		},
		version: () => stored.all()[0]?.version ?? 0,
		snapshot: () => ({
			auth_version: stored.all()[0]?.version ?? 0,
			tokens: good.all(nowS()).map((row) => ({
				token_id: row.token_id,
				name: row.name ?? row.token_id,
				role: row.role,
				secret_sha256: row.secret_sha256,
				expires_at: row.expires_at,
			})),
		}),
	};
}

/** What became of a token, by the wall clock. */
export function tokenStatus(
	row: Pick<TokenRow, "revoked_at" | "expires_at" | "uses_left">,
	nowS: number,
): TokenStatus {
	if (row.revoked_at !== null) return "revoked";
	if (row.expires_at !== null && row.expires_at <= nowS) return "expired";
	return row.uses_left !== null && row.uses_left <= 0 ? "used_up" : "active";
}

function documentOf(row: TokenRow, nowS: number): TokenDocument {
	return {
		token_id: row.token_id,
		kind: row.kind as TokenDocument["kind"],
		name: row.kind === "admin" ? "admin" : row.name,
		role: row.role,
		status: tokenStatus(row, nowS),
		created_at: row.created_at,
		created_by: row.created_by,
		expires_at: row.expires_at,
		last_used_at: row.last_used_at,
		uses_left: row.uses_left,
	};
}
