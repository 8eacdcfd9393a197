/** Which URLs from outside may be fetched, and at which addresses: the rules of the outbound client. */
import { GswarmError } from "../schema/errors.ts";
import { addressKind, isAddress, isAllowedAddress } from "./address.ts";

export interface Guard {
	/** Whether the agent's own configuration names this origin; such a one may be anywhere. */
	isListed(url: URL): boolean;
	allowPrivate: boolean;
	/** Addresses of a name. */
	resolve(host: string): Promise<readonly string[]>;
}

const MAX_ADDRESSES_TRIED = 4;
const MAX_URL_LENGTH = 8192;
/** Names that mean this machine or its cloud's metadata service wherever the DNS says they are. */
const BLOCKED_NAMES: readonly string[] = [
	"localhost",
	"localhost.localdomain",
	"localhost6",
	"ip6-localhost",
	"ip6-loopback",
	"metadata",
	"metadata.google.internal",
	"metadata.goog",
	"instance-data",
	"instance-data.ec2.internal",
];

/**
 * An http or https URL without user, password, fragment and final dot of the host.
 * @throws INVALID_REQUEST bad_url, scheme_not_allowed, credentials_in_url
 */
export function parseOutboundUrl(text: string): URL {
	let url: URL;
	try {
		if (text.length > MAX_URL_LENGTH) throw new Error(`longer than ${MAX_URL_LENGTH} characters`);
		url = new URL(text);
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", `${JSON.stringify(text.slice(0, 120))} is not a URL.`, {
			reason: "bad_url",
			cause,
		});
	}
	if (url.protocol !== "http:" && url.protocol !== "https:") {
		const scheme = url.protocol.slice(0, 40);
		throw new GswarmError(
			"INVALID_REQUEST",
			`URLs with ${JSON.stringify(scheme)} are not fetched; wanted https: or http:.`,
			{ reason: "scheme_not_allowed", details: { scheme } },
		);
	}
	if (url.username !== "" || url.password !== "") {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The URL of ${url.host} holds a user name or password; it would end up in tasks and logs.`,
			{ reason: "credentials_in_url", hint: "Leave the part before @ out." },
		);
	}
	url.hash = "";
	// `host.` is the same machine; one spelling keeps every comparison honest.
	if (url.hostname.endsWith(".")) url.hostname = url.hostname.replace(/\.+$/, "");
	return url;
}

/**
 * What the host alone tells, without asking the DNS.
 * @throws FORBIDDEN address_blocked
 */
export function checkHost(url: URL, guard: Guard): void {
	const host = url.hostname;
	if (isAddress(host)) return checkAddress(host, url, guard);
	if (host === "" || host.endsWith(".localhost") || BLOCKED_NAMES.includes(host)) {
		throw blockedAddress(url, "it is a name of this machine or of its cloud's metadata service");
	}
}

/**
 * The addresses to connect to, each checked. A listed origin is resolved and not checked.
 * @throws FORBIDDEN address_blocked, NETWORK_ERROR dns_failed (retryable)
 */
export async function addressesOf(url: URL, guard: Guard): Promise<readonly string[]> {
	const listed = guard.isListed(url);
	if (!listed) checkHost(url, guard);
	if (isAddress(url.hostname)) return [url.hostname];
	let addresses: readonly string[];
	try {
		addresses = await guard.resolve(url.hostname);
		if (addresses.length === 0) throw new Error("the name has no address");
	} catch (cause) {
		throw new GswarmError("NETWORK_ERROR", `The name ${url.hostname} could not be resolved.`, {
			reason: "dns_failed",
			details: { host: url.hostname },
			hint: "Check the spelling and this machine's DNS.",
			retryable: true,
			cause,
		});
	}
	if (!listed) for (const address of addresses) checkAddress(address, url, guard);
	return addresses.slice(0, MAX_ADDRESSES_TRIED);
}

/** A URL as it may be shown or stored: without user, query and fragment, where secrets travel. */
export function withoutSecrets(text: string): string {
	try {
		const url = new URL(text);
		return `${url.protocol}//${url.host}${url.pathname}`;
	} catch {
		return "(not a URL)";
	}
}

/** A source as documents tell it: a web address without secrets but with the digest it claims, anything else as it is. */
export function shownSource(text: string): string {
	if (!/^https?:/i.test(text)) return text;
	return `${withoutSecrets(text)}${/#sha256=[0-9a-f]{64}$/i.exec(text)?.[0] ?? ""}`;
}

function checkAddress(address: string, url: URL, guard: Guard): void {
	const kind = addressKind(address);
	if (!isAllowedAddress(kind, guard)) {
		throw blockedAddress(url, `its address is ${kind.replace("_", "-")}, not public`);
	}
}

function blockedAddress(url: URL, why: string): GswarmError {
	return new GswarmError("FORBIDDEN", `${url.host} is not fetched: ${why}.`, {
		reason: "address_blocked",
		details: { host: url.host },
		hint: "Sources on your own network are allowed in the agent's configuration, by exact origin or with allow_private.",
	});
}
