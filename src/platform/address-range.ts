/** Addresses as sets: one, or those that share a prefix; and one spelling for each, so that they can be counted. */
import { parseIpv4, parseIpv6 } from "./address.ts";

/** All addresses of one family whose first `bits` are those of `start`. */
export interface AddressRange {
	/** IPv4, or IPv6 as eight groups; an IPv4 address that is written as IPv6 is IPv4. */
	start: number | readonly number[];
	bits: number;
}

/** `10.0.0.0/8`, `fd00::/8`, or one address. Bits beyond the prefix must be zero; undefined for anything else. */
export function parseAddressRange(text: string): AddressRange | undefined {
	const [address = "", prefix, ...rest] = text.split("/");
	if (rest.length > 0 || (prefix !== undefined && !/^(0|[1-9]\d{0,2})$/.test(prefix))) return undefined;
	const start = parseAddress(address);
	if (start === undefined) return undefined;
	const width = typeof start === "number" ? 32 : 128;
	const bits = prefix === undefined ? width : Number(prefix);
	// The prefix of ::ffff:10.0.0.0/104 would be that of the other family.
	if (bits > width || (prefix !== undefined && typeof start === "number" && address.includes(":")))
		return undefined;
	const range = { start, bits };
	return same(start, firstOf(start, bits)) ? range : undefined;
}

/** Whether the literal address is in one of the ranges; what is no address is in none. */
export function isInRanges(text: string, ranges: readonly AddressRange[]): boolean {
	if (ranges.length === 0) return false;
	const address = parseAddress(text);
	if (address === undefined) return false;
	return ranges.some(
		({ start, bits }) => typeof start === typeof address && same(firstOf(address, bits), start),
	);
}

/** The address in one spelling: no brackets, IPv4 as IPv4, IPv6 in full groups; undefined when it is none. */
export function canonicalAddress(text: string): string | undefined {
	const address = parseAddress(text);
	if (address === undefined) return undefined;
	if (typeof address === "number")
		return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
	return compressed(address);
}

/** What one person is counted as: an IPv4 address, or the /64 of an IPv6 address, which one machine has whole. */
export function countedAs(text: string): string {
	const address = parseAddress(text);
	if (address === undefined) return "unknown";
	if (typeof address === "number") return String(address);
	return `${address
		.slice(0, 4)
		.map((group) => group.toString(16))
		.join(":")}::/64`;
}

function parseAddress(text: string): number | readonly number[] | undefined {
	const ipv4 = parseIpv4(text);
	if (ipv4 !== undefined) return ipv4;
	const ipv6 = parseIpv6(text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text);
	if (ipv6 === undefined) return undefined;
	const [high = 0, low = 0] = ipv6.slice(6);
	return ipv6.slice(0, 5).every((group) => group === 0) && ipv6[5] === 0xffff ? high * 65_536 + low : ipv6;
}

function firstOf(address: number | readonly number[], bits: number): number | readonly number[] {
	if (typeof address === "number") return address - (address % 2 ** (32 - bits));
	return address.map((group, index) => {
		const kept = Math.min(16, Math.max(0, bits - index * 16));
		return group - (group % 2 ** (16 - kept));
	});
}

function same(one: number | readonly number[], other: number | readonly number[]): boolean {
	if (typeof one === "number" || typeof other === "number") return one === other;
	return one.every((group, index) => group === other[index]);
}

/** RFC 5952: the longest run of at least two zero groups becomes `::`. */
function compressed(groups: readonly number[]): string {
	const text = groups.map((group) => group.toString(16)).join(":");
	const [longest] = [...text.matchAll(/\b0(:0)+\b/g)]
		.map((match) => match[0])
		.toSorted((one, other) => other.length - one.length);
	if (longest === undefined) return text;
	return text.replace(new RegExp(`(^|:)${longest}(:|$)`), "::");
}
