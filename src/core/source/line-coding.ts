/**
 * What one receiver asks of one other node about compression, and what it makes of the answers. It measures the line
 * by what comes over it, and says so with its requests; whether compressing is worth it the sender finds out, who
 * has the bytes. A sender of an earlier version does not know the question and sends the bytes as they are.
 */
import { inflatedBlocks } from "../../platform/zstd-blocks.ts";
import {
	ACCEPT_CODING_HEADER,
	CODING,
	CODING_HEADER,
	type Compression,
	formatAcceptCoding,
} from "../../schema/compression.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Brought, SourceBody } from "./contract.ts";

export interface LineCoding {
	/** For the next request. */
	headers(): Record<string, string>;
	/** The bytes of a checked answer, `limitBytes` at most. @throws NETWORK_ERROR bad_compression */
	body(response: Response, checked: ReadableStream<Uint8Array>, expected: Expected): SourceBody;
	/** What such a body brought. */
	measured(brought: Brought): void;
	/** Another way to the bytes, without compression, would be worse. */
	isPreferred(): boolean;
}

interface Expected {
	what: string;
	limitBytes: number;
	/** What the request said. */
	asked: Record<string, string>;
}

/** With `auto`, of so many requests one asks for the bytes as they are: the line may have become faster. */
const ANEW = 16;
/** A faster line is not asked: nothing compresses at such a rate. */
const FASTEST_BYTES_PER_SECOND = 1_500_000_000;
/** Of a line that was not measured yet: who sends may know of a limit. */
const UNKNOWN_RATE = 1e12;
/** Over a slower line than this one compressing is tried first where there is a choice. */
const SLOW_BYTES_PER_SECOND = 150_000_000;
/** Less says more about the distance than about the rate. */
const LEAST_MEASURED_BYTES = 256 * 1024;
/** What is measured now counts so much. */
const WEIGHT = 0.3;

/** `limitBytesPerSecond`: no more is taken anyway, so that the line is not faster for us. */
export function createLineCoding(mode: Compression, limitBytesPerSecond?: number): LineCoding {
	let rate = limitBytesPerSecond;
	let requests = 0;
	let isBroken = false;
	/** So many more times it is taken for granted that what comes does not shrink. */
	let unshrunk = 0;
	const asks = (): boolean => {
		if (mode === "none" || isBroken) return false;
		return mode === "zstd" || (rate ?? 0) < FASTEST_BYTES_PER_SECOND;
	};
	return {
		isPreferred() {
			if (!asks()) return false;
			if (mode === "zstd") return true;
			return rate !== undefined && rate < SLOW_BYTES_PER_SECOND && --unshrunk < 0;
		},
		headers() {
			if (!asks()) return {};
			if (mode === "zstd")
				return { [ACCEPT_CODING_HEADER]: formatAcceptCoding({ rateBytesPerSecond: undefined }) };
			if (++requests % ANEW === 0) return {};
			return { [ACCEPT_CODING_HEADER]: formatAcceptCoding({ rateBytesPerSecond: rate ?? UNKNOWN_RATE }) };
		},
		body(response, checked, { what, limitBytes, asked }) {
			const coding = response.headers.get(CODING_HEADER);
			if (coding === null) {
				if (ACCEPT_CODING_HEADER in asked && rate !== undefined) unshrunk = ANEW;
				return checked;
			}
			if (coding !== CODING || mode === "none") {
				checked.cancel().catch(() => {});
				throw new GswarmError(
					"NETWORK_ERROR",
					`What came of ${what} is compressed as ${JSON.stringify(coding.slice(0, 40))}, which was not asked for.`,
					{ reason: "bad_compression", retryable: true },
				);
			}
			let taken = 0;
			const bytes = inflatedBlocks(checked, { what, limitBytes, onCoded: (count) => void (taken += count) });
			return Object.assign(bytes, { wireBytes: () => taken });
		},
		measured({ wireBytes, ms, error }) {
			// What comes wrong compressed is asked for as it is.
			if (error instanceof GswarmError && error.reason === "bad_compression") isBroken = true;
			if (wireBytes < LEAST_MEASURED_BYTES) return;
			const now = (wireBytes / Math.max(1, ms)) * 1000;
			rate = rate === undefined ? now : rate + WEIGHT * (now - rate);
		},
	};
}
