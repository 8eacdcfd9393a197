/**
 * The host's signed assertion: `gswh.<payload>.<signature>`, base64url, Ed25519 over the payload text.
 * A user's token is never forwarded: the host calls a node with one of these, for that node and at most 60 s.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";

/** Milliseconds that an assertion is good for. */
export const ASSERTION_TTL_MS = 60_000;

export interface KeyPair {
	/** SPKI, DER, base64. */
	publicKey: string;
	/** PKCS #8, DER, base64. */
	privateKey: string;
}

interface Payload {
	audience: string;
	expires_at_ms: number;
}

export function generateKeyPair(): KeyPair {
	const { publicKey, privateKey } = generateKeyPairSync("ed25519");
	return {
		publicKey: publicKey.export({ type: "spki", format: "der" }).toString("base64"),
		privateKey: privateKey.export({ type: "pkcs8", format: "der" }).toString("base64"),
	};
}

/** An assertion for the node `audience`, by the host's wall clock. */
export function signAssertion(privateKey: string, audience: string, nowMs: number): string {
	const payload: Payload = { audience, expires_at_ms: nowMs + ASSERTION_TTL_MS };
	const text = Buffer.from(JSON.stringify(payload)).toString("base64url");
	const key = createPrivateKey({ key: Buffer.from(privateKey, "base64"), format: "der", type: "pkcs8" });
	return `gswh.${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`;
}

/**
 * Whether the assertion is for this node, signed by the host, and in time.
 * `hostNowMs` is the host's wall clock as the node estimates it from the last heartbeat's answer, so that a
 * clock that is wrong on one machine does not cut the two off.
 */
export function verifyAssertion(
	text: string,
	publicKey: string,
	audience: string,
	hostNowMs: number,
): boolean {
	const [prefix, payloadText, signature, ...rest] = text.split(".");
	if (prefix !== "gswh" || payloadText === undefined || signature === undefined || rest.length > 0)
		return false;
	try {
		const key = createPublicKey({ key: Buffer.from(publicKey, "base64"), format: "der", type: "spki" });
		if (!verify(null, Buffer.from(payloadText), key, Buffer.from(signature, "base64url"))) return false;
		const payload = JSON.parse(Buffer.from(payloadText, "base64url").toString()) as Partial<Payload>;
		if (payload.audience !== audience || typeof payload.expires_at_ms !== "number") return false;
		return payload.expires_at_ms > hostNowMs && payload.expires_at_ms <= hostNowMs + 2 * ASSERTION_TTL_MS;
	} catch {
		return false;
	}
}
