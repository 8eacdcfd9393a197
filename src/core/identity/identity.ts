/**
 * Who may do what on this agent. Bearers are `gsw_…` tokens whose secrets are kept as sha256; a node also accepts
 * the host's signed assertion. The admin token is made at the first start and lives in a 0600 file of the data
 * directory, where the CLI reads it. Tokens of people are rows of the host; a node believes what its host pushed,
 * and less of it the longer the host is silent. The cluster's CA and the certificates of its agents are made here.
 * Who submitted a task is kept beside, because a user may cancel only their own.
 * What was done with a right is noted by the audit log; people's secrets for downloads are kept bound to their origins.
 * Not here: the calls between host and nodes.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import { GswarmError } from "../../schema/errors.ts";
import { verifyAssertion } from "./assertion.ts";
import { formatJoinString } from "./join-string.ts";
import { type People, createPeople, tokenStatus } from "./people.ts";
import { type PushedTokens, createPushedTokens } from "./pushed-tokens.ts";
import type { CallerRole } from "./roles.ts";
import { type TaskOwners, createTaskOwners } from "./task-owners.ts";
import { type NewToken, type TokenRow, identityModule } from "./token-store.ts";
import { type Token, formatToken, makeToken, parseToken, secretHash, secretMatches } from "./token.ts";

export { type KeyPair, generateKeyPair, signAssertion } from "./assertion.ts";
export { type Audit, createAudit } from "./audit.ts";
export type { AuditCaller, AuditEvent } from "./audit-rules.ts";
export { auditModule } from "./audit-store.ts";
export {
	type Authority,
	type CertificateNames,
	type TlsTrust,
	belongsTo,
	certificateNames,
	createAuthority,
	createRequest,
	generateTlsKey,
	isCertificateName,
	isTlsKey,
	issueHost,
	issueNode,
	keyPem,
	keyedServerName,
	nodeServerName,
	pin,
	readCertificate,
	readRequest,
} from "./certificates.ts";
export { parseJoinString } from "./join-string.ts";
export { type Joiner, type Joining, createJoining, joinModule } from "./joining.ts";
export type { People } from "./people.ts";
export type { PushedTokens } from "./pushed-tokens.ts";
export { type CallerRole, allows, mayGrant, roleRefused } from "./roles.ts";
export type { Ownership, TaskOwners } from "./task-owners.ts";
export { type SecretFile, type Secrets, openSecrets } from "./secrets.ts";
export { identityModule } from "./token-store.ts";
export { formatToken, makeToken, parseToken } from "./token.ts";

/** An authenticated caller. */
export interface Caller {
	/** What they may do now: on a node that is cut off from its host less than the token says. */
	role: CallerRole;
	/** Id of the token; `host` for the host's own calls. */
	id: string;
	/** Name of a person's token, of the node, `admin` for the data directory's token, or `host`. */
	name: string;
	/** Set for a node's bearer, which is bound to it. */
	node: string | undefined;
	/** Seconds since the epoch; null: never, or it is no token. */
	expiresAt: number | null;
}

/** What a node knows of its host. */
export interface HostTrust {
	nodeName: string;
	hostPublicKey: string;
	/** The host's wall clock as this node estimates it. */
	hostNowMs: () => number;
}

export interface Identity {
	/** Makes the given token the admin token. */
	setAdmin(token: string): Promise<void>;
	/** From now on the signed assertions of this host are accepted. */
	trustHost(trust: HostTrust): void;
	/** This agent is the host: its own rows say which tokens of people are good. */
	keepPeople(): void;
	/** Who a bearer is; undefined for anything unknown, expired, revoked or malformed. */
	authenticate(bearer: string): Caller | undefined;
	/** Why a bearer is nobody: the 401, which tells who has the right secret that it has expired or was revoked. */
	refusal(bearer: string | undefined): GswarmError;
	/** Tokens of people; the host's. */
	readonly people: People;
	/** Tokens of people as the host pushed them; a node's. */
	readonly pushed: PushedTokens;
	readonly taskOwners: TaskOwners;
	/** A join string for the cluster with this CA (see `pin`); `createJoining` says what it is good for. */
	createJoinString(options: {
		ttlS: number;
		uses: number;
		caSha256?: string | undefined;
		/** Name of the token that makes it. */
		createdBy?: string | undefined;
	}): Promise<{ text: string; tokenId: string; expiresAt: number }>;
	/** Makes the bearer of a node that was let in; the former one is nobody's from then on. */
	createNodeBearer(node: string): Promise<string>;
}

/** Seconds between two writes of a token's last use. */
const LAST_USE_S = 60;
const MAX_TOUCHED = 10_000;

export function createIdentity({ db, clock, ids }: { db: Database; clock: Clock; ids: Ids }): Identity {
	const write = db.writer(identityModule);
	const byId = db.read.query<TokenRow, [string]>("SELECT * FROM token WHERE token_id = ?1");
	const people = createPeople({ db, clock, ids });
	const pushed = createPushedTokens({ clock });
	const touched = new Map<string, number>();
	let hostTrust: HostTrust | undefined;
	let keepsPeople = false;

	const nowS = (): number => clock.nowMs() / 1000;
	/** The row of a token whose secret is right. Of a person only on the host: elsewhere such a row is of another time. */
	const ownRow = (token: Token): TokenRow | undefined => {
		if (token.kind === "user" && !keepsPeople) return undefined;
		const [row] = byId.all(token.id);
		if (row === undefined || row.kind !== token.kind || row.kind === "join") return undefined;
		return secretMatches(token.secret, row.secret_sha256) ? row : undefined;
	};
	const pushedToken = (token: Token): ReturnType<PushedTokens["find"]> => {
		if (token.kind !== "user" || keepsPeople) return undefined;
		const found = pushed.find(token.id);
		return found !== undefined && secretMatches(token.secret, found.token.secret_sha256) ? found : undefined;
	};
	/** The host's clock as far as it is known: it set the time. */
	const hostNowS = (): number => (hostTrust === undefined ? nowS() : hostTrust.hostNowMs() / 1000);
	/** The last use of a person's token is kept, with one write a minute and token at most. */
	const touch = (row: TokenRow): void => {
		if (row.kind !== "user") return;
		const now = nowS();
		const last = touched.get(row.token_id) ?? row.last_used_at ?? 0;
		if (Math.abs(now - last) < LAST_USE_S) return;
		if (touched.size >= MAX_TOUCHED) touched.clear();
		touched.set(row.token_id, now);
		// Nobody waits for it, and a disk that is full must not keep anybody out.
		write.touchToken({ token_id: row.token_id, now }).catch(() => touched.delete(row.token_id));
	};
	const makeBearer = (node: string): { text: string; row: NewToken } => {
		const token = makeToken(ids, "node");
		const row: NewToken = {
			token_id: token.id,
			kind: "node",
			role: "node",
			secret_sha256: secretHash(token.secret),
			node,
			created_at: nowS(),
			expires_at: null,
			uses_left: null,
		};
		return { text: formatToken(token), row };
	};

	return {
		async setAdmin(text) {
			const token = parseToken(text);
			if (token?.kind !== "admin") throw new Error("the admin token file does not hold an admin token");
			await write.replaceAdmin({
				token_id: token.id,
				kind: "admin",
				role: "admin",
				secret_sha256: secretHash(token.secret),
				node: null,
				created_at: nowS(),
				expires_at: null,
				uses_left: null,
			});
		},
		keepPeople() {
			keepsPeople = true;
		},
		trustHost(trust) {
			hostTrust = trust;
		},
		authenticate(bearer) {
			if (bearer.startsWith("gswh.")) {
				if (hostTrust === undefined) return undefined;
				const { hostPublicKey, nodeName, hostNowMs } = hostTrust;
				if (!verifyAssertion(bearer, hostPublicKey, nodeName, hostNowMs())) return undefined;
				return { role: "host", id: "host", name: "host", node: undefined, expiresAt: null };
			}
			const token = parseToken(bearer);
			if (token === undefined) return undefined;
			const row = ownRow(token);
			if (row !== undefined) {
				if (tokenStatus(row, nowS()) !== "active") return undefined;
				touch(row);
				return {
					role: row.role as CallerRole,
					id: row.token_id,
					name: row.name ?? row.node ?? row.kind,
					node: row.node ?? undefined,
					expiresAt: row.expires_at,
				};
			}
			const found = pushedToken(token);
			if (found === undefined) return undefined;
			const { token_id, name, expires_at } = found.token;
			if (expires_at !== null && expires_at <= hostNowS()) return undefined;
			return { role: found.role, id: token_id, name, node: undefined, expiresAt: expires_at };
		},
		refusal(bearer) {
			const token = bearer === undefined ? undefined : parseToken(bearer);
			if (token === undefined) return noValidToken();
			const row = ownRow(token);
			const status = row === undefined ? undefined : tokenStatus(row, nowS());
			if (status === "revoked") return ended("token_revoked", "This token was revoked.");
			const expiresAt = (row ?? pushedToken(token)?.token)?.expires_at ?? null;
			const isOver = expiresAt !== null && expiresAt <= (row === undefined ? hostNowS() : nowS());
			return isOver ? ended("token_expired", "This token has expired.") : noValidToken();
		},
		people,
		pushed,
		taskOwners: createTaskOwners({ db, clock, ids }),
		async createJoinString({ ttlS, uses, caSha256, createdBy }) {
			const token = makeToken(ids, "join");
			const expiresAt = nowS() + ttlS;
			const row: NewToken = {
				token_id: token.id,
				kind: "join",
				role: "join",
				secret_sha256: secretHash(token.secret),
				node: null,
				created_at: nowS(),
				expires_at: expiresAt,
				uses_left: uses,
				created_by: createdBy ?? null,
			};
			await write.addToken({ row, nowMs: clock.nowMs() });
			return {
				text: formatJoinString({ caSha256, tokenId: token.id, secret: token.secret }),
				tokenId: token.id,
				expiresAt,
			};
		},
		async createNodeBearer(node) {
			const bearer = makeBearer(node);
			await write.replaceBearer(bearer.row);
			return bearer.text;
		},
	};
}

function noValidToken(): GswarmError {
	return new GswarmError("UNAUTHORIZED", "This needs a token: send `Authorization: Bearer …`.", {
		reason: "no_valid_token",
		hint: "The CLI reads the token of the agent's data directory, or what `gswarm login` stored; other programs get one by `gswarm token create`.",
	});
}

/** Told only to who has the right secret. */
function ended(reason: "token_expired" | "token_revoked", message: string): GswarmError {
	return new GswarmError("UNAUTHORIZED", message, {
		reason,
		hint: "Ask an admin of the cluster for a new one (`gswarm token create --role …`), and `gswarm login` again.",
	});
}
