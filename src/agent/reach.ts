/**
 * Where this agent listens, whether that is over TLS, and by which names and addresses it may be called: by programs
 * of this machine, by people, by other agents. Loopback is the only place where plain HTTP is spoken. What the
 * machine's addresses are changes while it runs, so that nothing here is decided once and for all.
 */
import type { CertificateNames } from "../core/identity/identity.ts";
import { isAddress } from "../platform/address.ts";
import { isLoopback } from "../platform/plain-http.ts";
import { invalid } from "../schema/errors.ts";
import { urlOf } from "./http/listener.ts";

export interface Reach {
	/** The address that listeners are bound to. */
	readonly bind: string;
	readonly tls: boolean;
	/** What a certificate for this machine has to vouch for. */
	names(): CertificateNames;
	/** As they stand in a Host header, without the port. The same array until something changes. */
	hosts(): readonly string[];
	/** For programs of this machine. */
	urlHere(port: number): string;
	/** From this machine to itself, by an address that other machines could use too. */
	urlOutside(port: number): string;
	/** For other machines, and for people. */
	urlForOthers(port: number): string;
	/** What is true of the machine now. */
	update(now: Surroundings): void;
}

export interface Surroundings {
	bind: string;
	/** Of the machine's interfaces, the one that others should use first. */
	addresses: readonly string[];
}

export interface ReachOptions {
	/** TLS on loopback too. */
	tls: boolean;
	/** Names and addresses under which others reach this machine, the one to print first. */
	advertise: readonly string[];
	/** What this machine and its node are called; good for a Host header. */
	machineNames: readonly string[];
	/** Whether certificates vouch for these too: a host's do, a node has to have each name approved. */
	certifyMachineNames: boolean;
}

export function createReach(options: ReachOptions, at: Surroundings): Reach {
	const { tls, advertise, machineNames, certifyMachineNames } = options;
	let now = see(at);
	function see({ bind, addresses }: Surroundings) {
		const local = bind === "::" ? "::1" : bind === "0.0.0.0" ? "127.0.0.1" : bind;
		const own = ownAddresses(bind, addresses);
		const reachable = [...own, ...advertise];
		const hosts = [...new Set([...machineNames, ...reachable, local])].map(inUrl);
		const certified = [...new Set([...(certifyMachineNames ? machineNames : []), ...reachable])];
		return { bind, local, own, hosts, certified, tls: tls || !isLoopback(bind) };
	}
	return {
		get bind() {
			return now.bind;
		},
		get tls() {
			return now.tls;
		},
		names() {
			const known = now.certified.filter((name) => !isLoopback(name));
			return { dns: known.filter((it) => !isAddress(it)), addresses: known.filter((it) => isAddress(it)) };
		},
		hosts: () => now.hosts,
		urlHere: (port) => urlOf(now.local, port, now.tls),
		urlOutside: (port) => urlOf(now.own[0] ?? now.local, port, now.tls),
		urlForOthers(port) {
			const [first] = isLoopback(now.bind) ? [] : [...advertise, ...now.own];
			return urlOf(first ?? now.local, port, now.tls);
		},
		update(next) {
			const seen = see(next);
			if (JSON.stringify(seen) !== JSON.stringify(now)) now = seen;
		},
	};
}

/** @throws INVALID_REQUEST bad_bind */
export function checkBind(bind: string): void {
	if (bind === "localhost" || (isAddress(bind) && !bind.startsWith("["))) return;
	throw invalid(
		"bad_bind",
		`--bind ${JSON.stringify(bind.slice(0, 120))}: wanted an address of this machine.`,
		{ bind },
		"`--bind 0.0.0.0` listens on all of its addresses; a name for others to use is given with --advertise.",
	);
}

function inUrl(host: string): string {
	return host.includes(":") ? `[${host}]` : host;
}

/** The addresses of this machine at which a socket bound to `bind` is reached from outside, best first. */
function ownAddresses(bind: string, addresses: readonly string[]): readonly string[] {
	if (bind === "0.0.0.0") return addresses.filter((it) => !it.includes(":"));
	if (bind === "::") return addresses;
	return isLoopback(bind) ? [] : [bind];
}
