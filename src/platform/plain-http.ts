/** Plain HTTP stays on this machine: what leaves it carries bearers and models, and goes over TLS. */
import { GswarmError } from "../schema/errors.ts";
import { addressKind } from "./address.ts";

/** Whether a host of a URL, or an address to listen on, is this machine's loopback and nothing else. */
export function isLoopback(host: string): boolean {
	return host === "localhost" || addressKind(host) === "loopback";
}

/** Whether everybody between here and there could read and change what is said. */
export function isOpenHttp(url: string): boolean {
	const { protocol, hostname } = new URL(url);
	return protocol !== "https:" && !isLoopback(hostname);
}

/** @throws INVALID_REQUEST plain_http */
export function refuseOpenHttp(url: string): void {
	if (!isOpenHttp(url)) return;
	throw new GswarmError(
		"INVALID_REQUEST",
		`${url} is plain HTTP to another machine; nothing was sent there.`,
		{
			reason: "plain_http",
			details: { url },
			hint: "An agent that listens beyond loopback speaks https; write the address with https://.",
		},
	);
}
