/** How parts of models may come over a line, and the words by which two nodes agree on it. */
import { z } from "zod";

/** `zstd`: compressed wherever a sample shrinks; `auto`: only where the line is slower than compressing, too. */
export const COMPRESSIONS = ["none", "zstd", "auto"] as const;
export const compressionSchema = z.enum(COMPRESSIONS);
export type Compression = z.infer<typeof compressionSchema>;

/** Header of a request for parts: `zstd`, perhaps with the line's rate in bytes per second: `zstd; rate=12000000`. */
export const ACCEPT_CODING_HEADER = "x-gswarm-accept-coding";
/** Header of the answer, when its body is such blocks; without it the body is the bytes themselves. */
export const CODING_HEADER = "x-gswarm-coding";
export const CODING = "zstd-blocks";

/** What a receiver would take; undefined: the bytes as they are. */
export interface AcceptedCoding {
	/** As the receiver measured it; undefined: it wants compression whatever the line does. */
	rateBytesPerSecond: number | undefined;
}

export function formatAcceptCoding({ rateBytesPerSecond: rate }: AcceptedCoding): string {
	return rate === undefined ? "zstd" : `zstd; rate=${Math.max(1, Math.round(rate))}`;
}

/** A header that is not understood asks for nothing. */
export function parseAcceptCoding(header: string | null): AcceptedCoding | undefined {
	const match = /^zstd(?:; ?rate=([1-9]\d{0,14}))?$/.exec(header ?? "");
	if (match === null) return undefined;
	return { rateBytesPerSecond: match[1] === undefined ? undefined : Number(match[1]) };
}

/** A line is not faster than what one end lets through. */
export function withLimit(
	asked: AcceptedCoding | undefined,
	limitBytesPerSecond: number,
): AcceptedCoding | undefined {
	if (asked?.rateBytesPerSecond === undefined) return asked;
	return { rateBytesPerSecond: Math.min(asked.rateBytesPerSecond, limitBytesPerSecond) };
}
