/** Where an agent should listen now: as it was told, or, as a node of a host elsewhere, at the address that faces it. */
import { lookup } from "node:dns/promises";
import { addressFacing, addressesByRoute } from "../platform/interfaces.ts";
import { isLoopback } from "../platform/plain-http.ts";
import { AGENT_DEFAULTS } from "./options.ts";
import type { Surroundings } from "./reach.ts";

export interface Whereabouts {
	/** As `--bind` says. */
	bind: string | undefined;
	/** Of the host that a node joins; undefined for a host. */
	hostUrl: string | undefined;
	/** Where it listens while nothing leads to the host. */
	fallback: string;
}

export async function surroundings({ bind, hostUrl, fallback }: Whereabouts): Promise<Surroundings> {
	const addresses = await addressesByRoute();
	if (bind !== undefined) return { bind, addresses };
	if (hostUrl === undefined) return { bind: AGENT_DEFAULTS.bind, addresses };
	return { bind: (await facing(new URL(hostUrl).hostname)) ?? fallback, addresses };
}

/** The address of this machine from which the host is reached; undefined without a way to it. */
async function facing(host: string): Promise<string | undefined> {
	if (isLoopback(host)) return AGENT_DEFAULTS.bind;
	try {
		const { address } = await lookup(host.replace(/^\[(.*)\]$/, "$1"));
		return await addressFacing(address);
	} catch {
		// The name may be known again in a minute.
		return undefined;
	}
}
