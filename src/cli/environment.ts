/** The only file of the command line that reads the environment. */
import { homedir } from "node:os";
import { join } from "node:path";

export interface Environment {
	/** GSWARM_HOME, or `~/.gswarm`. */
	dataDir: string;
	/** GSWARM_HOST: address of an agent elsewhere. */
	hostUrl: string | undefined;
	/** GSWARM_TOKEN_FILE: a 0600 file with the token for it. */
	tokenFile: string | undefined;
	/** GSWARM_CA_FILE: PEM of the authority that vouches for it, where the system's own does not. */
	caFile: string | undefined;
	/** NO_COLOR is set, or the terminal is a dumb one. */
	noColor: boolean;
}

export function systemEnvironment(): Environment {
	const { GSWARM_HOME, GSWARM_HOST, GSWARM_TOKEN_FILE, GSWARM_CA_FILE, NO_COLOR, TERM } = process.env;
	return {
		dataDir: present(GSWARM_HOME) ?? join(homedir(), ".gswarm"),
		hostUrl: present(GSWARM_HOST),
		tokenFile: present(GSWARM_TOKEN_FILE),
		caFile: present(GSWARM_CA_FILE),
		noColor: present(NO_COLOR) !== undefined || TERM === "dumb",
	};
}

/**
 * Keeps calls to this machine's own agent away from a proxy of the environment: `fetch` would send even
 * 127.0.0.1, with its token, through HTTP_PROXY.
 */
export function bypassProxy(hostname: string): void {
	for (const name of ["NO_PROXY", "no_proxy"] as const) {
		const known = present(process.env[name]);
		process.env[name] = known === undefined ? hostname : `${known},${hostname}`;
	}
}

function present(value: string | undefined): string | undefined {
	return value === undefined || value === "" ? undefined : value;
}
