/** Who this machine is and whose node it is: its name and key, and how a host's own node is one of its cluster. */
import { hostname } from "node:os";
import { generateTlsKey, isTlsKey } from "../core/identity/identity.ts";
import { version } from "../platform/version.ts";
import { invalid } from "../schema/errors.ts";
import { parseNewNodeName } from "../schema/names.ts";
import { PROTOCOL_VERSION } from "../schema/node.ts";
import type { HostCredentials } from "./credentials.ts";
import type { DataDir, NodeFile } from "./data-dir.ts";
import type { HostRole } from "./host/host.ts";
import type { AgentOptions } from "./options.ts";

/** Without a flag that says otherwise a machine that has joined a host stays its node. */
export function roleOf(nodeFile: NodeFile): { host: boolean; node: boolean } {
	return { host: nodeFile.joined === undefined, node: true };
}

/** The name is the data directory's once an agent was ready with it; a flag never changes it then. */
export function ensureNode(options: AgentOptions, dataDir: DataDir): NodeFile {
	const kept = withTlsKey(dataDir);
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

/** The key of a node is its TLS key; one of an earlier kind is replaced, all else stays. */
function withTlsKey(dataDir: DataDir): NodeFile | undefined {
	const kept = dataDir.readNode();
	if (kept === undefined || isTlsKey(kept.public_key)) return kept;
	const { publicKey, privateKey } = generateTlsKey();
	const renewed = { ...kept, public_key: publicKey, private_key: privateKey };
	dataDir.writeNode(renewed);
	return renewed;
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

/** What a node has of its cluster. */
export interface Membership {
	host_url: string;
	cluster_id: string;
	node_token: string;
	/** SPKI, base64. */
	host_public_key: string;
	/** PEM. */
	ca_certificate: string;
	/** PEM; undefined for the host's own node, whose first listener makes it. */
	certificate: string | undefined;
}

/** The node of a one-machine cluster is let in without a join string, whatever key it had. */
export async function joinOwnHost(d: {
	host: HostRole;
	dataDir: DataDir;
	nodeFile: NodeFile;
	bind: string;
	hostUrl: string;
	credentials: HostCredentials;
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
		own: true,
	});
	return {
		host_url: d.hostUrl,
		cluster_id: cluster.cluster_id,
		node_token: await d.makeBearer(d.nodeFile.name),
		host_public_key: cluster.public_key,
		ca_certificate: d.credentials.caCertificate,
		certificate: undefined,
	};
}
