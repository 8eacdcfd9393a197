/** The addresses of this machine, as its network interfaces and its routes have them now. */
import { createSocket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { addressKind, isAddress } from "./address.ts";

/** TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849): nothing is sent there, only the route is asked. */
const ANYWHERE = { ipv4: "192.0.2.1", ipv6: "2001:db8::1" };

/** Addresses under which other machines may reach this one: no loopback, nothing that needs a zone. */
export function machineAddresses(): string[] {
	const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
	const own = all.filter((it) => !it.internal && addressKind(it.address) !== "link_local");
	return [...own].sort((a, b) => a.family.localeCompare(b.family)).map((it) => it.address);
}

/** The address by which packets to `to` (a literal address) leave this machine; undefined without a route. */
export async function addressFacing(to: string): Promise<string | undefined> {
	if (!isAddress(to)) return undefined;
	const { promise, resolve } = Promise.withResolvers<string | undefined>();
	const socket = createSocket(to.includes(":") ? "udp6" : "udp4");
	socket.on("error", () => resolve(undefined));
	try {
		// Of a datagram socket this chooses a route and sends nothing.
		socket.connect(9, to, () => resolve(socket.address().address));
		return await promise;
	} catch {
		return undefined;
	} finally {
		socket.close();
	}
}

/** machineAddresses, the one that faces the default route first. */
export async function addressesByRoute(): Promise<string[]> {
	const all = machineAddresses();
	const first = (await addressFacing(ANYWHERE.ipv4)) ?? (await addressFacing(ANYWHERE.ipv6));
	return first !== undefined && all.includes(first) ? [first, ...all.filter((it) => it !== first)] : all;
}
