/**
 * The cluster's CA by its pin: asked for without trusting anybody and without saying anything secret, and believed
 * only when the sha256 of its DER is the pin that an admin gave.
 */
import { sha256Hex } from "../platform/hash.ts";
import { readBounded } from "../platform/body-reader.ts";
import { GswarmError } from "../schema/errors.ts";

const MAX_BYTES = 64 * 1024;
const TIMEOUT_MS = 10_000;

/** PEM of the CA that the host at `url` shows. @throws UNAUTHORIZED ca_pin_mismatch, no_authority; NETWORK_ERROR */
export async function fetchPinnedAuthority(url: string, pin: string): Promise<string> {
	const der = derOf(await ask(url));
	if (der === undefined) throw unusable(url);
	const found = sha256Hex(der);
	if (found === pin) return pemOf(der);
	throw new GswarmError(
		"UNAUTHORIZED",
		`${url} shows another authority than the one that was pinned; nothing secret was sent.`,
		{
			reason: "ca_pin_mismatch",
			details: { wanted: pin, got: found },
			hint: "The pin is mistyped or of another cluster, or somebody is between this machine and the host: ask its admin for `gswarm token create` again.",
		},
	);
}

async function ask(url: string): Promise<string> {
	let response: Response;
	try {
		response = await fetch(`${url}/cacerts`, {
			// Who answers is not known yet: that is what the pin is for.
			tls: { rejectUnauthorized: false },
			redirect: "manual",
			signal: AbortSignal.timeout(TIMEOUT_MS),
			credentials: "omit",
		});
		if (response.status !== 200) throw unusable(url);
		return Buffer.from(await readBounded(response.body, MAX_BYTES)).toString("latin1");
	} catch (cause) {
		if (cause instanceof GswarmError && cause.reason === "no_authority") throw cause;
		if (cause instanceof GswarmError) throw unusable(url, cause);
		throw new GswarmError("NETWORK_ERROR", `Cannot reach ${url}.`, {
			reason: "connect_failed",
			details: { url },
			hint: "Is the address right, does the host listen on it (`gswarm agent --bind`), and does it speak https?",
			cause,
		});
	}
}

/** The first certificate of a PEM text. */
function derOf(pem: string): Uint8Array | undefined {
	const body = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/.exec(pem)?.[1];
	if (body === undefined) return undefined;
	const der = Buffer.from(body, "base64");
	return der.length === 0 ? undefined : der;
}

/** Made anew from what was checked, so that nothing else of the answer is ever trusted. */
function pemOf(der: Uint8Array): string {
	const lines =
		Buffer.from(der)
			.toString("base64")
			.match(/.{1,64}/g) ?? [];
	return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function unusable(url: string, cause?: unknown): GswarmError {
	return new GswarmError("UNAUTHORIZED", `${url} shows no authority at /cacerts; nothing secret was sent.`, {
		reason: "no_authority",
		details: { url },
		hint: "Is it the host of a gswarm cluster? Its admin's `gswarm token create` prints the address.",
		cause,
	});
}
