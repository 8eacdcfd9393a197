/**
 * Which agent a command talks to, and with which token: `--data-dir`, else GSWARM_HOST with GSWARM_TOKEN_FILE,
 * else the agent of the default data directory. Nobody types a token.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { GswarmError, invalid } from "../schema/errors.ts";
import { isAlive, readAgentFile } from "./agent-file.ts";
import { type Environment, bypassProxy } from "./environment.ts";

export interface Connection {
	url: string;
	token: string | undefined;
	/** True when the agent is a node without a host's API. */
	nodeOnly: boolean;
}

/** @throws RESOURCE_UNAVAILABLE no_agent, INVALID_REQUEST bad_host or unsafe_token_file, UNAUTHORIZED */
export function findConnection(environment: Environment, dataDir: string | undefined): Connection {
	if (dataDir === undefined && environment.hostUrl !== undefined) {
		const url = parseHostUrl(environment.hostUrl);
		if (isLoopback(url.hostname)) bypassProxy(url.hostname);
		const { tokenFile } = environment;
		return {
			url: url.origin,
			token: tokenFile === undefined ? undefined : readTokenFile(tokenFile, "GSWARM_TOKEN_FILE"),
			nodeOnly: false,
		};
	}
	return connectionOf(dataDir ?? environment.dataDir);
}

/** An address as people write it: `http://host:8000`, `host:8000` or `host`. @throws INVALID_REQUEST bad_host */
export function parseHostUrl(text: string, label = "GSWARM_HOST"): URL {
	const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
	const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
	const isBase = url !== undefined && url.pathname === "/" && url.search === "" && url.hash === "";
	if (!isBase || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
		throw invalid(
			"bad_host",
			`${label} ${JSON.stringify(text.slice(0, 120))} is not an agent's address.`,
			{},
			"It looks like http://192.168.1.10:8000",
		);
	}
	if (url.port === "" && url.protocol === "http:" && !/:80\/?$/.test(text)) url.port = "8000";
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

function connectionOf(dataDir: string): Connection {
	const file = readAgentFile(dataDir);
	const url = file?.host_url ?? file?.node_url;
	if (file === undefined || url === undefined || !isAlive(file.pid)) {
		throw new GswarmError("RESOURCE_UNAVAILABLE", `No agent is running with the data directory ${dataDir}.`, {
			reason: "no_agent",
			hint: "Start one with `gswarm agent`, name another with `--data-dir DIR`, or set GSWARM_HOST and GSWARM_TOKEN_FILE.",
		});
	}
	bypassProxy(new URL(url).hostname);
	return {
		url: new URL(url).origin,
		token: readTokenFile(join(dataDir, "admin.token"), "the agent's token"),
		nodeOnly: file.host_url === undefined,
	};
}

function isLoopback(hostname: string): boolean {
	return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
