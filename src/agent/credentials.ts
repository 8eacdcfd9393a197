/**
 * What this machine's listeners show: the host's certificate from its own CA, a node's from its host. Both are made
 * again a third of their life before their end, or when the names of the machine changed.
 */
import {
	type Authority,
	type CertificateNames,
	belongsTo,
	certificateNames,
	createAuthority,
	createRequest,
	generateTlsKey,
	isCertificateName,
	issueHost,
	issueNode,
	keyPem,
	keyedServerName,
	pin,
	readCertificate,
	readRequest,
} from "../core/identity/identity.ts";
import type { Clock } from "../platform/clock.ts";
import type { Ids } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { GswarmError } from "../schema/errors.ts";
import type { DataDir } from "./data-dir.ts";

/** PEM; the leaf only. */
export interface ServerIdentity {
	certificate: string;
	privateKey: string;
}

export interface Credentials {
	/** PEM of the cluster's CA. */
	readonly caCertificate: string;
	/** For a listener of this machine: made or renewed when missing, due, or when names changed. */
	serverIdentity(names: CertificateNames): Promise<ServerIdentity>;
	/** Milliseconds until the certificate should be renewed. */
	renewInMs(): number;
}

export interface HostCredentials extends Credentials {
	/** sha256 of the CA's DER, hex. */
	readonly pin: string;
	/** Names and addresses in the host's own certificate. */
	shownNames(): readonly string[];
	/**
	 * A node's certificate for the key of its request, and for the addresses that were approved.
	 * @throws 400 bad_certificate_request, bad_address
	 */
	issue(request: string, approved: { node: string; addresses: readonly string[] }): Promise<string>;
}

/** How long a node whose host did not renew its certificate waits before it asks again. */
const RETRY_MS = 60_000;

/** The host's, from the CA of the data directory, which is made when there is none. */
export async function hostCredentials({
	dataDir,
	clusterId,
	clock,
	ids,
}: {
	dataDir: Pick<DataDir, "readPem" | "writePem">;
	clusterId: string;
	clock: Clock;
	ids: Ids;
}): Promise<HostCredentials> {
	const authority = await ensureAuthority();
	const privateKey = ensureHostKey();
	let renewAtMs = 0;
	let shown: readonly string[] = [];
	const inTurn = createTurns();

	return {
		caCertificate: authority.certificate,
		pin: pin(authority.certificate),
		shownNames: () => shown,
		serverIdentity: (given) =>
			inTurn(async () => {
				const names = presentable(given);
				const kept = dataDir.readPem("host.pem");
				const usable =
					kept !== undefined &&
					belongsTo(kept, { privateKey, ca: authority.certificate }) &&
					(await isGood(kept, names, clock.nowMs()));
				const certificate = usable ? kept : await makeCertificate(names);
				if (!usable) dataDir.writePem("host.pem", certificate);
				const facts = await readCertificate(certificate);
				({ renewAtMs } = facts);
				shown = [...facts.dns, ...facts.addresses];
				return { certificate, privateKey };
			}),
		renewInMs: () => Math.max(0, renewAtMs - clock.nowMs()),
		async issue(request, { node, addresses }) {
			const { publicKey } = await readRequest(request);
			const names = certificateNames(addresses);
			return issueNode(authority, { node, publicKey, names, ids, nowMs: clock.nowMs() });
		},
	};

	async function makeCertificate(names: CertificateNames): Promise<string> {
		const { publicKey } = await readRequest(await createRequest(privateKey, "host"));
		return issueHost(authority, { publicKey, names, ids, nowMs: clock.nowMs() });
	}

	/** The key is written first: a certificate that is not of it is made again, and vouches for the same leafs. */
	async function ensureAuthority(): Promise<Authority> {
		const [key, certificate] = [dataDir.readPem("ca.key"), dataDir.readPem("ca.pem")];
		if (key !== undefined && certificate !== undefined) {
			const isOurs = belongsTo(certificate, { privateKey: key, ca: certificate });
			if (isOurs) return { certificate, privateKey: key };
		}
		const made = await createAuthority({
			clusterId,
			ids,
			nowMs: clock.nowMs(),
			...(key === undefined ? {} : { privateKey: key }),
		});
		if (key === undefined) dataDir.writePem("ca.key", made.privateKey);
		dataDir.writePem("ca.pem", made.certificate);
		return made;
	}

	function ensureHostKey(): string {
		const kept = dataDir.readPem("host.key");
		if (kept !== undefined) return kept;
		const made = keyPem(generateTlsKey().privateKey);
		dataDir.writePem("host.key", made);
		return made;
	}
}

/** A node's, from what joining gave; `renew` asks the host, `keep` stores what it answered. */
export function nodeCredentials({
	clock,
	log,
	...d
}: {
	clock: Clock;
	log: Log;
	node: string;
	/** PKCS #8, DER, base64, as in node.json. */
	privateKey: string;
	caCertificate: string;
	/** What the node has; undefined makes the first listener ask for one. */
	certificate: string | undefined;
	renew: (request: string, addresses: readonly string[]) => Promise<string>;
	keep: (certificate: string) => void;
}): Credentials {
	const privateKey = keyPem(d.privateKey);
	const ours = { privateKey, ca: d.caCertificate };
	let certificate = d.certificate !== undefined && belongsTo(d.certificate, ours) ? d.certificate : undefined;
	let asked = "";
	let renewAtMs = 0;
	/** After a renewal that failed: nobody asks in a loop. */
	let patienceUntilMs = 0;
	const inTurn = createTurns();

	/** The host vouches for what it approved, which may be less than what was asked; asking once is enough. */
	const renewed = async (names: CertificateNames): Promise<string> => {
		const addresses = [...names.dns, ...names.addresses];
		const answer = await d.renew(await createRequest(privateKey, d.node), addresses);
		if (!belongsTo(answer, ours)) {
			throw new GswarmError(
				"UNAUTHORIZED",
				"The host answered with a certificate that is not of this cluster.",
				{
					reason: "certificate_not_ours",
				},
			);
		}
		asked = JSON.stringify(addresses);
		d.keep(answer);
		return answer;
	};

	return {
		caCertificate: d.caCertificate,
		serverIdentity: (given) =>
			inTurn(async () => {
				const names = presentable(given);
				const nowMs = clock.nowMs();
				const changed = asked !== JSON.stringify([...names.dns, ...names.addresses]);
				const usable =
					certificate !== undefined &&
					(changed
						? await isGood(certificate, names, nowMs, d.node)
						: nowMs < (await readCertificate(certificate)).renewAtMs);
				if (certificate === undefined) certificate = await renewed(names);
				else if (!usable) {
					try {
						certificate = await renewed(names);
					} catch (error) {
						// The one at hand may be good for days; one that has ended is better than no listener, since the
						// host can still be asked, and nobody will be fooled by it.
						log.warn("certificate.not_renewed", { node: d.node, error });
						patienceUntilMs = nowMs + RETRY_MS;
					}
				}
				({ renewAtMs } = await readCertificate(certificate));
				return { certificate, privateKey };
			}),
		renewInMs: () => Math.max(0, Math.max(renewAtMs, patienceUntilMs) - clock.nowMs()),
	};
}

/** Whether a certificate is not due yet and vouches for all these names; a node's for its key, too. */
async function isGood(
	certificate: string,
	names: CertificateNames,
	nowMs: number,
	node?: string,
): Promise<boolean> {
	const facts = await readCertificate(certificate);
	if (nowMs >= facts.renewAtMs) return false;
	const has = new Set([...facts.dns, ...facts.addresses]);
	const keyed = node === undefined ? [] : [keyedServerName(node, facts.publicKey)];
	return [...keyed, ...names.dns, ...names.addresses].every((name) => has.has(name));
}

/** The names of a machine that a certificate can hold: its own host name may be none. */
function presentable(names: CertificateNames): CertificateNames {
	return certificateNames([...names.dns, ...names.addresses].filter(isCertificateName));
}

/** Runs one after the other. */
function createTurns(): <T>(run: () => Promise<T>) => Promise<T> {
	let last: Promise<unknown> = Promise.resolve();
	return <T>(run: () => Promise<T>): Promise<T> => {
		const turn = last.then(run);
		last = turn.catch(() => undefined);
		return turn;
	};
}
