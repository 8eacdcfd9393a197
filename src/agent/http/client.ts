/**
 * Who is at the other end: the connection's address, unless that is a proxy of the configuration, whose
 * X-Forwarded-For, -Proto and -Host then count. From anybody else these headers are read by nobody, and `Forwarded`
 * (RFC 7239) never is: a proxy that passes on what it was sent would let everybody choose an address.
 */
import { type AddressRange, canonicalAddress, isInRanges } from "../../platform/address-range.ts";
import { MAX_FORWARDED_HOPS } from "../../platform/limits.ts";

export interface Client {
	address: string;
	scheme: "http" | "https";
	/** As the browser sees us: what the Origin of our own pages names. */
	host: string;
	/** A proxy listens on a port of its own, so only the name can be held against ours. */
	isProxied: boolean;
}

/** A header that names several hosts names none of ours: the check of the Host refuses it. */
export function clientOf(request: Request, connection: string, proxies: readonly AddressRange[]): Client {
	const { headers } = request;
	const host = headers.get("host")?.toLowerCase() ?? "";
	const scheme = request.url.startsWith("https:") ? "https" : "http";
	if (proxies.length === 0 || !isInRanges(connection, proxies))
		return { address: connection, scheme, host, isProxied: false };
	const proto = headers.get("x-forwarded-proto")?.trim().toLowerCase();
	const forwardedHost = headers.get("x-forwarded-host")?.trim().toLowerCase();
	return {
		address: nearestStranger(headers.get("x-forwarded-for"), connection, proxies),
		scheme: proto === "https" || proto === "http" ? proto : scheme,
		host: forwardedHost ?? host,
		isProxied: true,
	};
}

/** The rightmost address that no proxy of ours has; what stands left of it, anybody may have written. */
function nearestStranger(
	header: string | null,
	connection: string,
	proxies: readonly AddressRange[],
): string {
	const hops = (header ?? "").split(",").slice(-MAX_FORWARDED_HOPS).reverse();
	let nearest = connection;
	for (const hop of hops) {
		const address = canonicalAddress(withoutPort(hop.trim()));
		if (address === undefined) return nearest;
		nearest = address;
		if (!isInRanges(address, proxies)) return address;
	}
	return nearest;
}

/** `10.0.0.7:4711` and `[fd00::7]:4711`, as some proxies write it. */
function withoutPort(hop: string): string {
	return /^(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:.]+\]):\d{1,5}$/i.exec(hop)?.[1] ?? hop;
}
