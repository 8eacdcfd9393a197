/**
 * A request that the data process receives. It is a faster way for what the portable receiver can do as well, so
 * whatever it does not manage is left to that one, from the last whole part on: it tries again, waits, and says what
 * is wrong. What may be fast: parts from a peer over plain HTTP, of a file that is worth it.
 */
import { closeFile, fileError, openOurs, setLength, syncPath } from "../../platform/durable-file.ts";
import type { Log } from "../../platform/log.ts";
import type { PeerTags, PlainPeer } from "../source/source.ts";
import type { DataOutcome, DataPlane } from "./plane/data-process.ts";
import { byteRange, type PlannedRequest, requestFor } from "./plan.ts";
import type { Receiver } from "./receive.ts";

export interface FastPlaneInput {
	plane: DataPlane;
	log: Log;
	transferId: string;
	/** A part whose sum is not that of the manifest is fetched again, so what is told here is checked. */
	receiver: Receiver;
	/** Receives what the fast plane did not. */
	portable: (request: PlannedRequest) => Promise<unknown>;
	stallMs: number;
	/** A limit on the rate is in force: blocks as large as here would pass it by jerks, and speed is not what is wanted. */
	isLimited: () => boolean;
}

export interface FastPlane {
	/** Whether this request goes this way. */
	takes(request: PlannedRequest): boolean;
	receive(request: PlannedRequest, signal: AbortSignal): Promise<void>;
}

/** Below it the start of a process and its threads costs more than they bring. */
export const SMALLEST_FILE_BYTES = 32 * 1024 * 1024;
/** Requests in a row that the fast plane had to leave to the other; then it is left alone for the rest. */
const MOST_FAILURES = 3;
/** How often one request begins anew after the data process has ended under it. */
const MOST_CRASHES = 3;

export function createFastPlane(input: FastPlaneInput): FastPlane {
	const { plane, receiver } = input;
	let failures = 0;
	const peerOf = ({ file }: PlannedRequest): PlainPeer | undefined =>
		receiver.source.plainPeer?.(file.source);
	return {
		takes: (request) =>
			request.parts !== undefined &&
			(request.file.sizeBytes ?? 0) >= SMALLEST_FILE_BYTES &&
			request.file.source.parts !== undefined &&
			failures < MOST_FAILURES &&
			plane.isUsable() &&
			!input.isLimited() &&
			peerOf(request) !== undefined,
		async receive(request, signal) {
			const peer = peerOf(request);
			if (peer === undefined || request.parts === undefined) {
				// The source has another way by now.
				receiver.meter.via("portable");
				await input.portable(request);
				return;
			}
			await prepare(receiver, request);
			let rest: PlannedRequest | undefined = request;
			for (let crashes = 0; rest !== undefined; ) {
				receiver.meter.via("fast");
				const { outcome, missing } = await receiveOnce(input, rest, peer, signal);
				signal.throwIfAborted();
				rest = missing;
				if (outcome.kind === "done") failures = 0;
				if (outcome.kind === "failed" && outcome.failure === "file") throw writeError(outcome, request);
				if (rest === undefined) return;
				if (outcome.kind === "crashed" && ++crashes <= MOST_CRASHES && plane.isUsable()) continue;
				failures++;
				input.log.warn("transfer.fast_plane_left", {
					transfer_id: input.transferId,
					file: request.file.path,
					why: outcome.kind === "failed" ? outcome.message : outcome.kind,
				});
				receiver.meter.via("portable");
				await input.portable(rest);
				return;
			}
		},
	};
}

/** One job of the data process; what is missing afterwards begins with a part. */
async function receiveOnce(
	input: FastPlaneInput,
	request: PlannedRequest,
	{ address, port, request: text, tags, used }: PlainPeer,
	signal: AbortSignal,
): Promise<{ outcome: DataOutcome; missing: PlannedRequest | undefined }> {
	const { file, parts } = request;
	if (parts === undefined) throw new Error("only parts are fast");
	const { plane, receiver, stallMs } = input;
	const { meter, throttle } = receiver;
	const path = receiver.pathOf(request);
	const range = byteRange(file, parts);
	const stop = new AbortController();
	const both = AbortSignal.any([signal, stop.signal]);
	let next = parts.first;
	let counted = 0;
	let rows = Promise.resolve();
	let failure: { error: unknown } | undefined;
	const passing = new Set<Promise<void>>();
	const told = tags === undefined ? undefined : askTags(input, request, tags, both);
	const land = async (
		part: number,
		digests: { xxh64: string; tag: string | undefined },
		bytes: number,
	): Promise<void> => {
		if (failure !== undefined) return;
		try {
			if (receiver.shouldSync(request, bytes)) await syncPath(path);
			const wanted = (await told)?.[part - parts.first];
			const tag = wanted === undefined ? undefined : { wanted, got: digests.tag ?? "" };
			await receiver.onPart(request, part, digests.xxh64, tag);
		} catch (error) {
			failure = { error };
			stop.abort();
		}
	};
	const job = {
		...range,
		address,
		port,
		request: text,
		path,
		stallMs,
		sizeBytes: file.sizeBytes ?? 0,
		partSizeBytes: file.partSizeBytes,
		progressBytes: receiver.limits.progressBytes,
		tagKey: tags?.key,
	};
	const startedMs = receiver.clock.monotonicMs();
	const brought = used?.(range);
	const outcome = await plane.receive(
		job,
		{
			onBytes(bytes) {
				counted += bytes;
				meter.add(bytes);
				const passed = throttle.pass(bytes, both);
				passing.add(passed);
				return passed.finally(() => passing.delete(passed));
			},
			onPart(part, xxh64, tag) {
				// Anything but the next part would be a mistake of the process; what it skips is fetched again.
				if (part !== next || part >= parts.end) return;
				next++;
				const { start, end } = byteRange(file, { first: part, end: part + 1 });
				rows = rows.then(() => land(part, { xxh64, tag }, end - start));
			},
		},
		both,
	);
	const ms = receiver.clock.monotonicMs() - startedMs;
	const broken = outcome.kind === "failed" && outcome.failure !== "file" && !both.aborted;
	brought?.({ wireBytes: counted, ms, error: broken ? new Error(outcome.message) : undefined });
	// A limit that came meanwhile holds for the last bytes too.
	await Promise.all([rows, ...passing]);
	if (failure !== undefined) throw failure.error;
	const kept = byteRange(file, { first: parts.first, end: next });
	meter.add((next === parts.first ? 0 : kept.end - kept.start) - counted);
	return {
		outcome,
		missing: next < parts.end ? requestFor(file, { first: next, end: parts.end }) : undefined,
	};
}

/** Undefined where they do not come: these parts are then of a file whose sha256 counts. */
async function askTags(
	{ receiver, log, transferId }: FastPlaneInput,
	{ file, parts }: PlannedRequest,
	{ ask }: PeerTags,
	signal: AbortSignal,
): Promise<readonly string[] | undefined> {
	if (parts === undefined) throw new Error("only parts have tags");
	const stop = new AbortController();
	const connection = { signal: AbortSignal.any([signal, stop.signal]), cut: () => stop.abort() };
	try {
		return await receiver.stalls.guard(ask(parts, connection.signal), connection);
	} catch (error) {
		if (!signal.aborted) log.warn("transfer.no_tags", { transfer_id: transferId, file: file.path, error });
		return undefined;
	}
}

async function prepare(receiver: Receiver, request: PlannedRequest): Promise<void> {
	try {
		const fd = await openOurs(receiver.pathOf(request));
		try {
			await setLength(fd, request.file.sizeBytes ?? 0);
		} finally {
			await closeFile(fd);
		}
	} catch (error) {
		throw fileError(error, `Opening ${request.file.path}`);
	}
}

function writeError(
	{ message, code }: Extract<DataOutcome, { kind: "failed" }>,
	{ file }: PlannedRequest,
): unknown {
	return fileError(Object.assign(new Error(message), { code }), `Writing ${file.path}`);
}
