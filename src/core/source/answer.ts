/**
 * Checks of HTTP answers that carry a model's bytes (RFC 9110 sections 13-15): is it the range that was asked for,
 * of the file that was described, as stored. Whatever does not fit has its body dropped and throws.
 */
import { networkError } from "../../platform/network-error.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { type ErrorOptions, GswarmError } from "../../schema/errors.ts";
import type { ByteRange } from "./contract.ts";

/** What tells one state of a file from another. */
export interface Validator {
	/** As the header has it, quotes and `W/` included. */
	etag: string | undefined;
	lastModified: string | undefined;
}

export interface ExpectedBytes {
	/** In messages: the file, without secrets. */
	what: string;
	/** Undefined: the whole file in one stream. */
	range: ByteRange | undefined;
	sizeBytes: number | undefined;
	/** Of the description or of the first answer; parts that either side does not tell are not compared. */
	validator: Validator | undefined;
	/** The body is another form of these bytes: its length says nothing. */
	isCoded?: boolean;
}

export interface ContentRange {
	start: number;
	end: number;
	/** Undefined for `*`. */
	total: number | undefined;
}

/** The value of Range for a half-open range that is not empty. */
export function rangeHeader({ start, end }: ByteRange): string {
	return `bytes=${start}-${end - 1}`;
}

/** The range to send: a whole file is asked by range too, where that works. */
export function rangeToAsk(
	file: { path: string; sizeBytes: number | undefined; rangeable: boolean },
	range: ByteRange | undefined,
): ByteRange | undefined {
	const { sizeBytes } = file;
	if (file.rangeable && sizeBytes !== undefined) return range ?? { start: 0, end: sizeBytes };
	if (range === undefined || (range.start === 0 && range.end === sizeBytes)) return undefined;
	throw new Error(`${file.path} is read whole or not at all`);
}

/** `bytes 0-99/1234` as a half-open range; undefined when it is anything else. */
export function parseContentRange(header: string | null): ContentRange | undefined {
	const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,20}|\*)$/.exec(header ?? "");
	if (match === null) return undefined;
	const start = Number(match[1]);
	const end = Number(match[2]) + 1;
	const total = match[3] === "*" ? undefined : Number(match[3]);
	return end <= start || end > (total ?? Infinity) ? undefined : { start, end, total };
}

export function validatorOf(response: Response): Validator {
	return {
		etag: response.headers.get("etag") ?? undefined,
		lastModified: response.headers.get("last-modified") ?? undefined,
	};
}

/**
 * The body of an answer with status 200 or 206 after all checks.
 * @throws NETWORK_ERROR content_encoding, wrong_range; range_ignored (retryable); CONFLICT source_changed
 */
export async function checkedBody(
	response: Response,
	expected: ExpectedBytes,
): Promise<ReadableStream<Uint8Array>> {
	const problem =
		encodingProblem(response, expected) ?? changeOf(response, expected) ?? rangeProblem(response, expected);
	if (problem === undefined) return response.body ?? new Blob([]).stream();
	await response.body?.cancel();
	throw problem;
}

/** The file is not the one that was described. */
export function sourceChanged(what: string, wanted: unknown, got: unknown): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${what} changed at its source: wanted ${String(wanted)}, got ${String(got)}.`,
		{
			reason: "source_changed",
			hint: "Start the download again; it takes the file as it is now.",
		},
	);
}

/** A model's own configuration may stand in it. */
const MAX_ANSWER_DEPTH = 64;

/** At most `limitBytes` of JSON. @throws NETWORK_ERROR bad_answer, content_encoding; reset and its like (retryable) */
export async function readJson(response: Response, what: string, limitBytes: number): Promise<unknown> {
	const encoded = encodingProblem(response, { what });
	if (encoded !== undefined) throw encoded;
	const blocks: Uint8Array[] = [];
	let size = 0;
	try {
		for await (const block of response.body ?? []) {
			size += block.byteLength;
			if (size > limitBytes) throw badAnswer(`${what} answered more than ${limitBytes} bytes`);
			blocks.push(block);
		}
	} catch (error) {
		throw error instanceof GswarmError ? error : networkError(error, what);
	}
	try {
		// Numbers and names are for the schemas of who reads it.
		return parseJson(Buffer.concat(blocks), { isPassedOn: true, maxDepth: MAX_ANSWER_DEPTH });
	} catch (cause) {
		throw badAnswer(`${what} answered something that is not JSON`, cause);
	}
}

/** The source speaks another language than its protocol; asking again will not help. */
export function badAnswer(sentence: string, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `${sentence}.`, { reason: "bad_answer", cause });
}

/**
 * The error of a status that is neither success nor redirect, for any source. Its own message is not repeated:
 * it is text from outside. `nowMs` is for a Retry-After that is a date.
 */
export function statusError(response: Response, what: string, nowMs: number): GswarmError {
	const { status } = response;
	const retryAfterS = retryAfter(response.headers, nowMs);
	const options = {
		details: { status },
		...(retryAfterS === undefined ? {} : { retryAfterS }),
	} satisfies ErrorOptions;
	if (status === 429) {
		const until = retryAfterS === undefined ? "" : ` for ${retryAfterS} s`;
		return new GswarmError("NETWORK_ERROR", `${what} is limited by its source${until}.`, {
			...options,
			reason: "rate_limited",
			retryable: true,
		});
	}
	if (status >= 500 || status === 408 || status === 425) {
		return new GswarmError("NETWORK_ERROR", `The source of ${what} answered ${status}.`, {
			...options,
			reason: "source_unavailable",
			retryable: true,
		});
	}
	const [reason, said] = REFUSALS[status] ?? ["source_refused", `answered ${status}`];
	return new GswarmError("TASK_FAILED", `The source of ${what} ${said}.`, { ...options, reason });
}

/** Seconds from Retry-After, or from RateLimit (`"resolvers";r=0;t=87`) when nothing is left. */
export function retryAfter(headers: Headers, nowMs: number): number | undefined {
	const after = headers.get("retry-after")?.trim() ?? "";
	if (/^\d{1,9}$/.test(after)) return Number(after);
	const dateMs = Date.parse(after);
	if (!Number.isNaN(dateMs)) return Math.max(0, Math.ceil((dateMs - nowMs) / 1000));
	for (const policy of (headers.get("ratelimit") ?? "").split(",")) {
		const reset = /;\s*t=(\d{1,9})/.exec(policy)?.[1];
		if (/;\s*r=0(?!\d)/.test(policy) && reset !== undefined) return Number(reset);
	}
	return undefined;
}

const REFUSALS: Readonly<Record<number, readonly [reason: string, said: string]>> = {
	401: ["auth", "wants credentials (401)"],
	403: ["auth", "does not allow it (403)"],
	404: ["not_found", "does not have it (404)"],
	410: ["not_found", "no longer has it (410)"],
};

function encodingProblem(response: Response, { what }: Pick<ExpectedBytes, "what">): GswarmError | undefined {
	const encoding = response.headers.get("content-encoding") ?? "identity";
	if (encoding.toLowerCase() === "identity") return undefined;
	return new GswarmError(
		"NETWORK_ERROR",
		`The source of ${what} sent it compressed (${JSON.stringify(encoding.slice(0, 40))}), which was not asked for.`,
		{ reason: "content_encoding" },
	);
}

function changeOf(response: Response, { what, validator }: ExpectedBytes): GswarmError | undefined {
	const now = validatorOf(response);
	for (const part of ["etag", "lastModified"] as const) {
		const before = validator?.[part];
		if (before !== undefined && now[part] !== undefined && now[part] !== before) {
			return sourceChanged(what, before, now[part]);
		}
	}
	return undefined;
}

function rangeProblem(
	response: Response,
	{ what, range, sizeBytes, isCoded }: ExpectedBytes,
): GswarmError | undefined {
	const length = isCoded === true ? undefined : contentLength(response);
	const wanted = range ?? { start: 0, end: sizeBytes ?? length ?? 0 };
	if (response.status === 200) {
		if (sizeBytes !== undefined && length !== undefined && length !== sizeBytes) {
			return sourceChanged(what, `${sizeBytes} bytes`, `${length}`);
		}
		const isWhole = wanted.start === 0 && (range === undefined || wanted.end === sizeBytes);
		return isWhole
			? undefined
			: new GswarmError(
					"NETWORK_ERROR",
					`The source of ${what} sent the whole file where a range was asked.`,
					{
						reason: "range_ignored",
						retryable: true,
					},
				);
	}
	const got = parseContentRange(response.headers.get("content-range"));
	if (got?.total !== undefined && sizeBytes !== undefined && got.total !== sizeBytes) {
		return sourceChanged(what, `${sizeBytes} bytes`, `${got.total}`);
	}
	const fits = got !== undefined && got.start === wanted.start && got.end === wanted.end;
	if (response.status === 206 && fits && (length ?? got.end - got.start) === got.end - got.start)
		return undefined;
	const shown = response.headers.get("content-range")?.slice(0, 80) ?? "none";
	return new GswarmError(
		"NETWORK_ERROR",
		`The source of ${what} answered another range: wanted ${rangeHeader(wanted)}, got ${shown} (status ${response.status}).`,
		{ reason: "wrong_range" },
	);
}

/** Undefined when the length is not told. */
export function contentLength(response: Response): number | undefined {
	const header = response.headers.get("content-length");
	return header !== null && /^\d{1,20}$/.test(header) ? Number(header) : undefined;
}
