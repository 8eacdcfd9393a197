/**
 * Who may do what on this agent. Bearers are `gsw_…` tokens whose secrets are kept as sha256; a node also accepts
 * the host's signed assertion. The admin token is made at the first start and lives in a 0600 file of the data
 * directory, where the CLI reads it.
 * Not here yet: users' tokens, certificates, revocation, audit.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import { verifyAssertion } from "./assertion.ts";
import { formatJoinString } from "./join-string.ts";
import type { CallerRole } from "./roles.ts";
import { type TokenRow, identityModule, joinRefused } from "./token-store.ts";
import { formatToken, makeToken, parseToken, secretHash, secretMatches } from "./token.ts";

export { type KeyPair, generateKeyPair, signAssertion } from "./assertion.ts";
export {
	type Authority,
	type CertificateNames,
	type TlsTrust,
	belongsTo,
	certificateNames,
	createAuthority,
	createRequest,
	generateTlsKey,
	HOST_SERVER_NAME,
	isCertificateName,
	isTlsKey,
	issueHost,
	issueNode,
	keyPem,
	MAX_REQUEST_CHARS,
	nodeServerName,
	pin,
	readCertificate,
	readRequest,
} from "./certificates.ts";
export { parseJoinString } from "./join-string.ts";
export { type CallerRole, allows } from "./roles.ts";
export { identityModule } from "./token-store.ts";
export { formatToken, makeToken, parseToken } from "./token.ts";

/** An authenticated caller. `node` is set for a node's bearer. */
export interface Caller {
	role: CallerRole;
	id: string;
	node: string | undefined;
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
	/** Who a bearer is; undefined for anything unknown, expired or malformed. */
	authenticate(bearer: string): Caller | undefined;
	createJoinString(options: { ttlS: number; uses: number }): Promise<{ text: string; expiresAt: number }>;
	/** Spends a join secret (`<id>.<secret>` of the join string) and makes the bearer of a node. @throws 401 join_refused */
	spendJoin(secret: string, node: string): Promise<string>;
	/** Makes a node's bearer without a join secret, for a node in this very process. */
	createNodeBearer(node: string): Promise<string>;
}

export function createIdentity({ db, clock, ids }: { db: Database; clock: Clock; ids: Ids }): Identity {
	const write = db.writer(identityModule);
	const byId = db.read.query<TokenRow, [string]>(
		"SELECT * FROM token WHERE token_id = ?1 AND revoked_at IS NULL",
	);
	let hostTrust: HostTrust | undefined;

	const nowS = (): number => clock.nowMs() / 1000;
	const makeBearer = (node: string): { text: string; row: TokenRow } => {
		const token = makeToken(ids, "node");
		const row: TokenRow = {
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
		trustHost(trust) {
			hostTrust = trust;
		},
		authenticate(bearer) {
			if (bearer.startsWith("gswh.")) {
				if (hostTrust === undefined) return undefined;
				const { hostPublicKey, nodeName, hostNowMs } = hostTrust;
				if (!verifyAssertion(bearer, hostPublicKey, nodeName, hostNowMs())) return undefined;
				return { role: "host", id: "host", node: undefined };
			}
			const token = parseToken(bearer);
			if (token === undefined) return undefined;
			const [row] = byId.all(token.id);
			if (row === undefined || row.kind !== token.kind || row.kind === "join") return undefined;
			if (row.expires_at !== null && row.expires_at <= nowS()) return undefined;
			if (!secretMatches(token.secret, row.secret_sha256)) return undefined;
			return { role: row.role as CallerRole, id: row.token_id, node: row.node ?? undefined };
		},
		async createJoinString({ ttlS, uses }) {
			const token = makeToken(ids, "join");
			const expiresAt = nowS() + ttlS;
			await write.insertToken({
				token_id: token.id,
				kind: "join",
				role: "join",
				secret_sha256: secretHash(token.secret),
				node: null,
				created_at: nowS(),
				expires_at: expiresAt,
				uses_left: uses,
			});
			return {
				text: formatJoinString({ caSha256: undefined, tokenId: token.id, secret: token.secret }),
				expiresAt,
			};
		},
		async spendJoin(secret, node) {
			const [id, text, ...rest] = secret.split(".");
			if (id === undefined || text === undefined || rest.length > 0) throw joinRefused();
			const bearer = makeBearer(node);
			await write.spendJoin({ token_id: id, secret: text, now: nowS(), bearer: bearer.row });
			return bearer.text;
		},
		async createNodeBearer(node) {
			const bearer = makeBearer(node);
			await write.replaceBearer(bearer.row);
			return bearer.text;
		},
	};
}
