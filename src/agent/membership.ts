/** Who this machine is and whose node it is: its name and key, and what joining a host gave. */
import { hostname } from "node:os";
import { createApiClient } from "../api/client.ts";
import { parseJoinString } from "../core/identity/identity.ts";
import { version } from "../platform/version.ts";
import { GswarmError, invalid } from "../schema/errors.ts";
import { parseNewNodeName } from "../schema/names.ts";
import { PROTOCOL_VERSION } from "../schema/node.ts";
import type { DataDir, NodeFile } from "./data-dir.ts";
import type { HostRole } from "./host/host.ts";
import { refuseOpenBind } from "./loopback.ts";
import type { AgentOptions } from "./options.ts";

/** Without a flag that says otherwise a machine that has joined a host stays its node. */
export function roleOf(nodeFile: NodeFile): { host: boolean; node: boolean } {
	return { host: nodeFile.joined === undefined, node: true };
}

/** The name is the data directory's once an agent was ready with it; a flag never changes it then. */
export function ensureNode(options: AgentOptions, dataDir: DataDir): NodeFile {
	const kept = dataDir.readNode();
	const { nodeName } = options;
	if (kept === undefined) return dataDir.ensureNode(parseNewNodeName(nodeName ?? defaultNodeName()));
	if (nodeName === undefined || nodeName === kept.name) return kept;
	if (kept.in_use === true || kept.joined !== undefined) {
		throw invalid(
			"node_name_kept",
			`This data directory belongs to the node ${JSON.stringify(kept.name)}; it cannot become ${JSON.stringify(nodeName)}.`,
			{ node: kept.name },
			"Leave --node out, or use another --data-dir.",
		);
	}
	const renamed = { ...kept, name: parseNewNodeName(nodeName) };
	dataDir.writeNode(renamed);
	return renamed;
}

function defaultNodeName(): string {
	const name = hostname()
		.replaceAll(/[^A-Za-z0-9._-]/g, "-")
		.replace(/^[^A-Za-z0-9]+/, "");
	return name === "host" || name === "all" ? `${name}-1` : name;
}

/** From now on the cluster knows this name. */
export function keepName(dataDir: DataDir): void {
	const file = dataDir.readNode();
	if (file !== undefined && file.in_use !== true) dataDir.writeNode({ ...file, in_use: true });
}

type Membership = NonNullable<NodeFile["joined"]>;

/** The node of a one-machine cluster is let in without a join string. */
export async function joinOwnHost(d: {
	host: HostRole;
	dataDir: DataDir;
	nodeFile: NodeFile;
	bind: string;
	hostUrl: string;
	makeBearer: (node: string) => Promise<string>;
}): Promise<Membership> {
	const cluster = d.dataDir.ensureCluster();
	keepName(d.dataDir);
	await d.host.cluster.join({
		node: d.nodeFile.name,
		publicKey: d.nodeFile.public_key,
		address: d.bind,
		version,
		protocolVersion: PROTOCOL_VERSION,
	});
	return {
		host_url: d.hostUrl,
		cluster_id: cluster.cluster_id,
		node_token: await d.makeBearer(d.nodeFile.name),
		host_public_key: cluster.public_key,
	};
}

/** Joins with the join string, or goes on with what an earlier join gave. */
export async function joinHost(
	options: AgentOptions,
	dataDir: DataDir,
	nodeFile: NodeFile,
): Promise<Membership> {
	const hostUrl =
		options.joinUrl === undefined ? nodeFile.joined?.host_url : normaliseHostUrl(options.joinUrl);
	if (hostUrl === undefined)
		throw invalid("no_host", "A client node needs a host: `gswarm agent --join URL`.");
	if (options.joinString === undefined) {
		if (nodeFile.joined !== undefined) return { ...nodeFile.joined, host_url: hostUrl };
		throw invalid(
			"no_join_string",
			`${nodeFile.name} has not joined ${hostUrl} yet and was given no join string.`,
			{},
			`On the host: \`gswarm token create --join\`; here: \`gswarm agent --join ${hostUrl}\` with that string on stdin or in --join-file.`,
		);
	}
	const { tokenId, secret } = parseJoinString(options.joinString);
	const client = createApiClient({ baseUrl: hostUrl, token: () => undefined });
	const answer = await client.call("join", {
		body: {
			node: nodeFile.name,
			secret: `${tokenId}.${secret}`,
			public_key: nodeFile.public_key,
			protocol_version: PROTOCOL_VERSION,
			version,
		},
	});
	const { node_token, cluster_id, host_public_key } = answer;
	const joined = { host_url: hostUrl, cluster_id, node_token, host_public_key };
	dataDir.writeNode({ ...nodeFile, joined });
	return joined;
}

function normaliseHostUrl(text: string): string {
	let url: URL;
	try {
		url = new URL(/^[a-z]+:\/\//.test(text) ? text : `http://${text}`);
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", `${JSON.stringify(text)} is not a URL of a host.`, {
			reason: "bad_url",
			cause,
		});
	}
	if (url.protocol !== "http:")
		throw invalid("bad_url", `${url.protocol}// is not spoken yet; use http:// on loopback.`, { url: text });
	refuseOpenBind(url.hostname.replace(/^\[|\]$/g, ""));
	return url.origin;
}
