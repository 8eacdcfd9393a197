/** Names of secrets, and the origins that they are bound to. */
import { invalid } from "./errors.ts";

const NAME = /^[a-z][a-z0-9_-]{0,31}$/;

/** @throws 400 bad_secret_name */
export function parseSecretName(text: string): string {
	if (NAME.test(text)) return text;
	throw invalid(
		"bad_secret_name",
		`${JSON.stringify(text.slice(0, 60))} is no name of a secret: wanted 1 to 32 of a-z, 0-9, - and _, a letter first.`,
		{ field: "secret_name" },
	);
}

/**
 * The origin of an http(s) URL, `https://hub.example:8443`. Plain http carries a secret only within this machine.
 * @throws 400 bad_origin, insecure_origin
 */
export function parseSecretOrigin(text: string): string {
	const url = text.length <= 300 ? URL.parse(text) : null;
	const isOrigin =
		url !== null &&
		(url.protocol === "https:" || url.protocol === "http:") &&
		url.username === "" &&
		url.password === "" &&
		url.pathname === "/" &&
		url.search === "" &&
		url.hash === "" &&
		!url.hostname.endsWith(".") &&
		// It would be an origin of its own, and match none of those that were meant.
		!url.hostname.includes("*");
	if (!isOrigin) {
		throw invalid(
			"bad_origin",
			`${JSON.stringify(text.slice(0, 120))} is not an origin: wanted scheme, host and port alone.`,
			{ field: "origins" },
			"It looks like https://huggingface.co",
		);
	}
	if (url.protocol === "http:" && !isLoopbackHost(url.hostname)) {
		throw invalid(
			"insecure_origin",
			`A secret is not sent over plain http to ${url.host}: everybody on the way could read it.`,
			{ field: "origins" },
			"Use the server's https address.",
		);
	}
	return url.origin;
}

/** Whether a URL's host is this machine by its spelling alone. */
export function isLoopbackHost(hostname: string): boolean {
	return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname);
}
