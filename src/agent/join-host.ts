/**
 * Joining a host over the network, as design and habit of k3s and kubeadm have it: the CA by its pin first, then,
 * over a connection that this CA vouches for, the secret and the request for a certificate. Nothing secret is sent
 * before the host has proven who it is.
 */
import { keyFingerprint } from "../platform/hash.ts";
import { fetchAuthority } from "../platform/authority.ts";
import type { ApiClient } from "../api/client.ts";
import { belongsTo, createRequest, keyPem, parseJoinString, pin } from "../core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../schema/names.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { isOpenHttp, refuseOpenHttp } from "../platform/plain-http.ts";
import { version } from "../platform/version.ts";
import { GswarmError, asGswarmError, invalid } from "../schema/errors.ts";
import { PROTOCOL_VERSION } from "../schema/node.ts";
import { createAgentClient } from "./agent-client.ts";
import type { DataDir, NodeFile } from "./data-dir.ts";
import type { Membership } from "./membership.ts";
import { AGENT_DEFAULTS, type AgentOptions } from "./options.ts";

export interface JoinDependencies {
	options: Pick<AgentOptions, "joinUrl" | "joinString">;
	dataDir: Pick<DataDir, "writeNode" | "writePem">;
	nodeFile: NodeFile;
	clock: Clock;
	log: Log;
	/** Names and addresses that this node would like its certificate to hold. */
	addresses: readonly string[];
	/** An admin has to let it in first. */
	onWaiting?: (waitsFor: string) => void;
	signal?: AbortSignal;
}

/** Between two questions of a node that waits for its approval, or for a host that is away. */
const ASK_EVERY_MS = 2_000;

/**
 * Joins with the join string, or goes on with what an earlier join gave.
 * @throws UNAUTHORIZED wrong_pin, host_not_verified, join_refused; CONFLICT node_name_taken; INVALID_REQUEST
 * bad_join_string, no_pin, no_join_string, no_host, bad_url, plain_http; NETWORK_ERROR
 */
export async function joinHost(d: JoinDependencies): Promise<Membership> {
	const { options, nodeFile } = d;
	const { joined } = nodeFile;
	const hostUrl = options.joinUrl === undefined ? joined?.host_url : hostOrigin(options.joinUrl);
	if (hostUrl === undefined)
		throw invalid("no_host", "A client node needs a host: `gswarm agent --join URL`.");
	refuseOpenHttp(hostUrl);
	const given = options.joinString === undefined ? undefined : parseJoinString(options.joinString);
	// The same string as before has nothing new to say, and the host may be away.
	const isNew = given !== undefined && given.tokenId !== joined?.join_token;
	if (!isNew) {
		if (joined !== undefined) return withCertificates(d, { ...joined, host_url: hostUrl });
		throw invalid(
			"no_join_string",
			`${nodeFile.name} has not joined ${hostUrl} yet and was given no join string.`,
			{},
			`On the host: \`gswarm token create --join\`; here: \`gswarm agent --join ${hostUrl}\` with that string on stdin or in --join-file.`,
		);
	}
	const ca = await authorityOf(hostUrl, given.caSha256, d.signal);
	const client = clientOf(hostUrl, ca);
	const answer = await letIn(d, client, `${given.tokenId}.${given.secret}`);
	requireSame(ca, answer, nodeFile);
	const membership = {
		host_url: hostUrl,
		cluster_id: answer.cluster_id,
		node_token: answer.node_token,
		host_public_key: answer.host_public_key,
		ca_certificate: answer.ca_certificate,
		certificate: answer.certificate,
	};
	keep(d, { ...membership, join_token: given.tokenId });
	return membership;
}

/**
 * The host's address as people write it: without a scheme it is https, on loopback http; without a port it is the
 * host's usual one, but for https://, which a proxy may speak. @throws 400 bad_url
 */
export function hostOrigin(text: string): string {
	const hasScheme = /^[a-z]+:\/\//.test(text);
	let url: URL;
	try {
		url = new URL(hasScheme ? text : `http://${text}`);
		if (!hasScheme && isOpenHttp(url.origin)) url = new URL(`https://${text}`);
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", `${JSON.stringify(text)} is not a URL of a host.`, {
			reason: "bad_url",
			cause,
		});
	}
	const hasPort = /:\d+\/?$/.test(text);
	if (!hasPort && (!hasScheme || url.protocol === "http:")) url.port = String(AGENT_DEFAULTS.hostPort);
	if (url.protocol === "http:" || url.protocol === "https:") return url.origin;
	throw invalid("bad_url", `${url.protocol}// is not spoken here; a host has http:// or https://.`, {
		url: text,
	});
}

/** The CA that the pin names; undefined on loopback without TLS, where nobody is in between. */
async function authorityOf(
	hostUrl: string,
	wanted: string | undefined,
	signal: AbortSignal | undefined,
): Promise<string | undefined> {
	if (hostUrl.startsWith("http:")) return undefined;
	if (wanted !== undefined) return fetchAuthority(hostUrl, wanted, signal);
	throw invalid(
		"no_pin",
		`This join string does not say whose certificate ${hostUrl} has to show.`,
		{ url: hostUrl },
		"`gswarm token create --join` on the host prints one that does.",
	);
}

function clientOf(hostUrl: string, ca: string | undefined, token?: string): ApiClient {
	return createAgentClient({
		baseUrl: hostUrl,
		token: () => token,
		trust: ca === undefined ? undefined : { ca, serverName: HOST_SERVER_NAME },
	});
}

type Joined = Pick<Membership, "cluster_id" | "node_token" | "host_public_key" | "ca_certificate"> & {
	certificate: string;
};

/** Asks until an admin has approved the node, where that is asked for. */
async function letIn(d: JoinDependencies, client: ApiClient, secret: string): Promise<Joined> {
	const { nodeFile, clock, log, signal } = d;
	const body = {
		node: nodeFile.name,
		secret,
		certificate_request: await createRequest(keyPem(nodeFile.private_key), nodeFile.name),
		addresses: [...d.addresses],
		protocol_version: PROTOCOL_VERSION,
		version,
	};
	const ask = async (waited: boolean): Promise<Joined | number> => {
		try {
			const answer = await client.call("join", { body, ...(signal === undefined ? {} : { signal }) });
			return answer.status === "joined" ? answer : ASK_EVERY_MS;
		} catch (error) {
			const failure = asGswarmError(error);
			const { reason, cause } = failure;
			if (reason === "tls_failed") throw notVerified(client.baseUrl, cause);
			// It waits as long as it takes, also for a host that restarts.
			if (waited && failure.retryable) return (failure.retryAfterS ?? 0) * 1000 || ASK_EVERY_MS;
			throw error;
		}
	};
	for (let waited = false; ; waited = true) {
		const answer = await ask(waited);
		if (typeof answer !== "number") return answer;
		if (!waited) {
			const fingerprint = keyFingerprint(nodeFile.public_key);
			const hint = `an admin lets it in: gswarm node approve ${nodeFile.name} (its key is ${fingerprint})`;
			d.onWaiting?.(hint);
			log.warn("join.waiting", {
				node: nodeFile.name,
				host: client.baseUrl,
				key_fingerprint: fingerprint,
				hint,
			});
		}
		await clock.sleep(answer, signal);
		signal?.throwIfAborted();
	}
}

/** What an earlier join gave; one of before there were certificates asks the host for them. */
async function withCertificates(
	d: JoinDependencies,
	joined: NonNullable<NodeFile["joined"]>,
): Promise<Membership> {
	const { ca_certificate, certificate, join_token: _joinToken, ...rest } = joined;
	if (ca_certificate !== undefined && certificate !== undefined)
		return { ...rest, ca_certificate, certificate };
	const { nodeFile, clock, log, signal } = d;
	const client = clientOf(joined.host_url, ca_certificate, joined.node_token);
	const certificate_request = await createRequest(keyPem(nodeFile.private_key), nodeFile.name);
	for (;;) {
		try {
			const body = { certificate_request, addresses: [...d.addresses] };
			const answer = await client.call("renewCertificate", { body });
			requireSame(ca_certificate, answer, nodeFile);
			keep(d, { ...joined, ...answer });
			return { ...rest, ...answer };
		} catch (error) {
			if (!asGswarmError(error).retryable) throw error;
			log.warn("join.host_away", { host: joined.host_url, error });
			await clock.sleep(ASK_EVERY_MS, signal);
			signal?.throwIfAborted();
		}
	}
}

function keep({ dataDir, nodeFile }: JoinDependencies, joined: NonNullable<NodeFile["joined"]>): void {
	dataDir.writeNode({ ...nodeFile, joined });
	if (joined.ca_certificate !== undefined) dataDir.writePem("ca.pem", joined.ca_certificate);
}

/** The CA that the pin named is the one to trust from now on, and the certificate is of our key. */
function requireSame(
	ca: string | undefined,
	answer: { ca_certificate: string; certificate: string },
	nodeFile: NodeFile,
): void {
	const sameCa = ca === undefined || pin(ca) === pin(answer.ca_certificate);
	const key = { privateKey: keyPem(nodeFile.private_key), ca: answer.ca_certificate };
	if (sameCa && belongsTo(answer.certificate, key)) return;
	throw new GswarmError("UNAUTHORIZED", "The host answered with certificates that do not belong together.", {
		reason: "certificate_not_ours",
	});
}

function notVerified(hostUrl: string, cause: unknown): GswarmError {
	return new GswarmError(
		"UNAUTHORIZED",
		`${hostUrl} shows the cluster's CA and cannot prove that it is its host. Nothing secret was sent to it.`,
		{
			reason: "host_not_verified",
			details: { url: hostUrl },
			hint: "Somebody may be in between: check the address, and that it leads to the host itself.",
			cause,
		},
	);
}
