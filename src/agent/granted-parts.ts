/** What a receiver makes of the host's word on where the parts of an operation are. */
import { nodeServerName, type TlsTrust } from "../core/identity/identity.ts";
import { isOpenHttp } from "../platform/plain-http.ts";
import { GswarmError } from "../schema/errors.ts";
import type { Manifest } from "../schema/manifest.ts";

export interface GrantedParts {
	/** Of the source's peer listener. */
	baseUrl: string;
	grant: string;
	/** Undefined: the source is of a version that knows no tags. */
	tagKey: string | undefined;
	manifest: Manifest;
	/** Whom to meet there, on https. */
	trust: TlsTrust;
	/** Other nodes that give the same. */
	others: GrantedPlace[];
}

/** A node that gives the same parts. */
export type GrantedPlace = Pick<GrantedParts, "baseUrl" | "grant" | "tagKey" | "trust"> & { device: string };

/**
 * The parts are read from the node that the host named and from nobody else; over plain HTTP from another machine only
 * where the host has said that nobody else is on this network. The host looks at that first, this does not rely on it.
 * @throws 503 parts_without_tls
 */
export function grantedParts(
	{ base_url: baseUrl, node, server_name: serverName, grant, tag_key: tagKey, manifest, others = [] }: Answer,
	{ ca, trustedNetwork }: { ca: string; trustedNetwork: boolean },
): GrantedParts {
	if (isOpenHttp(baseUrl) && !trustedNetwork) throw partsWithoutTls(node);
	const places = others
		.filter((other) => trustedNetwork || !isOpenHttp(other.base_url))
		.map((other) => ({
			baseUrl: other.base_url,
			device: other.device,
			grant: other.grant,
			tagKey: other.tag_key,
			trust: trustIn(other.node, { ca, serverName: other.server_name }),
		}));
	return { baseUrl, grant, tagKey, manifest, trust: trustIn(node, { ca, serverName }), others: places };
}

/** The host names the key of the node along with it; one of an earlier version names the node alone. */
export function trustIn(
	node: string,
	{ ca, serverName }: { ca: string; serverName: string | undefined },
): TlsTrust {
	return { ca, serverName: serverName ?? nodeServerName(node) };
}

/** 503: the source opened its part plane as it was told once, and is told anew with its next heartbeat. */
export function partsWithoutTls(node: string): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `The node ${node} gives parts over plain HTTP only.`, {
		reason: "parts_without_tls",
		details: { node },
		retryable: true,
		hint: "`cluster.trusted_network: true` in the host's config.yaml allows that, for networks where nobody else is.",
	});
}

interface Answer {
	base_url: string;
	node: string;
	server_name?: string | undefined;
	grant: string;
	tag_key?: string | undefined;
	manifest: Manifest;
	others?: readonly {
		base_url: string;
		node: string;
		server_name?: string | undefined;
		device: string;
		grant: string;
		tag_key?: string | undefined;
	}[];
}
