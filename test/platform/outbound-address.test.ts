import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type AddressKind, addressKind, isAddress, isAllowedAddress } from "../../src/platform/address.ts";

const KINDS: Record<AddressKind, string[]> = {
	public: [
		"8.8.8.8",
		"93.184.216.34",
		"172.15.255.255",
		"172.32.0.0",
		"100.63.255.255",
		"100.128.0.0",
		"2606:4700::1111",
		"[2a00:1450:4001:81b::200e]",
		"::ffff:8.8.8.8",
		"64:ff9b::808:808",
		"2002:0808:0808::1",
	],
	unspecified: ["0.0.0.0", "0.1.2.3", "::"],
	loopback: [
		"127.0.0.1",
		"127.255.255.254",
		"::1",
		"[::1]",
		"::ffff:7f00:1",
		"::ffff:127.0.0.1",
		"64:ff9b::7f00:1",
	],
	private: [
		"10.0.0.1",
		"172.16.0.1",
		"172.31.255.255",
		"192.168.1.1",
		"100.64.0.1",
		"fc00::1",
		"fdff::1",
		"2002:c0a8:101::",
	],
	link_local: [
		"169.254.169.254",
		"169.254.170.2",
		"fe80::1",
		"febf::1",
		"::ffff:a9fe:a9fe",
		"2002:a9fe:a9fe::",
	],
	metadata: ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"],
	multicast: ["224.0.0.1", "239.255.255.255", "ff02::1"],
	broadcast: ["255.255.255.255"],
	reserved: [
		"192.0.2.1",
		"198.18.0.1",
		"198.51.100.7",
		"203.0.113.9",
		"240.0.0.1",
		"2001:db8::1",
		"2001::1",
		"3fff::1",
		"64:ff9b:1::1",
		"::7f00:1",
		"::2",
		"fec0::1",
		"4000::1",
		"",
		"not an address",
		"1.2.3",
		"1.2.3.4.5",
		"256.1.1.1",
		"1::2::3",
		"1:2:3:4:5:6:7:8:9",
		"12345::",
		"::1.2.3.400",
		"fe80::1%eth0",
	],
};

for (const [kind, addresses] of Object.entries(KINDS)) {
	describe(`${kind} addresses`, () => {
		test.each(addresses)("%s", (address) => {
			expect(addressKind(address)).toBe(kind as AddressKind);
		});
	});
}

test("only public addresses are allowed, and private ones where the operator says so", () => {
	for (const kind of Object.keys(KINDS) as AddressKind[]) {
		expect(isAllowedAddress(kind, { allowPrivate: false })).toBe(kind === "public");
		expect(isAllowedAddress(kind, { allowPrivate: true })).toBe(kind === "public" || kind === "private");
	}
});

test("names are no addresses, literals in brackets are", () => {
	for (const name of ["localhost", "1.2.3", "example.com", "0x7f.1", ""]) expect(isAddress(name)).toBe(false);
	for (const literal of ["127.0.0.1", "::1", "[::1]"]) expect(isAddress(literal)).toBe(true);
});

test("an IPv4 address keeps its kind inside IPv6, however that is written", () => {
	fc.assert(
		fc.property(fc.ipV4(), (ipv4) => {
			const bytes = ipv4.split(".").map(Number);
			const group = (at: number) => (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16);
			const kind = addressKind(ipv4);
			expect(addressKind(`::ffff:${ipv4}`)).toBe(kind);
			expect(addressKind(`0:0:0:0:0:FFFF:${group(0)}:${group(2)}`)).toBe(kind);
			expect(addressKind(`64:ff9b::${ipv4}`)).toBe(kind);
			expect(addressKind(`2002:${group(0)}:${group(2)}::1`)).toBe(kind);
		}),
	);
});

test("any text has a kind, and only addresses are ever public", () => {
	fc.assert(
		fc.property(fc.oneof(fc.string(), fc.ipV6()), (text) => {
			if (addressKind(text) === "public") expect(isAddress(text)).toBe(true);
		}),
	);
});
