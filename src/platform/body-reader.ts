/**
 * The one reader of request bodies: bounded in bytes, and in time by the rate at which they come. A body that drips is
 * given up, so that nobody holds memory or a connection for the price of a byte now and then.
 */
import { GswarmError } from "../schema/errors.ts";
import type { Clock } from "./clock.ts";
import { SLOW_BODY_BYTES_PER_SECOND, SLOW_BODY_WINDOW_MS } from "./limits.ts";

export interface BodyReader {
	/**
	 * The whole body up to `limitBytes`; what comes after is not read, and nothing when its announced length is more.
	 * @throws 413 body_too_large; 408 slow_body; 400 body_incomplete
	 */
	read(
		request: Pick<Request, "body" | "headers" | "arrayBuffer">,
		limitBytes: number,
	): Promise<Uint8Array<ArrayBuffer>>;
}

export function createBodyReader({ clock }: { clock: Clock }): BodyReader {
	const watched = new Set<Watched>();
	let isWatching = false;

	/** One timer for all bodies, which runs only while there are some. */
	const watch = async (): Promise<void> => {
		if (isWatching) return;
		isWatching = true;
		while (watched.size > 0) {
			await clock.sleep(TICK_MS);
			for (const body of watched) {
				if (clock.monotonicMs() < body.windowEndsMs) continue;
				if (body.receivedBytes < WINDOW_BYTES) body.giveUp();
				body.receivedBytes = 0;
				body.windowEndsMs = clock.monotonicMs() + SLOW_BODY_WINDOW_MS;
			}
		}
		isWatching = false;
	};
	const watching = async <T>(giveUp: () => void, read: (body: Watched) => Promise<T>): Promise<T> => {
		const body = { windowEndsMs: clock.monotonicMs() + SLOW_BODY_WINDOW_MS, receivedBytes: 0, giveUp };
		watched.add(body);
		void watch();
		try {
			return await read(body);
		} finally {
			watched.delete(body);
		}
	};

	return {
		async read(request, limitBytes) {
			const length = request.headers.get("content-length");
			const announcedBytes = length === null ? undefined : Number(length);
			if (announcedBytes !== undefined && announcedBytes > limitBytes) throw tooLarge(limitBytes);
			try {
				if (announcedBytes !== undefined && announcedBytes <= WINDOW_BYTES) {
					// It must be there within one window anyway; that costs a tenth of reading a stream.
					const { promise: late, reject } = Promise.withResolvers<never>();
					const whole = request.arrayBuffer();
					const bytes = await watching(
						() => reject(slow()),
						() => Promise.race([whole, late]),
					);
					if (bytes.byteLength > limitBytes) throw tooLarge(limitBytes);
					return new Uint8Array(bytes);
				}
				return await readStream(request.body, limitBytes, watching);
			} catch (cause) {
				if (cause instanceof GswarmError) throw cause;
				throw new GswarmError("INVALID_REQUEST", "The body ended before it was complete.", {
					reason: "body_incomplete",
					cause,
				});
			}
		},
	};
}

/**
 * A stream up to `limitBytes`; what comes after is not read, and nothing when the announced length is more. For
 * answers of others, whose time the caller bounds.
 * @throws 413 body_too_large
 */
export async function readBounded(
	body: ReadableStream<Uint8Array> | null,
	limitBytes: number,
	announcedBytes = 0,
): Promise<Uint8Array> {
	if (announcedBytes > limitBytes) throw tooLarge(limitBytes);
	const pieces: Uint8Array[] = [];
	let sizeBytes = 0;
	for await (const piece of body ?? []) {
		sizeBytes += piece.length;
		if (sizeBytes > limitBytes) throw tooLarge(limitBytes);
		pieces.push(piece);
	}
	return Buffer.concat(pieces);
}

interface Watched {
	windowEndsMs: number;
	/** Within this window. */
	receivedBytes: number;
	giveUp: () => void;
}

const TICK_MS = 1_000;
const WINDOW_BYTES = (SLOW_BODY_BYTES_PER_SECOND * SLOW_BODY_WINDOW_MS) / 1000;

async function readStream(
	body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
	limitBytes: number,
	watching: <T>(giveUp: () => void, read: (body: Watched) => Promise<T>) => Promise<T>,
): Promise<Uint8Array<ArrayBuffer>> {
	if (body === null) return new Uint8Array();
	const reader = body.getReader();
	const pieces: Uint8Array<ArrayBuffer>[] = [];
	let isSlow = false;
	let sizeBytes = 0;
	const giveUp = (): void => {
		isSlow = true;
		// What is being read then ends, as if it were whole.
		void reader.cancel().catch(() => undefined);
	};
	return watching(giveUp, async (watched) => {
		for (;;) {
			const { done, value } = await reader.read();
			if (isSlow) throw slow();
			if (done) break;
			sizeBytes += value.length;
			watched.receivedBytes += value.length;
			if (sizeBytes > limitBytes) {
				void reader.cancel().catch(() => undefined);
				throw tooLarge(limitBytes);
			}
			pieces.push(value);
		}
		return joined(pieces);
	});
}

function joined(pieces: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
	const [first] = pieces;
	return pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
}

function tooLarge(limitBytes: number): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The body is larger than ${limitBytes} bytes.`, {
		reason: "body_too_large",
		details: { limit: limitBytes },
		status: 413,
	});
}

function slow(): GswarmError {
	const windowS = SLOW_BODY_WINDOW_MS / 1000;
	return new GswarmError(
		"INVALID_REQUEST",
		`The body came with less than ${SLOW_BODY_BYTES_PER_SECOND} bytes a second for ${windowS} s.`,
		{
			reason: "slow_body",
			status: 408,
			details: { bytes_per_second: SLOW_BODY_BYTES_PER_SECOND, window_s: windowS },
		},
	);
}
