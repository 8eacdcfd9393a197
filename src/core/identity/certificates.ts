/**
 * The cluster's certificates: its CA, the leafs that the CA signs for hosts and nodes, and the requests for them.
 * ECDSA P-256 throughout. A request proves the possession of its key and nothing else: what it says of names and of
 * powers is not read, because a certificate is made for what the host approved (RFC 2986, RFC 5280).
 * The library is loaded with the first call, so that a command which needs no certificate does not pay for it.
 */
import { X509Certificate as NativeCertificate, createPrivateKey, generateKeyPairSync } from "node:crypto";
import type { X509Certificate } from "@peculiar/x509";
import { isAddress } from "../../platform/address.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import { certificatePin, fromPem, toPem } from "../../platform/pem.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { HOST_SERVER_NAME } from "../../schema/names.ts";
import type { KeyPair } from "./assertion.ts";

/** Whom an agent must meet: a certificate of this CA (PEM) with this name. */
export interface TlsTrust {
	ca: string;
	serverName: string;
}

/** The cluster's CA: certificate and PKCS #8 key, PEM. */
export interface Authority {
	certificate: string;
	privateKey: string;
}

/** What a certificate vouches for beside the internal name. */
export interface CertificateNames {
	dns: readonly string[];
	addresses: readonly string[];
}

/** What is read of a certificate of ours. */
export interface CertificateFacts extends CertificateNames {
	/** SPKI, DER, base64. */
	publicKey: string;
	notBeforeMs: number;
	notAfterMs: number;
	/** When another one should be asked for: a third of its life before the end. */
	renewAtMs: number;
}

const DAY_MS = 86_400_000;
const AUTHORITY_LIFE_MS = 3650 * DAY_MS;
const HOST_LIFE_MS = 90 * DAY_MS;
const NODE_LIFE_MS = 30 * DAY_MS;
/** Certificates begin this long before they are made: clocks of machines differ. */
const BACKDATE_MS = DAY_MS;
/** A request is about 400 bytes. */
const MAX_REQUEST_CHARS = 8_192;
const MAX_NAMES = 64;

const SIGNING = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** How the SPKI of every uncompressed P-256 key begins (RFC 5480). */
const P256_SPKI = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");
const P256_SPKI_BYTES = 91;
/** Underscores are no part of host names by the book, and of some networks all the same. */
const DNS_NAME =
	/^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)*$/i;
const OWN_ADDRESSES = ["127.0.0.1", "::1"];

/** The name by which agents meet a node: a name of it as a label, since node names may hold what a label may not. */
export function nodeServerName(node: string): string {
	return `n-${sha256Hex(node).slice(0, 32)}.node.gswarm.internal`;
}

/**
 * The name of a node with one key (SPKI, base64), by which the host and receivers of parts meet it: a certificate that
 * was issued for an earlier key of the node, or to one that was removed, does not have it. A pin that is part of the
 * name lets Bun keep connections open; with a `checkServerIdentity` it makes a new one for each request.
 */
export function keyedServerName(node: string, publicKey: string): string {
	return `k-${sha256Hex(`${node} ${publicKey}`).slice(0, 32)}.node.gswarm.internal`;
}

/** A fresh P-256 key, for a node or a host. */
export function generateTlsKey(): KeyPair {
	const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
	return {
		publicKey: publicKey.export({ type: "spki", format: "der" }).toString("base64"),
		privateKey: privateKey.export({ type: "pkcs8", format: "der" }).toString("base64"),
	};
}

/** The PKCS #8 key of a KeyPair as PEM. */
export function keyPem(privateKey: string): string {
	return toPem("PRIVATE KEY", Buffer.from(privateKey, "base64"));
}

/** Whether a public key (SPKI, base64) is on P-256. */
export function isTlsKey(publicKey: string): boolean {
	const spki = Buffer.from(publicKey, "base64");
	return spki.length === P256_SPKI_BYTES && spki.subarray(0, P256_SPKI.length).equals(P256_SPKI);
}

/** sha256 of the certificate's DER in hex, which join strings carry. @throws 400 bad_certificate */
export function pin(certificate: string): string {
	const digest = certificatePin(certificate);
	if (digest === undefined) throw badCertificate();
	return digest;
}

/** Whether a certificate can vouch for this; a wildcard, a number and an internal name are none. */
export function isCertificateName(text: string): boolean {
	return isAddress(text) || isHostName(text);
}

/** Splits what people and nodes write into names and addresses. @throws 400 bad_address */
export function certificateNames(texts: readonly string[]): CertificateNames {
	const [dns, addresses]: [string[], string[]] = [[], []];
	for (const text of texts) {
		if (isAddress(text)) addresses.push(canonicalAddress(text));
		else if (isHostName(text)) dns.push(text.toLowerCase());
		else {
			throw invalid(
				"bad_address",
				`${JSON.stringify(text.slice(0, 120))} is neither a host name nor an IP address.`,
				{ field: "address" },
			);
		}
	}
	return { dns: [...new Set(dns)], addresses: [...new Set(addresses)] };
}

/** A CA for a cluster, with a fresh key or, given `privateKey` (PEM), with that one. It signs leafs only. */
export async function createAuthority(d: {
	clusterId: string;
	ids: Ids;
	nowMs: number;
	privateKey?: string;
}): Promise<Authority> {
	const x509 = await library();
	const privateKey = d.privateKey ?? keyPem(generateTlsKey().privateKey);
	const keys = await importKeys(privateKey);
	const certificate = await x509.X509CertificateGenerator.createSelfSigned({
		serialNumber: serialNumber(d.ids),
		name: [{ CN: [`gswarm cluster ${d.clusterId}`] }],
		notBefore: new Date(d.nowMs - BACKDATE_MS),
		notAfter: new Date(d.nowMs + AUTHORITY_LIFE_MS),
		signingAlgorithm: SIGNING,
		keys,
		extensions: [
			new x509.BasicConstraintsExtension(true, 0, true),
			new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
			await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
		],
	});
	return { certificate: pemOf(certificate), privateKey };
}

interface Issue {
	/** SPKI, DER, base64. */
	publicKey: string;
	names: CertificateNames;
	ids: Ids;
	nowMs: number;
}

/** A host's certificate for 90 days, PEM. @throws 400 bad_address, too_many_names */
export function issueHost(authority: Authority, issue: Issue): Promise<string> {
	return issueLeaf(authority, { ...issue, serverNames: [HOST_SERVER_NAME], lifeMs: HOST_LIFE_MS });
}

/** A node's certificate for 30 days, PEM, for the key of a request that readRequest accepted. @throws as issueHost */
export function issueNode(
	authority: Authority,
	{ node, ...issue }: Issue & { node: string },
): Promise<string> {
	const serverNames = [nodeServerName(node), keyedServerName(node, issue.publicKey)] as const;
	return issueLeaf(authority, { ...issue, serverNames, lifeMs: NODE_LIFE_MS });
}

/** A request for the certificate of a node, signed with its key (both PEM). */
export async function createRequest(privateKey: string, node: string): Promise<string> {
	const x509 = await library();
	const request = await x509.Pkcs10CertificateRequestGenerator.create({
		name: [{ CN: [nodeServerName(node)] }],
		keys: await importKeys(privateKey),
		signingAlgorithm: SIGNING,
	});
	return `${request.toString("pem")}\n`;
}

/**
 * The key of a request, proven to be in the sender's possession.
 * @throws 400 bad_certificate_request: not a request, its signature is wrong, or another kind of key
 */
export async function readRequest(text: string): Promise<{ publicKey: string }> {
	const x509 = await library();
	const refused = (why: string, cause?: unknown): GswarmError =>
		new GswarmError("INVALID_REQUEST", `The certificate request ${why}.`, {
			reason: "bad_certificate_request",
			details: { field: "certificate_request" },
			cause,
		});
	if (text.length > MAX_REQUEST_CHARS) throw refused("is too long");
	const der = fromPem("CERTIFICATE REQUEST", text);
	if (der === undefined) throw refused("is not one in PEM");
	let publicKey: string;
	let signed: boolean;
	try {
		const request = new x509.Pkcs10CertificateRequest(der);
		publicKey = Buffer.from(request.publicKey.rawData).toString("base64");
		if (!isTlsKey(publicKey)) throw refused("is not for an ECDSA key on P-256");
		signed = await request.verify();
	} catch (error) {
		throw error instanceof GswarmError ? error : refused("cannot be read", error);
	}
	if (!signed) throw refused("is not signed with its own key");
	return { publicKey };
}

/** @throws 400 bad_certificate */
export async function readCertificate(text: string): Promise<CertificateFacts> {
	const x509 = await library();
	const der = toDer(text);
	let certificate: X509Certificate;
	try {
		certificate = new x509.X509Certificate(der);
	} catch (cause) {
		throw badCertificate(cause);
	}
	const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
	const notAfterMs = certificate.notAfter.getTime();
	const notBeforeMs = certificate.notBefore.getTime();
	return {
		publicKey: Buffer.from(certificate.publicKey.rawData).toString("base64"),
		dns: names.filter((it) => it.type === "dns").map((it) => it.value),
		addresses: names.filter((it) => it.type === "ip").map((it) => canonicalAddress(it.value)),
		notBeforeMs,
		notAfterMs,
		renewAtMs: notAfterMs - (notAfterMs - notBeforeMs - BACKDATE_MS) / 3,
	};
}

/** Whether a certificate is of this key and this CA (all PEM). */
export function belongsTo(
	certificate: string,
	{ privateKey, ca }: { privateKey: string; ca: string },
): boolean {
	try {
		const leaf = new NativeCertificate(toDer(certificate));
		return (
			leaf.checkPrivateKey(createPrivateKey(privateKey)) &&
			leaf.verify(new NativeCertificate(toDer(ca)).publicKey)
		);
	} catch {
		return false;
	}
}

async function issueLeaf(
	authority: Authority,
	{
		publicKey,
		names,
		serverNames,
		lifeMs,
		ids,
		nowMs,
	}: Issue & { serverNames: readonly [string, ...string[]]; lifeMs: number },
): Promise<string> {
	const x509 = await library();
	const { dns, addresses } = certificateNames([...names.dns, ...names.addresses]);
	const all = [
		...new Set([...serverNames, "localhost", ...dns]),
		...new Set([...OWN_ADDRESSES, ...addresses]),
	];
	if (all.length > MAX_NAMES) {
		throw invalid("too_many_names", `${all.length} names and addresses; a certificate holds ${MAX_NAMES}.`, {
			limit: MAX_NAMES,
		});
	}
	const issuer = new x509.X509Certificate(toDer(authority.certificate));
	const key = new x509.PublicKey(Buffer.from(publicKey, "base64"));
	const signer = await importKeys(authority.privateKey);
	const certificate = await x509.X509CertificateGenerator.create({
		serialNumber: serialNumber(ids),
		subject: [{ CN: [serverNames[0]] }],
		issuer: issuer.subjectName,
		// Never before its issuer begins, never after it ends.
		notBefore: new Date(Math.max(nowMs - BACKDATE_MS, issuer.notBefore.getTime())),
		notAfter: new Date(Math.min(nowMs + lifeMs, issuer.notAfter.getTime())),
		signingAlgorithm: SIGNING,
		signingKey: signer.privateKey,
		publicKey: key,
		extensions: [
			new x509.BasicConstraintsExtension(false, undefined, true),
			new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
			new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
			new x509.SubjectAlternativeNameExtension(
				all.map((value) => ({ type: isAddress(value) ? "ip" : "dns", value })),
			),
			await x509.SubjectKeyIdentifierExtension.create(key),
			await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey),
		],
	});
	return pemOf(certificate);
}

/** The library wants `Reflect.metadata` to be there before it is loaded. */
async function library(): Promise<typeof import("./x509-library.ts")> {
	return import("./x509-library.ts");
}

async function importKeys(privateKey: string): Promise<CryptoKeyPair> {
	const key = createPrivateKey(privateKey);
	const pkcs8 = key.export({ type: "pkcs8", format: "der" });
	const jwk = key.export({ format: "jwk" });
	const point = { kty: "EC", crv: "P-256", x: jwk.x ?? "", y: jwk.y ?? "", ext: true };
	return {
		privateKey: await crypto.subtle.importKey("pkcs8", pkcs8, SIGNING, true, ["sign"]),
		publicKey: await crypto.subtle.importKey("jwk", point, SIGNING, true, ["verify"]),
	};
}

/** Hex of 128 random bits, behind a byte that keeps the number positive. */
function serialNumber(ids: Ids): string {
	return `01${sha256Hex(ids.secret(32)).slice(0, 32)}`;
}

function pemOf(certificate: X509Certificate): string {
	return toPem("CERTIFICATE", Buffer.from(certificate.rawData));
}

/** The one certificate of a PEM text. @throws 400 bad_certificate */
function toDer(text: string): Buffer<ArrayBuffer> {
	const der = fromPem("CERTIFICATE", text);
	if (der === undefined) throw badCertificate();
	return der;
}

function badCertificate(cause?: unknown): GswarmError {
	return new GswarmError("INVALID_REQUEST", "That is not a certificate in PEM.", {
		reason: "bad_certificate",
		cause,
	});
}

/** One spelling per address, so that they can be compared. */
function canonicalAddress(text: string): string {
	const bare = text.replace(/^\[(.*)\]$/, "$1");
	return bare.includes(":") ? new URL(`http://[${bare}]`).hostname.slice(1, -1) : bare;
}

/** Internal names are given by this file alone. */
function isHostName(text: string): boolean {
	return DNS_NAME.test(text) && !/^[\d.]+$/.test(text) && !/(^|\.)gswarm\.internal$/i.test(text);
}
