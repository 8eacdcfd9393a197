import { isLoopback, refuseOpenHttp } from "../../platform/plain-http.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { HOST_SERVER_NAME, LOCAL_CONTEXT, parseContextName } from "../../schema/names.ts";
import { defineCommand } from "../command.ts";
import { parseHostUrl, readCaFile } from "../connection.ts";
import type { Context } from "../context.ts";
import { type StoredContext, changeContexts, readContexts } from "../context-store.ts";
import { bypassProxy } from "../environment.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { formatTime } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { readSecret } from "../secret-input.ts";
import { pin } from "../values.ts";

export const command = defineCommand({
	about: `Makes this machine talk to a cluster elsewhere, as the person whose token it is. The token is typed at a prompt, or comes on the standard input; never on the command line. Address, authority and token are stored as a context, readable by you alone, and the context is used from then on (\`gswarm context use local\` goes back to this machine's agent).
The host's admin makes the token with \`gswarm token create\`, which prints this command too. --ca-pin says which authority is the cluster's, and what is not that one gets no token; without it the host needs a certificate that this machine trusts already.`,
	args: {
		url: { type: "positional", description: "Address of the host, e.g. https://gpu1.lan:8000" },
		"ca-pin": {
			type: "string",
			value: pin,
			valueHint: "HEX",
			description: "sha256 of the cluster's CA, 64 hex digits, as the admin got it",
		},
	},
	examples: [
		["login https://gpu1.lan:8000 --ca-pin HEX", "asks for the token"],
		["login https://gpu1.lan:8000 --ca-pin HEX < token.txt", "takes it from a file"],
		["login https://models.example.org --context work", "a host with a certificate of its own"],
	],
	next: ["whoami", "model list", "env"],
	async run(context, { url: text, "ca-pin": caPin }) {
		const { environment } = context.world;
		const { origin: url, hostname } = parseHostUrl(text, "URL");
		refuseOpenHttp(url);
		if (isLoopback(hostname)) bypassProxy(hostname);
		const name = nameOf(context, hostname);
		// Before the token is asked for, and again when it is stored.
		refuseOther(readContexts(environment.dataDir).contexts, name, url);
		const ca = await authorityOf(context, url, caPin);
		const token = await readSecret(context, "Token");
		const { me, serverName } = await whoIs(context, { url, ca, token, pinned: caPin !== undefined });
		const made: StoredContext = {
			name,
			url,
			token,
			ca: ca ?? null,
			...(serverName === undefined ? {} : { server_name: serverName }),
			user: me.name,
			role: me.role,
			cluster_id: me.agent.cluster_id,
		};
		await changeContexts(environment.dataDir, context.world.clock, ({ contexts }) => {
			refuseOther(contexts, name, url);
			return { current: name, contexts: [...contexts.filter((one) => one.name !== name), made] };
		});
		const body = {
			context: name,
			url,
			user: me.name,
			role: me.role,
			cluster_id: me.agent.cluster_id,
			expires_at: me.expires_at,
		};
		await context.out.show(body, {
			names: () => [name],
			human: () =>
				fields(context.style, [
					["Context", name],
					["Host", url],
					["You are", `${me.name} (${me.role})`],
					["Expires", me.expires_at === null ? "never" : formatTime(me.expires_at)],
				]),
		});
		if (environment.hostUrl !== undefined)
			context.say.warn("GSWARM_HOST is set and goes before the context in use; unset it.");
		if (serverName !== undefined) {
			context.say.info(
				`${hostname} shows a certificate of its own: other programs (\`gswarm env\`) have to trust it by themselves.`,
			);
		}
		context.say.success(`Logged in; commands go to ${safeLine(name)} from now on.`);
		context.say.next(["model list", "env", `context use ${LOCAL_CONTEXT}`]);
		return EXIT.done;
	},
});

function nameOf({ globals }: Context, hostname: string): string {
	const name = globals.context ?? hostname;
	if (name === LOCAL_CONTEXT)
		throw invalid("usage", `${LOCAL_CONTEXT} is this machine's own agent; give another name with --context.`);
	if (globals.context === undefined && hostname.startsWith("["))
		throw invalid("usage", "An IPv6 address is no name; give one with --context NAME.");
	return parseContextName(name);
}

/** A new token for the same host takes the place of the old one; another host does not. */
function refuseOther(contexts: readonly StoredContext[], name: string, url: string): void {
	const known = contexts.find((one) => one.name === name);
	if (known === undefined || known.url === url) return;
	throw new GswarmError("CONFLICT", `The context ${name} is of ${known.url}.`, {
		reason: "context_taken",
		details: { context: name, url: known.url },
		hint: `Choose another name with --context, or \`gswarm context remove ${name}\` first.`,
	});
}

async function authorityOf(
	{ world, say }: Context,
	url: string,
	caPin: string | undefined,
): Promise<string | undefined> {
	if (!url.startsWith("https:")) {
		if (caPin !== undefined) throw invalid("usage", "--ca-pin needs an address with https://.");
		return undefined;
	}
	const { caFile } = world.environment;
	if (caPin === undefined) return caFile === undefined ? undefined : readCaFile(caFile, "GSWARM_CA_FILE");
	const { fetchAuthority } = await import("../../platform/authority.ts");
	const ca = await fetchAuthority(url, caPin, undefined, (to, init) => fetch(to, init));
	say.debug("the authority is the one that was pinned");
	return ca;
}

interface Login {
	url: string;
	ca: string | undefined;
	token: string;
	/** The authority is the cluster's by its pin. */
	pinned: boolean;
}

/** The token's first use. A host with a certificate of the operator's own is met by the cluster's name for it. */
async function whoIs(context: Context, { url, ca, token, pinned }: Login) {
	const ask = async (serverName: string | undefined) => {
		const client = await context.clientOf({
			url,
			ca,
			serverName,
			token,
			nodeOnly: false,
			context: undefined,
		});
		return { me: await client.call("whoami", {}), serverName };
	};
	try {
		try {
			return await ask(undefined);
		} catch (error) {
			if (!pinned || !isOfOtherAuthority(error)) throw error;
			return await ask(HOST_SERVER_NAME);
		}
	} catch (error) {
		if (!(error instanceof GswarmError)) throw error;
		const { code, reason, message, details } = error;
		if (code !== "UNAUTHORIZED") throw error;
		const hint =
			reason === "tls_failed"
				? ca === undefined
					? "This machine does not trust its certificate. Ask the host's admin for the pin: `gswarm login URL --ca-pin HEX`; `gswarm token create` prints it."
					: "Its certificate is of that cluster but not for this address: log in with one that the host has (`gswarm agent --advertise`)."
				: "An admin of the cluster makes a token with `gswarm token create --role user --name NAME`.";
		throw new GswarmError(code, message, {
			details,
			hint,
			cause: error,
			...(reason === undefined ? {} : { reason }),
		});
	}
}

/** The certificate is good for nothing here; one of the right authority and for another address is told apart. */
function isOfOtherAuthority(error: unknown): boolean {
	if (!(error instanceof GswarmError) || error.reason !== "tls_failed") return false;
	return error.details["cause"] !== "ERR_TLS_CERT_ALTNAME_INVALID";
}
