/**
 * Tokens `gsw_<kind>_<id8>_<secret32>_<crc6>`: the id finds the row, the secret is compared by hash in constant
 * time, the checksum tells a mistyped token from a wrong one without a look-up.
 */
import { timingSafeEqual } from "node:crypto";
import { sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";

export type TokenKind = "admin" | "node" | "join" | "user";

export interface Token {
	kind: TokenKind;
	id: string;
	secret: string;
}

const FORM = /^gsw_(admin|node|join|user)_([0-9a-z]{8})_([0-9A-Za-z]{32})_([0-9A-Za-z]{6})$/;
const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** Makes a token of about 190 bits. */
export function makeToken(ids: Ids, kind: TokenKind): Token {
	return { kind, id: ids.short(8), secret: ids.secret(32) };
}

export function formatToken({ kind, id, secret }: Token): string {
	const body = `gsw_${kind}_${id}_${secret}`;
	return `${body}_${checksum(body)}`;
}

/** The token, or undefined for anything that is not one. */
export function parseToken(text: string): Token | undefined {
	const match = FORM.exec(text);
	if (match === null) return undefined;
	const [, kind, id, secret, crc] = match;
	if (kind === undefined || id === undefined || secret === undefined) return undefined;
	return checksum(text.slice(0, -7)) === crc ? { kind: kind as TokenKind, id, secret } : undefined;
}

/** What is stored of a secret. */
export function secretHash(secret: string): string {
	return sha256Hex(secret);
}

/** Whether the secret has this hash, in time that does not depend on where they differ. */
export function secretMatches(secret: string, hash: string): boolean {
	const got = Buffer.from(secretHash(secret));
	const wanted = Buffer.from(hash);
	return got.length === wanted.length && timingSafeEqual(got, wanted);
}

/** CRC-32 as six base-62 digits. */
function checksum(text: string): string {
	let value = Bun.hash.crc32(text);
	let digits = "";
	for (let i = 0; i < 6; i++) {
		digits = BASE62.charAt(value % 62) + digits;
		value = Math.floor(value / 62);
	}
	return digits;
}
