/** The one reader of JSON from outside: a byte cap, strict UTF-8, bounded depth, no prototype keys, finite numbers. */
import { GswarmError, invalid } from "../schema/errors.ts";

export const MAX_JSON_BYTES = 1024 * 1024;
const MAX_DEPTH = 32;
export const FORBIDDEN_KEYS: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

/**
 * Reads a body up to `limit` bytes; what comes after is not read, and nothing when `declared` (Content-Length) is more.
 * @throws 413 body_too_large
 */
export async function readBounded(
	body: ReadableStream<Uint8Array> | null,
	limit: number,
	declared = 0,
): Promise<Uint8Array> {
	if (declared > limit) throw tooLarge(limit);
	if (body === null) return new Uint8Array();
	const pieces: Uint8Array[] = [];
	let length = 0;
	for await (const piece of body) {
		length += piece.length;
		if (length > limit) throw tooLarge(limit);
		pieces.push(piece);
	}
	return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
}

/**
 * Parses JSON of people or agents.
 * @throws 400 bad_json, forbidden_key
 */
export function parseJson(bytes: Uint8Array): unknown {
	let value: unknown;
	try {
		value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", "The body is not valid JSON in UTF-8.", {
			reason: "bad_json",
			cause,
		});
	}
	check(value, 0);
	return value;
}

function check(value: unknown, depth: number): void {
	if (depth > MAX_DEPTH) throw invalid("bad_json", `The JSON is nested deeper than ${MAX_DEPTH} levels.`);
	if (typeof value === "number" && !Number.isFinite(value)) {
		throw invalid("bad_json", "A number in the JSON is too large to be represented.");
	}
	if (typeof value !== "object" || value === null) return;
	for (const [key, inner] of Object.entries(value)) {
		if (!Array.isArray(value) && FORBIDDEN_KEYS.has(key)) {
			throw invalid("forbidden_key", `The key ${JSON.stringify(key)} is not allowed.`, { key });
		}
		check(inner, depth + 1);
	}
}

function tooLarge(limit: number): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The body is larger than ${limit} bytes.`, {
		reason: "body_too_large",
		details: { limit },
		status: 413,
	});
}
