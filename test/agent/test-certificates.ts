/** A cluster's authority and what it signed, as hosts and nodes get it. */
import {
	createAuthority,
	createRequest,
	generateTlsKey,
	issueHost,
	issueNode,
	keyPem,
	nodeServerName,
	readRequest,
	type TlsTrust,
} from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import type { ListenerCertificate } from "../../src/agent/http/listener.ts";
import { systemIds } from "../../src/platform/ids.ts";

export interface TestAuthority {
	/** PEM. */
	ca: string;
	host(names?: { dns?: string[]; addresses?: string[] }): Promise<ListenerCertificate>;
	node(name: string): Promise<ListenerCertificate>;
	/** Whom to meet: the host, or a node by its name. */
	trust(node?: string): TlsTrust;
}

export async function testAuthority(): Promise<TestAuthority> {
	const [ids, nowMs] = [systemIds, Date.now()];
	const authority = await createAuthority({ clusterId: "test", ids, nowMs });
	const leaf = async (node: string | undefined, given: { dns?: string[]; addresses?: string[] } = {}) => {
		const privateKey = keyPem(generateTlsKey().privateKey);
		const { publicKey } = await readRequest(await createRequest(privateKey, node ?? "host"));
		const names = { dns: given.dns ?? [], addresses: given.addresses ?? [] };
		const issue = { publicKey, names, ids, nowMs };
		const certificate = await (node === undefined
			? issueHost(authority, issue)
			: issueNode(authority, { ...issue, node }));
		return { certificate, privateKey };
	};
	return {
		ca: authority.certificate,
		host: (names) => leaf(undefined, names),
		node: (name) => leaf(name),
		trust: (node) => ({
			ca: authority.certificate,
			serverName: node === undefined ? HOST_SERVER_NAME : nodeServerName(node),
		}),
	};
}
