import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	formatToken,
	makeToken,
	parseToken,
	secretHash,
	secretMatches,
	type TokenKind,
} from "../../src/core/identity/token.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { systemIds } from "../../src/platform/ids.ts";

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

test("a token is gsw_<kind>_<8>_<32>_<6>, and is parsed to what it was made of", () => {
	for (const kind of ["admin", "node", "join", "user"] as const) {
		const token = makeToken(systemIds, kind);
		const text = formatToken(token);
		expect(text).toMatch(new RegExp(`^gsw_${kind}_[0-9a-z]{8}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}$`));
		expect(parseToken(text)).toEqual(token);
	}
});

test("two tokens never share their id or secret", () => {
	const tokens = Array.from({ length: 500 }, () => makeToken(systemIds, "admin"));
	expect(new Set(tokens.map((it) => it.id)).size).toBe(500);
	expect(new Set(tokens.map((it) => it.secret)).size).toBe(500);
});

test("one mistyped character anywhere is found by the checksum", () => {
	const text = formatToken(makeToken(systemIds, "admin"));
	fc.assert(
		fc.property(fc.nat(text.length - 1), fc.nat(61), (at, digit) => {
			const changed = text.slice(0, at) + BASE62.charAt(digit) + text.slice(at + 1);
			fc.pre(changed !== text);
			expect(parseToken(changed)).toBeUndefined();
		}),
	);
});

test.each([
	["nothing", ""],
	[
		"another kind, with a right checksum",
		formatToken({ ...makeToken(systemIds, "admin"), kind: "root" as TokenKind }),
	],
	["a shorter secret", formatToken({ ...makeToken(systemIds, "admin"), secret: "a".repeat(31) })],
	["a longer id", formatToken({ ...makeToken(systemIds, "admin"), id: "a".repeat(9) })],
	["an id with capitals", formatToken({ ...makeToken(systemIds, "admin"), id: "ABCDEFGH" })],
	["a line break at the end", `${formatToken(makeToken(systemIds, "admin"))}\n`],
	["a space before", ` ${formatToken(makeToken(systemIds, "admin"))}`],
])("%s is not a token", (_what, text) => {
	expect(parseToken(text)).toBeUndefined();
});

test("a secret is known by its sha256 alone", () => {
	const secret = systemIds.secret(32);
	expect(secretHash(secret)).toBe(sha256Hex(secret));
	expect(secretMatches(secret, secretHash(secret))).toBe(true);
	expect(secretMatches(`${secret}x`, secretHash(secret))).toBe(false);
	expect(secretMatches(secret, secret)).toBe(false);
	expect(secretMatches(secret, "")).toBe(false);
	expect(secretMatches(secret, secretHash(secret).slice(1))).toBe(false);
});
