/**
 * The head of a peer's answer to a ranged GET (RFC 9112, sections 4 and 5), for a receiver that reads the socket
 * itself. Of all that HTTP allows exactly one answer is taken: 206, the range that was asked for, its length told
 * beforehand. Everything else is left to the portable receiver, which also says what is wrong with it.
 */

export interface AskedRange {
	start: number;
	end: number;
	/** Of the whole file. */
	sizeBytes: number;
}

export type Head =
	| { kind: "range"; keepsAlive: boolean }
	/** Why its bytes are not taken. */
	| { kind: "refused"; why: string };

/** A head that has not ended by then never will. */
export const MAX_HEAD_BYTES = 16 * 1024;
const MAX_HEADERS = 64;

/** Where the body begins: after the empty line. Undefined: more has to come. */
export function endOfHead(bytes: Uint8Array): number | undefined {
	const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf("\r\n\r\n");
	return at < 0 ? undefined : at + 4;
}

/** `bytes` are the whole head, the empty line included. */
export function readHead(bytes: Uint8Array, { start, end, sizeBytes }: AskedRange): Head {
	const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
	const [statusLine = "", ...lines] = text.slice(0, -4).split("\r\n");
	const status = STATUS_LINE.exec(statusLine)?.[1];
	if (status === undefined) return refused("its first line is not that of an answer");
	if (lines.length > MAX_HEADERS) return refused(`it has ${lines.length} headers`);
	const headers = new Map<string, string>();
	for (const line of lines) {
		const [, name = "", value = ""] = HEADER_LINE.exec(line) ?? [];
		if (name === "") return refused("one of its headers is malformed");
		const key = name.toLowerCase();
		// Two that say the same are as suspect as two that do not.
		if (headers.has(key) && SINGLE.has(key)) return refused(`it has two headers ${key}`);
		headers.set(key, value);
	}
	if (status !== "206") return refused(`its status is ${status}`);
	if (headers.has("transfer-encoding")) return refused("it comes in an encoding of unknown length");
	if ((headers.get("content-encoding") ?? "identity") !== "identity") return refused("it is compressed");
	const length = headers.get("content-length");
	if (length !== String(end - start)) return refused(`its length is ${shown(length)}, wanted ${end - start}`);
	const range = headers.get("content-range");
	const wanted = `bytes ${start}-${end - 1}/${sizeBytes}`;
	if (range !== wanted) return refused(`its range is ${shown(range)}, wanted ${wanted}`);
	return { kind: "range", keepsAlive: headers.get("connection")?.toLowerCase() !== "close" };
}

const STATUS_LINE = /^HTTP\/1\.1 (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const HEADER_LINE =
	/^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*$/;
const SINGLE = new Set([
	"content-length",
	"content-range",
	"content-encoding",
	"transfer-encoding",
	"connection",
]);

function refused(why: string): Head {
	return { kind: "refused", why };
}

function shown(value: string | undefined): string {
	return value === undefined ? "not told" : JSON.stringify(value.slice(0, 60));
}
