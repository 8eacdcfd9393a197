/**
 * One request of the plan, from the source into the staged file. A cut connection goes on at the byte where it
 * stopped and costs nothing as long as bytes came; a source that brings nothing several times in a row is given up.
 */
import type { Clock } from "../../platform/clock.ts";
import { closeFile, fileError, openOurs, setLength } from "../../platform/durable-file.ts";
import type { StreamingXxh64 } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Source } from "../source/source.ts";
import { byteRange, type PlannedRequest } from "./plan.ts";
import type { Meter } from "./progress.ts";
import { createRangeWriter, type RangeWriter } from "./range-writer.ts";
import { Stalled, type StallWatch } from "./stall-watch.ts";
import type { Throttle } from "./throttle.ts";

/** Of a part as its source made it, and as it came. */
export interface PartTag {
	wanted: string;
	got: string;
}

export interface Receiver {
	source: Source;
	clock: Clock;
	ids: Ids;
	meter: Meter;
	throttle: Throttle;
	stalls: StallWatch;
	newXxh64: () => StreamingXxh64;
	limits: ReceiveLimits;
	/** Absolute path of a staged file; its directory is there. */
	pathOf: (request: PlannedRequest) => string;
	onPart: (request: PlannedRequest, part: number, xxh64: string, tag?: PartTag) => Promise<void>;
	shouldSync: (request: PlannedRequest, bytes: number) => boolean;
	/** A file whose size was not told needs room up to here. @throws RESOURCE_UNAVAILABLE insufficient_space */
	onUnannounced: (request: PlannedRequest, position: number) => void;
}

export interface ReceiveLimits {
	/** Connections in a row that brought (nearly) nothing before the source is given up. */
	fruitlessTries: number;
	/** Less than this does not count as progress. */
	progressBytes: number;
	firstPauseMs: number;
	longestPauseMs: number;
	/** A source that asks for a longer pause than this gets it from the queue. */
	longestWaitS: number;
}

export const RECEIVE_LIMITS: ReceiveLimits = {
	fruitlessTries: 5,
	progressBytes: 16 * 1024,
	firstPauseMs: 250,
	longestPauseMs: 5000,
	longestWaitS: 60,
};

/** The connection ended before the range did. */
class ConnectionCut extends Error {
	/** The body said it was complete. */
	readonly ended: boolean;
	constructor(ended: boolean, cause?: unknown) {
		super(ended ? "the answer ended early" : "the connection was cut", { cause });
		this.ended = ended;
	}
}

/** @returns the number of bytes; for a file of unknown size that is what there was */
export async function receiveRequest(
	receiver: Receiver,
	request: PlannedRequest,
	signal: AbortSignal,
): Promise<number> {
	const { file } = request;
	const fd = await openOurs(receiver.pathOf(request)).catch((error: unknown) => {
		throw fileError(error, `Opening ${file.path}`);
	});
	try {
		await setLength(fd, file.sizeBytes ?? 0);
		const range =
			request.parts === undefined ? { start: 0, end: file.sizeBytes } : byteRange(file, request.parts);
		const openWriter = (): RangeWriter =>
			createRangeWriter({
				fd,
				name: file.path,
				...range,
				partSizeBytes: file.partSizeBytes,
				newXxh64: receiver.newXxh64,
				onPart: (part, xxh64) => receiver.onPart(request, part, xxh64),
				shouldSync: (bytes) => receiver.shouldSync(request, bytes),
			});
		return await receiveAll(receiver, request, fd, range, openWriter, signal);
	} finally {
		await closeFile(fd);
	}
}

async function receiveAll(
	receiver: Receiver,
	request: PlannedRequest,
	fd: number,
	range: { start: number; end: number | undefined },
	openWriter: () => RangeWriter,
	signal: AbortSignal,
): Promise<number> {
	let writer = openWriter();
	for (let fruitless = 0; ; ) {
		if (request.parts === undefined && writer.position() > 0) {
			// One whole stream cannot be joined in the middle: it comes again from its start.
			// Without a known size the first try may have brought more than this one will.
			await setLength(fd, request.file.sizeBytes ?? 0);
			receiver.meter.add(-writer.position());
			writer = openWriter();
		}
		const before = writer.position();
		try {
			await receiveOnce(receiver, request, range.end, writer, signal);
			return writer.position() - range.start;
		} catch (error) {
			signal.throwIfAborted();
			if (!isWorthATry(error)) throw error;
			const gained = writer.position() - before;
			// A stream that starts again has gained nothing by what it brought.
			const isProgress = request.parts !== undefined && gained >= receiver.limits.progressBytes;
			fruitless = isProgress ? 0 : fruitless + 1;
			if (fruitless >= receiver.limits.fruitlessTries)
				throw givenUp(request, writer.position(), range.end, error);
			await pause(receiver, fruitless, error, signal);
		}
	}
}

/** One connection. Resolves when the range is whole. */
async function receiveOnce(
	receiver: Receiver,
	request: PlannedRequest,
	end: number | undefined,
	writer: RangeWriter,
	signal: AbortSignal,
): Promise<void> {
	const { stalls, source, meter, throttle } = receiver;
	const { file } = request;
	if (end !== undefined && writer.position() >= end) return;
	using connection = connectionOf(signal);
	const startedMs = receiver.clock.monotonicMs();
	const range =
		request.parts === undefined || end === undefined ? undefined : { start: writer.position(), end };
	const opening = source.read(file.source, range, connection.signal);
	const body = await stalls.guard(opening, connection).catch((error: unknown) => {
		// A body that comes after all is not left open.
		opening.then((late) => late.cancel()).catch(() => {});
		throw error instanceof GswarmError || error instanceof Stalled ? error : new ConnectionCut(false, error);
	});
	const reader = body.getReader();
	let taken = 0;
	let wireBytes = 0;
	let brokenBy: unknown;
	try {
		for (;;) {
			const { done, value } = await stalls.guard(reader.read(), connection).catch((error: unknown) => {
				throw error instanceof Stalled || isFinal(error) ? error : new ConnectionCut(false, error);
			});
			signal.throwIfAborted();
			if (done) break;
			if (file.sizeBytes === undefined) receiver.onUnannounced(request, writer.position() + value.byteLength);
			const written = await writer.write(value);
			meter.add(written);
			taken += written;
			if (written < value.byteLength) throw tooLong(request, end);
			// A limit is on what comes over the line.
			const passed = (body.wireBytes?.() ?? taken) - wireBytes;
			wireBytes += passed;
			await throttle.pass(passed, connection.signal);
		}
	} catch (error) {
		brokenBy = error;
		throw error;
	} finally {
		const ms = receiver.clock.monotonicMs() - startedMs;
		source.measured?.(body, { wireBytes, ms, error: brokenBy });
		if (body.wireBytes !== undefined) meter.inflated(taken, wireBytes);
		// Not waited for: a source that hangs may hang here too.
		reader.cancel().catch(() => {});
	}
	if (end !== undefined && writer.position() < end) throw new ConnectionCut(true);
}

/** An abort of the transfer ends the connection, and `cut` ends this connection alone. */
function connectionOf(signal: AbortSignal): Disposable & { signal: AbortSignal; cut: () => void } {
	const controller = new AbortController();
	const cut = (): void => controller.abort(new Error("the connection is no longer wanted"));
	signal.addEventListener("abort", cut, { once: true });
	if (signal.aborted) cut();
	return {
		signal: controller.signal,
		cut,
		[Symbol.dispose]: () => signal.removeEventListener("abort", cut),
	};
}

/** Retryable, but not by asking the source again: another plan, or another moment of this machine. */
const NOT_THE_SOURCE = new Set(["range_ignored", "system_limit"]);

function isWorthATry(error: unknown): boolean {
	if (error instanceof ConnectionCut || error instanceof Stalled) return true;
	return error instanceof GswarmError && error.retryable && !NOT_THE_SOURCE.has(error.reason ?? "");
}

/** What the source said about itself stands; any other failure of a read is a cut connection. */
function isFinal(error: unknown): boolean {
	return error instanceof GswarmError;
}

async function pause(
	receiver: Receiver,
	fruitless: number,
	error: unknown,
	signal: AbortSignal,
): Promise<void> {
	const { limits, clock, ids, meter } = receiver;
	const askedS = error instanceof GswarmError ? error.retryAfterS : undefined;
	if (askedS !== undefined && askedS > limits.longestWaitS) throw error;
	if (fruitless === 0 && askedS === undefined) return;
	const backoffMs = Math.min(limits.firstPauseMs * 2 ** Math.max(0, fruitless - 1), limits.longestPauseMs);
	const ms = askedS === undefined ? backoffMs * (0.5 + ids.fraction() / 2) : askedS * 1000;
	const why = error instanceof Error ? error.message : String(error);
	meter.wait(askedS === undefined ? `the source: ${why}` : `the source: it limits us for ${askedS} s`);
	await clock.sleep(ms, signal);
	signal.throwIfAborted();
}

function givenUp(
	request: PlannedRequest,
	position: number,
	end: number | undefined,
	error: unknown,
): GswarmError {
	if (error instanceof GswarmError) return error;
	const { path } = request.file;
	const details = { file: path, bytes: position, wanted_bytes: request.file.sizeBytes ?? null };
	if (error instanceof ConnectionCut && error.ended) {
		return new GswarmError(
			"NETWORK_ERROR",
			`The source of ${path} is truncated: it ends at byte ${position}, wanted ${end}.`,
			{
				reason: "truncated_source",
				details,
				hint: "The source has to be repaired; nothing was kept.",
				cause: error,
			},
		);
	}
	const stalled = error instanceof Stalled;
	return new GswarmError(
		"NETWORK_ERROR",
		`The source of ${path} brought nothing in several tries, the last at byte ${position}: ${(error as Error).message}.`,
		{ reason: stalled ? "stalled" : "connection_lost", details, retryable: true, cause: error },
	);
}

function tooLong(request: PlannedRequest, end: number | undefined): GswarmError {
	return new GswarmError(
		"NETWORK_ERROR",
		`The source of ${request.file.path} sent more than was asked for: wanted the bytes up to ${end}.`,
		{ reason: "oversized_answer", details: { file: request.file.path } },
	);
}
