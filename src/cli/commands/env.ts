import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { shellWord } from "../render/shell-word.ts";

/** OpenSSL and Python's httpx; curl and requests, which look at their own first. */
const READ_FROM_FILE = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"] as const;

export const command = defineCommand({
	about: `Prints the variables with which other programs reach the served models: the OpenAI-compatible address, the token, and the authorities to trust where the host has a certificate of the cluster's own. \`eval "$(gswarm env)"\` sets them in a shell; the lines hold your token and are not for a log.
OPENAI_BASE_URL and OPENAI_API_KEY are what OpenAI's clients read; SSL_CERT_FILE, CURL_CA_BUNDLE and REQUESTS_CA_BUNDLE name a file with the system's authorities and the cluster's, NODE_EXTRA_CA_CERTS (Node.js) the cluster's alone.`,
	args: {},
	examples: [
		["env", "shows the lines"],
		["env --json", "the same for a program"],
	],
	next: ["model serve ORG/NAME"],
	async run(context) {
		const { out, say, world } = context;
		const connection = context.connection();
		const variables: Record<string, string> = {
			OPENAI_BASE_URL: `${connection.advertisedUrl ?? connection.url}/v1`,
		};
		if (connection.token !== undefined) variables["OPENAI_API_KEY"] = connection.token;
		if (connection.ca !== undefined) {
			const { writeAuthorities } = await import("../authority-files.ts");
			const name = connection.context ?? "local";
			const files = await writeAuthorities(world.environment.dataDir, { name, ca: connection.ca });
			for (const variable of READ_FROM_FILE) variables[variable] = files.withSystem;
			variables["NODE_EXTRA_CA_CERTS"] = files.alone;
		}
		await out.show(variables, {
			names: () => Object.keys(variables),
			human: () =>
				Object.entries(variables)
					.map(([name, value]) => `export ${name}=${shellWord(value)}`)
					.join("\n"),
		});
		if (connection.token === undefined) say.warn("There is no token: set GSWARM_TOKEN_FILE, or log in.");
		if (world.terminal.stdout.isTty && !out.forPrograms)
			say.info('These lines hold your token. To set them in this shell: eval "$(gswarm env)"');
		return EXIT.done;
	},
});
