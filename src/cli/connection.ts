/**
 * Which agent a command talks to, and with which token. In this order: `--data-dir` or `--context`, GSWARM_HOST with
 * GSWARM_TOKEN_FILE and GSWARM_CA_FILE, the context in use, the agent of the default data directory.
 * Nobody types a token on a command line.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { isLoopback, refuseOpenHttp } from "../platform/plain-http.ts";
import { GswarmError, invalid } from "../schema/errors.ts";
import { LOCAL_CONTEXT } from "../schema/names.ts";
import { isAlive, readAgentFile } from "./agent-file.ts";
import { type StoredContext, contextNamed, readContexts } from "./context-store.ts";
import { type Environment, bypassProxy } from "./environment.ts";

export interface Connection {
	url: string;
	token: string | undefined;
	/** PEM of the authority to trust instead of the system's. */
	ca: string | undefined;
	/** The name in the agent's certificate, where it is not the host of the URL. */
	serverName?: string | undefined;
	/** For programs of people, where the agent's own certificate does not vouch for `url`. */
	advertisedUrl?: string | undefined;
	/** True when the agent is a node without a host's API. */
	nodeOnly: boolean;
	/** Name of the stored context that it is from. */
	context: string | undefined;
}

export interface Wanted {
	dataDir?: string | undefined;
	context?: string | undefined;
}

/**
 * @throws RESOURCE_UNAVAILABLE no_agent; INVALID_REQUEST usage, bad_host, plain_http, unsafe_token_file, unsafe_contexts;
 * NOT_FOUND context_not_found; UNAUTHORIZED no_token
 */
export function findConnection(environment: Environment, { dataDir, context }: Wanted = {}): Connection {
	if (dataDir !== undefined && context !== undefined) {
		throw invalid("usage", "--data-dir and --context exclude each other: each names one agent.");
	}
	if (dataDir !== undefined) return connectionOf(dataDir);
	if (context === LOCAL_CONTEXT) return connectionOf(environment.dataDir);
	if (context !== undefined) return connectionFrom(contextNamed(readContexts(environment.dataDir), context));
	if (environment.hostUrl !== undefined) return connectionByEnvironment(environment, environment.hostUrl);
	const file = readContexts(environment.dataDir);
	if (file.current !== null) return connectionFrom(contextNamed(file, file.current));
	return connectionOf(environment.dataDir);
}

/**
 * An address as people write it: `https://host:8000`, `host:8000` or `host`, which is https but on this machine.
 * @throws INVALID_REQUEST bad_host
 */
export function parseHostUrl(text: string, label = "GSWARM_HOST"): URL {
	const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(text);
	const isHere = bare && URL.canParse(`http://${text}`) && isLoopback(new URL(`http://${text}`).hostname);
	const withScheme = bare ? `${isHere ? "http" : "https"}://${text}` : text;
	const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
	const isBase = url !== undefined && url.pathname === "/" && url.search === "" && url.hash === "";
	if (!isBase || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
		throw invalid(
			"bad_host",
			`${label} ${JSON.stringify(text.slice(0, 120))} is not an agent's address.`,
			{},
			"It looks like https://192.168.1.10:8000",
		);
	}
	const hasPort = /:\d+\/?$/.test(text);
	if (!hasPort && (bare || url.protocol === "http:")) url.port = "8000";
	return url;
}

/**
 * The one line of a secret's file.
 * @throws INVALID_REQUEST unsafe_token_file when others may read it, UNAUTHORIZED when it is missing
 */
export function readTokenFile(path: string, label: string): string {
	let text: string;
	try {
		if ((statSync(path).mode & 0o077) !== 0) {
			throw invalid(
				"unsafe_token_file",
				`${path} (${label}) can be read by other users.`,
				{},
				`chmod 600 ${path}`,
			);
		}
		text = readFileSync(path, "utf8").trim();
	} catch (error) {
		if (error instanceof GswarmError) throw error;
		throw new GswarmError("UNAUTHORIZED", `${path} (${label}) cannot be read.`, {
			reason: "no_token",
			hint: "Run the command as the user whose agent it is, or name a file with the token in GSWARM_TOKEN_FILE.",
			cause: error,
		});
	}
	if (/^[\u0021-\u007e]{1,4096}$/.test(text)) return text;
	throw invalid("bad_token_file", `${path} (${label}) does not hold one token.`);
}

/** PEM of an authority. @throws INVALID_REQUEST bad_ca_file */
export function readCaFile(path: string, label: string): string {
	let text = "";
	let cause: unknown;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		cause = error;
	}
	if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
	throw new GswarmError("INVALID_REQUEST", `${path} (${label}) is not a readable certificate in PEM.`, {
		reason: "bad_ca_file",
		hint: "The host's is `ca.pem` in its data directory; `gswarm login URL --ca-pin HEX` needs no file.",
		cause,
	});
}

function connectionByEnvironment({ tokenFile, caFile }: Environment, hostUrl: string): Connection {
	const url = parseHostUrl(hostUrl);
	return {
		url: reachable(url),
		token: tokenFile === undefined ? undefined : readTokenFile(tokenFile, "GSWARM_TOKEN_FILE"),
		ca: caFile === undefined ? undefined : readCaFile(caFile, "GSWARM_CA_FILE"),
		nodeOnly: false,
		context: undefined,
	};
}

function connectionFrom({ name, url, token, ca, server_name }: StoredContext): Connection {
	return {
		url: reachable(new URL(url)),
		token,
		ca: ca ?? undefined,
		serverName: server_name,
		nodeOnly: false,
		context: name,
	};
}

/** The origin; what leaves this machine is encrypted, and what does not leave it meets no proxy. */
function reachable(url: URL): string {
	refuseOpenHttp(url.origin);
	if (isLoopback(url.hostname)) bypassProxy(url.hostname);
	return url.origin;
}

function connectionOf(dataDir: string): Connection {
	const file = readAgentFile(dataDir);
	const url = file?.host_url ?? file?.node_url;
	if (file === undefined || url === undefined || !isAlive(file.pid)) {
		throw new GswarmError("RESOURCE_UNAVAILABLE", `No agent is running with the data directory ${dataDir}.`, {
			reason: "no_agent",
			hint: "Start one with `gswarm agent`, `gswarm login URL` for a cluster elsewhere, or name another with `--data-dir DIR`.",
		});
	}
	bypassProxy(new URL(url).hostname);
	return {
		url: new URL(url).origin,
		token: readTokenFile(join(dataDir, "admin.token"), "the agent's token"),
		ca: file.ca_file === undefined ? undefined : readCaFile(file.ca_file, "the agent's CA"),
		serverName: file.server_name,
		advertisedUrl: file.advertised_url,
		nodeOnly: file.host_url === undefined,
		context: undefined,
	};
}
