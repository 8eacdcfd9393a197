import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	type AddressRange,
	canonicalAddress,
	countedAs,
	isInRanges,
	parseAddressRange,
} from "../../src/platform/address-range.ts";

function rangesOf(...texts: string[]): AddressRange[] {
	return texts.map((text) => {
		const range = parseAddressRange(text);
		if (range === undefined) throw new Error(`${text} is no range`);
		return range;
	});
}

test.each([
	"",
	"proxy",
	"10.0.0",
	"10.0.0.1/33",
	"10.0.0.1/8",
	"10.0.0.0/-1",
	"10.0.0.0/08",
	"10.0.0.0/8/8",
	"10.0.0.0/ 8",
	"10.0.0.0/",
	"fd00::/129",
	"fd00::1/8",
	"::ffff:10.0.0.0/104",
	"fe80::1%eth0",
	"*",
])("%j is no range", (text) => {
	expect(parseAddressRange(text)).toBeUndefined();
});

test.each([
	["10.0.0.0/8", "10.255.255.255", true],
	["10.0.0.0/8", "11.0.0.0", false],
	["10.0.0.1", "10.0.0.1", true],
	["10.0.0.1", "10.0.0.2", false],
	["0.0.0.0/0", "255.255.255.255", true],
	["0.0.0.0/0", "::1", false],
	["::/0", "1.2.3.4", false],
	["255.255.255.255/32", "255.255.255.255", true],
	["10.0.0.1", "::ffff:10.0.0.1", true],
	["::ffff:10.0.0.1", "10.0.0.1", true],
	["fd00::/8", "fdff:1::1", true],
	["fd00::/8", "fe00::", false],
	["2001:db8::/33", "2001:db8:7fff::1", true],
	["2001:db8::/33", "2001:db8:8000::1", false],
	["::1", "0:0:0:0:0:0:0:1", true],
	["10.0.0.0/8", "10.0.0.1:80", false],
	["10.0.0.0/8", "", false],
	["10.0.0.0/8", "010.0.0.1 ", false],
])("%s holds %j: %j", (range, address, isIn) => {
	expect(isInRanges(address, rangesOf(range))).toBe(isIn);
	expect(isInRanges(address, rangesOf("192.0.2.1", range))).toBe(isIn);
	expect(isInRanges(address, [])).toBe(false);
});

test("an address is in every prefix of itself, and one with another bit within the prefix is not", () => {
	const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
	fc.assert(
		fc.property(
			groups,
			fc.integer({ min: 1, max: 128 }),
			fc.integer({ min: 0, max: 127 }),
			(all, bits, flip) => {
				const text = all.map((group) => group.toString(16)).join(":");
				const start = all.map((group, i) => {
					const kept = Math.min(16, Math.max(0, bits - i * 16));
					return (group & ~(2 ** (16 - kept) - 1) & 0xffff).toString(16);
				});
				if (start.slice(0, 6).join(":") === "0:0:0:0:0:ffff") return;
				const ranges = rangesOf(`${start.join(":")}/${bits}`);
				expect(isInRanges(text, ranges)).toBe(true);
				const other = all.map((group, i) =>
					i === Math.floor(flip / 16) ? group ^ (0x8000 >> (flip % 16)) : group,
				);
				expect(isInRanges(other.map((group) => group.toString(16)).join(":"), ranges)).toBe(flip >= bits);
			},
		),
	);
});

test.each([
	["127.0.0.1", "127.0.0.1"],
	["::ffff:10.0.0.1", "10.0.0.1"],
	["::ffff:a00:1", "10.0.0.1"],
	["[::1]", "::1"],
	["0:0:0:0:0:0:0:1", "::1"],
	["FD00:0:0:0:1:0:0:1", "fd00::1:0:0:1"],
	["2001:db8::", "2001:db8::"],
	["2001:0db8:0:0:1:0:0:0", "2001:db8:0:0:1::"],
	["1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"],
	["10::0:0", "10::"],
	["::", "::"],
	["fe80::1%eth0", undefined],
	["localhost", undefined],
	["", undefined],
])("%j is written %j", (text, spelled) => {
	expect(canonicalAddress(text)).toBe(spelled);
});

test("one spelling is read as the same address", () => {
	fc.assert(
		fc.property(fc.ipV6(), (text) => {
			const spelled = canonicalAddress(text) ?? "none";
			expect(canonicalAddress(spelled)).toBe(spelled);
			expect(isInRanges(spelled, rangesOf(text))).toBe(true);
		}),
	);
});

test("an IPv6 address is counted with its /64, an IPv4 address alone, in every spelling", () => {
	expect(countedAs("2001:db8:1:2:3:4:5:6")).toBe(countedAs("2001:db8:1:2::9"));
	expect(countedAs("2001:db8:1:2::1")).not.toBe(countedAs("2001:db8:1:3::1"));
	expect(countedAs("10.0.0.1")).toBe(countedAs("::ffff:10.0.0.1"));
	expect(countedAs("10.0.0.1")).not.toBe(countedAs("10.0.0.2"));
	expect(countedAs("nonsense")).toBe(countedAs(""));
});
