/**
 * The first step towards a cluster that one has never met: its CA by its pin. The connection is not verified, and so
 * nothing but this request goes over it; what comes is what the pin says or nothing.
 */
import { fetchDirectly } from "./fetch-directly.ts";
import { networkError } from "./network-error.ts";
import { certificatePin } from "./pem.ts";
import { readBounded } from "./body-reader.ts";
import { GswarmError } from "../schema/errors.ts";

/** A certificate is under 1 kB. */
const MAX_BYTES = 64 * 1024;
const TIMEOUT_MS = 10_000;

/**
 * The certificate (PEM) of the CA of the host at `origin`, whose sha256 is `pin` (hex). Agents reach each other
 * directly; a person's machine may need the proxy of its environment, and sends with `fetch`.
 * @throws UNAUTHORIZED wrong_pin; NETWORK_ERROR
 */
export async function fetchAuthority(
	origin: string,
	pin: string,
	signal?: AbortSignal,
	send: typeof fetchDirectly = fetchDirectly,
): Promise<string> {
	const timeout = AbortSignal.timeout(TIMEOUT_MS);
	let text: string;
	try {
		const response = await send(`${origin}/cacerts`, {
			tls: { rejectUnauthorized: false },
			redirect: "manual",
			signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
		});
		if (!response.ok) throw notAHost(origin, response.status);
		text = new TextDecoder().decode(await readBounded(response.body, MAX_BYTES));
	} catch (error) {
		// More than a certificate can be is none, and the pin says so.
		if (error instanceof GswarmError && error.reason === "body_too_large") text = "";
		else throw error instanceof GswarmError ? error : networkError(error, origin);
	}
	const got = certificatePin(text);
	if (got === pin) return text;
	throw new GswarmError(
		"UNAUTHORIZED",
		`${origin} is not the cluster that was meant: its CA has another fingerprint. Nothing was sent to it.`,
		{
			reason: "wrong_pin",
			details: { url: origin, wanted: pin, got: got ?? null },
			hint: "Somebody may be in between, or this is another cluster: compare the address, and take a fresh join string or pin from the host itself.",
		},
	);
}

function notAHost(origin: string, status: number): GswarmError {
	return new GswarmError("NETWORK_ERROR", `${origin} answered ${status}; a host of a cluster shows its CA.`, {
		reason: "unexpected_answer",
		details: { url: origin, status },
		hint: "The address of a host is printed when its agent starts.",
	});
}
