/** How a machine becomes a node: the CA for its pin, the join, and its next certificates. */
import { certificateNames, isTlsKey, readRequest } from "../../core/identity/identity.ts";
import { GswarmError } from "../../schema/errors.ts";
import { parseNewNodeName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";

type JoinRoutes = Pick<Handlers<"host">, "authority" | "join" | "renewCertificate">;

export type JoinRouteDependencies = Pick<
	HostRouteDependencies,
	"approveJoins" | "cluster" | "clusterId" | "credentials" | "hostUrl" | "identity" | "joining" | "publicKey"
>;

export function joinRoutes(d: JoinRouteDependencies): JoinRoutes {
	let lastJoin: Promise<unknown> = Promise.resolve();
	/** One join after the other: a name is not given away between the look at it and the credential for it. */
	const inTurn = <T>(join: () => Promise<T>): Promise<T> => {
		const turn = lastJoin.then(join);
		lastJoin = turn.catch(() => undefined);
		return turn;
	};
	/**
	 * The host vouches for the address that the node calls from, and for those that an admin approved. From an address
	 * of the host's own call nodes behind the same gateway, and other users of its machine: they could pose as the host.
	 */
	const certify = (node: string, request: string, address: string): Promise<string> => {
		const calledFrom = certificateNames(address === "" ? [] : [address]).addresses;
		const host = new Set(d.credentials.shownNames());
		const addresses = [...calledFrom.filter((it) => !host.has(it)), ...d.cluster.approvedAddresses(node)];
		return d.credentials.issue(request, { node, addresses });
	};

	return {
		authority: () =>
			new Response(d.credentials.caCertificate, { headers: { "content-type": "application/x-pem-file" } }),
		join: ({ body, address }) =>
			inTurn(async () => {
				const node = parseNewNodeName(body.node);
				// Whoever has no secret is told nothing else, and nothing of theirs is read.
				d.joining.check(body.secret);
				const { publicKey } = await readRequest(body.certificate_request);
				certificateNames(body.addresses);
				d.joining.check(body.secret, { node, publicKey });
				const input = { node, publicKey, protocolVersion: body.protocol_version };
				d.cluster.checkJoin(input);
				const { needsApproval } = await d.joining.spend(body.secret, { node, publicKey });
				const state = await d.cluster.join({
					...input,
					address,
					version: body.version,
					addresses: body.addresses,
					needsApproval: needsApproval || d.approveJoins,
				});
				if (state === "waiting") return { status: "waiting" as const, node };
				return {
					status: "joined" as const,
					node,
					node_token: await d.identity.createNodeBearer(node),
					cluster_id: d.clusterId,
					host_public_key: d.publicKey,
					ca_certificate: d.credentials.caCertificate,
					certificate: await certify(node, body.certificate_request, address),
				};
			}),
		renewCertificate: ({ body, caller, address }) =>
			inTurn(async () => {
				const node = caller?.node ?? "";
				const { publicKey } = await readRequest(body.certificate_request);
				certificateNames(body.addresses);
				const known = d.cluster.keyOf(node);
				if (known !== publicKey) {
					// Nodes of earlier versions had another kind of key; their bearer says who they are.
					if (known === undefined || known === "" || isTlsKey(known)) throw otherKey(node);
					await d.cluster.replaceKey(node, publicKey);
				}
				await d.cluster.ask(node, body.addresses);
				return {
					certificate: await certify(node, body.certificate_request, address),
					ca_certificate: d.credentials.caCertificate,
				};
			}),
	};
}

/** A join string for a machine that is to join; with `approve` its node waits for an admin. */
export async function makeJoinString(
	d: JoinRouteDependencies,
	{ ttlS, uses, approve, createdBy }: { ttlS: number; uses: number; approve: boolean; createdBy: string },
): Promise<{ token: string; token_id: string; expires_at: number; uses: number; command: string }> {
	const { text, tokenId, expiresAt } = await d.identity.createJoinString({
		ttlS,
		uses,
		caSha256: d.credentials.pin,
		createdBy,
	});
	if (approve) await d.joining.requireApproval(tokenId);
	return {
		token: text,
		token_id: tokenId,
		expires_at: expiresAt,
		uses,
		command: `gswarm agent --join ${d.hostUrl()}`,
	};
}

function otherKey(node: string): GswarmError {
	return new GswarmError("CONFLICT", `The node ${node} joined with another key.`, {
		reason: "node_key_changed",
		details: { node },
		hint: `\`gswarm node reset ${node}\` on the host forgets that key; then the machine joins again.`,
	});
}
