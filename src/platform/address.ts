/**
 * What kind of network address a text is, by the IANA special-purpose registries (RFC 6890 and successors).
 * Forms of IPv6 that carry an IPv4 address (mapped, NAT64, 6to4) count as the address inside, because the
 * connection ends there. What cannot be parsed is `reserved`: an unknown form is never public.
 */

export type AddressKind =
	| "public"
	| "unspecified"
	| "loopback"
	/** Networks of an organisation: RFC 1918, shared (CGNAT) and unique local addresses. */
	| "private"
	/** 169.254/16 and fe80::/10: where clouds answer with their machines' credentials. */
	| "link_local"
	/** Metadata services of clouds outside the link-local range. */
	| "metadata"
	| "multicast"
	| "broadcast"
	| "reserved";

/** The kind of a literal address; IPv6 with or without brackets, without a zone. */
export function addressKind(text: string): AddressKind {
	const ipv4 = parseIpv4(text);
	if (ipv4 !== undefined) return ipv4Kind(ipv4);
	const ipv6 = parseIpv6(text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text);
	return ipv6 === undefined ? "reserved" : ipv6Kind(ipv6);
}

/** Whether the text is a literal address rather than a name. */
export function isAddress(text: string): boolean {
	return parseIpv4(text) !== undefined || parseIpv6(text.replace(/^\[(.*)\]$/, "$1")) !== undefined;
}

/** Whether a URL from outside may lead here; `private` only where the operator allows it, the rest never. */
export function isAllowedAddress(kind: AddressKind, { allowPrivate }: { allowPrivate: boolean }): boolean {
	return kind === "public" || (kind === "private" && allowPrivate);
}

/** First matching row wins. */
const IPV4_KINDS: readonly [prefix: string, bits: number, kind: AddressKind][] = [
	["168.63.129.16", 32, "metadata"],
	["100.100.100.200", 32, "metadata"],
	["192.0.0.192", 32, "metadata"],
	["255.255.255.255", 32, "broadcast"],
	["0.0.0.0", 8, "unspecified"],
	["10.0.0.0", 8, "private"],
	["100.64.0.0", 10, "private"],
	["127.0.0.0", 8, "loopback"],
	["169.254.0.0", 16, "link_local"],
	["172.16.0.0", 12, "private"],
	["192.0.0.0", 24, "reserved"],
	["192.0.2.0", 24, "reserved"],
	["192.31.196.0", 24, "reserved"],
	["192.52.193.0", 24, "reserved"],
	["192.88.99.0", 24, "reserved"],
	["192.168.0.0", 16, "private"],
	["192.175.48.0", 24, "reserved"],
	["198.18.0.0", 15, "reserved"],
	["198.51.100.0", 24, "reserved"],
	["203.0.113.0", 24, "reserved"],
	["224.0.0.0", 4, "multicast"],
	["240.0.0.0", 4, "reserved"],
];

/** First matching row wins; `inside` rows say at which group the IPv4 address begins. */
const IPV6_KINDS: readonly [prefix: string, bits: number, kind: AddressKind | { inside: number }][] = [
	["::", 128, "unspecified"],
	["::1", 128, "loopback"],
	["fd00:ec2::254", 128, "metadata"],
	["fd20:ce::254", 128, "metadata"],
	["fd00:42::42", 128, "metadata"],
	["::ffff:0:0", 96, { inside: 6 }],
	["64:ff9b::", 96, { inside: 6 }],
	["2002::", 16, { inside: 1 }],
	// Teredo, benchmarking, ORCHID and other protocol assignments.
	["2001::", 23, "reserved"],
	["2001:db8::", 32, "reserved"],
	["3fff::", 20, "reserved"],
	["2000::", 3, "public"],
	["fc00::", 7, "private"],
	["fe80::", 10, "link_local"],
	["ff00::", 8, "multicast"],
];

function ipv4Kind(address: number): AddressKind {
	for (const [prefix, bits, kind] of IPV4_KINDS) {
		const size = 2 ** (32 - bits);
		if (Math.floor(address / size) === Math.floor((parseIpv4(prefix) ?? 0) / size)) return kind;
	}
	return "public";
}

function ipv6Kind(groups: readonly number[]): AddressKind {
	for (const [prefix, bits, kind] of IPV6_KINDS) {
		if (!sharesBits(groups, parseIpv6(prefix) ?? [], bits)) continue;
		if (typeof kind === "string") return kind;
		return ipv4Kind((groups[kind.inside] ?? 0) * 65_536 + (groups[kind.inside + 1] ?? 0));
	}
	return "reserved";
}

function sharesBits(one: readonly number[], other: readonly number[], bits: number): boolean {
	return one.every((group, index) => {
		const size = 2 ** (16 - Math.min(16, Math.max(0, bits - index * 16)));
		return Math.floor(group / size) === Math.floor((other[index] ?? 0) / size);
	});
}

/** Only the dotted form with four decimal numbers; other spellings are for the URL parser to make this of. */
export function parseIpv4(text: string): number | undefined {
	const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
	if (match === null) return undefined;
	const bytes = match.slice(1).map(Number);
	if (bytes.some((byte) => byte > 255)) return undefined;
	return bytes.reduce((address, byte) => address * 256 + byte, 0);
}

/** The eight groups of an IPv6 address; its last two may be written as IPv4. */
export function parseIpv6(text: string): number[] | undefined {
	const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
	let body = text;
	if (tail !== null) {
		const ipv4 = parseIpv4(tail[2] ?? "");
		if (ipv4 === undefined) return undefined;
		body = `${tail[1]}${Math.floor(ipv4 / 65_536).toString(16)}:${(ipv4 % 65_536).toString(16)}`;
	}
	const halves = body.split("::");
	if (halves.length > 2) return undefined;
	const [head = [], rest] = halves.map((half) => (half === "" ? [] : half.split(":")));
	const written = head.length + (rest?.length ?? 0);
	if (rest === undefined ? written !== 8 : written > 7) return undefined;
	const groups = [...head, ...Array.from<string>({ length: 8 - written }).fill("0"), ...(rest ?? [])];
	if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
	return groups.map((group) => Number.parseInt(group, 16));
}
