/**
 * One run of a transfer, from what is there already to a verified tree in staging: requests in lanes, files verified
 * as soon as they are whole, what does not match fetched again within limits.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import { closeFile, fileError, openOurs, setLength, syncPath } from "../../platform/durable-file.ts";
import type { StreamingXxh64 } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { joinSafe } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import { type ManifestFile, partSizeBytes } from "../../schema/manifest.ts";
import type { Source, SourceDescription } from "../source/source.ts";
import type { Reservation, Storage } from "../storage/storage.ts";
import { createFastPlane, SMALLEST_FILE_BYTES } from "./fast-plane.ts";
import type { Bandwidth } from "./bandwidth.ts";
import { type BundleInput, planBundles, receiveBundle } from "./bundle.ts";
import { createFollower } from "./follower.ts";
import { createIntake } from "./intake.ts";
import type { JournalWriter } from "./journal.ts";
import { type Ledger, loadLedger, recheckParts } from "./ledger.ts";
import {
	byteRange,
	PEER_REQUESTS,
	type PlannedFile,
	type PlannedRequest,
	planFiles,
	planRequests,
	WEB_REQUESTS,
} from "./plan.ts";
import type { Meter, TransferPhase } from "./progress.ts";
import { type ReceiveLimits, type Receiver, receiveRequest } from "./receive.ts";
import type { DataPlane } from "./plane/data-process.ts";
import { takeTwins } from "./twins.ts";
import { createStallWatch } from "./stall-watch.ts";
import type { TagCollection } from "./tags.ts";
import { SWARM_STREAMS, type Swarm, type SwarmSession } from "./swarm.ts";
import { unpackModel } from "./unpack.ts";
import { createWorkQueue } from "./work-queue.ts";

export interface RunTools {
	/** Of all transfers that this node receives. */
	bandwidth: Bandwidth;
	db: Database;
	storage: Storage;
	io: IoPool;
	clock: Clock;
	ids: Ids;
	log: Log;
	writes: JournalWriter;
	newXxh64: () => StreamingXxh64;
	limits: TransferLimits;
	/** Undefined: the agent receives everything itself. */
	plane?: DataPlane | undefined;
}

export interface TransferLimits extends ReceiveLimits {
	/** A read that brings nothing for so long is ended. */
	stallMs: number;
	/** How often a part may come with the wrong digest. */
	partTries: number;
	/** Bytes of a file that may wait in memory of the system before they are brought to the device. */
	syncBytes: number;
	/** Journal rows that may wait for their commit. */
	rowsWaiting: number;
}

export interface RunInput {
	transferId: string;
	tier: string;
	source: Source;
	description: SourceDescription;
	/** The source does not serve ranges, whatever it said. */
	wholeFiles: boolean;
	/** The rows were written before another boot of the machine. */
	recheck: boolean;
	reservation: Reservation;
	/** What was reserved at first. */
	roomBytes: number;
	verifyChecksum: boolean | undefined;
	trustPartDigests: boolean;
	bandwidthLimit: number | undefined;
	streams: number | undefined;
	receivingPhase: TransferPhase;
	meter: Meter;
	/** Undefined: nobody will receive from here without TLS. */
	tagging?: TagCollection | undefined;
	/** Others receive the same; the source is the swarm's. */
	swarm?: Swarm | undefined;
	signal: AbortSignal;
}

/** The source answered a range with the whole file; its files have to come as one stream each. */
export class RangeIgnored extends Error {
	constructor(cause: unknown) {
		super("the source ignores ranges", { cause });
	}
}

/** One part each: what has come whole is given on. */
const SWARM_REQUESTS = { streams: SWARM_STREAMS, smallestBytes: 1, largestBytes: 1 };
/** One is on the way while the other is written. */
const BUNDLE_LANES = 2;
const FOLLOWED_REQUEST_BYTES = 64 * 1024 * 1024;
const UNANNOUNCED_STEP_BYTES = 8 * 1024 * 1024;

/** Fetches what is missing and verifies everything; resolves to the manifest's files. Nothing is published. */
export async function receiveModel(tools: RunTools, input: RunInput): Promise<ManifestFile[]> {
	const { storage, io } = tools;
	const { transferId, tier, description } = input;
	const { archive } = description;
	const stagingPath = storage.stagingPath(tier, transferId);
	const root = archive === undefined ? stagingPath : storage.scratchPath(tier, transferId);
	const files = planFiles(description, input);
	const pathOf = (file: PlannedFile): string =>
		archive === undefined ? joinSafe(root, file.path) : join(root, "archive");
	const ledger = loadLedger(tools, { transferId, files, pathOf });
	if (input.recheck) {
		await recheckParts(tools, ledger, { transferId, files, pathOf }, input.signal);
		await tools.writes.setBoot({ transferId, bootId: storage.bootId ?? null });
	}
	input.meter.begin(ledger.bytes(), description.totalBytes);
	if (archive === undefined) await takeTwins(tools, input, { files, ledger, pathOf });
	await makeFiles(files, ledger, pathOf);
	await fetchAndVerify(tools, input, files, ledger, pathOf);
	if (archive !== undefined) {
		const maxBytes = storage.usage(tier).available + description.totalBytes;
		return unpackModel(
			io,
			{ path: join(root, "archive"), kind: archive, targetDirectory: stagingPath, maxBytes },
			input.signal,
		);
	}
	return files.map((file) => manifestFile(file, ledger));
}

/** Directories, and files without bytes, which no request would make. */
async function makeFiles(
	files: readonly PlannedFile[],
	ledger: Ledger,
	pathOf: (file: PlannedFile) => string,
): Promise<void> {
	const made = new Set<string>();
	try {
		for (const file of files) {
			const directory = dirname(pathOf(file));
			if (!made.has(directory)) await mkdir(directory, { recursive: true, mode: 0o700 });
			made.add(directory);
			if (file.sizeBytes === 0 && ledger.verified(file) === undefined) await makeFile(pathOf(file), 0);
		}
	} catch (error) {
		throw fileError(error, "Making the staged files");
	}
}

async function fetchAndVerify(
	tools: RunTools,
	input: RunInput,
	files: readonly PlannedFile[],
	ledger: Ledger,
	pathOf: (file: PlannedFile) => string,
): Promise<void> {
	const { clock, limits, storage } = tools;
	const { meter, source } = input;
	const stop = new AbortController();
	const signal = AbortSignal.any([input.signal, stop.signal]);
	const sealed = files.every((file) => file.source.parts !== undefined);
	const base = sealed ? PEER_REQUESTS : WEB_REQUESTS;
	const streams = input.streams ?? base.streams;
	// Short requests keep the streams close to each other, so that the digests of whole files can follow them.
	const isFollowed = !(sealed && input.trustPartDigests);
	const largestBytes = isFollowed ? Math.min(base.largestBytes, FOLLOWED_REQUEST_BYTES) : base.largestBytes;
	const requestLimits = input.swarm === undefined ? { ...base, streams, largestBytes } : SWARM_REQUESTS;
	let others: SwarmSession | undefined;
	let bundlesLeft = 0;
	const work = createWorkQueue<PlannedRequest>({
		onFailure: () => stop.abort(),
		onIdle: () => {
			if (bundlesLeft === 0) meter.enter("verifying");
		},
		take: (requests) => (others === undefined ? 0 : others.take(requests)),
	});
	const { description } = input;
	const { stallMs } = limits;
	const poke = (): void => work.poke();
	others = await input.swarm?.begin({ description, files, ledger, pathOf, meter, poke, stallMs, signal });
	const add = (...requests: readonly PlannedRequest[]): void => {
		if (requests.length > 0) meter.enter(input.receivingPhase);
		others?.wanted(requests);
		work.add(...requests);
	};
	const missing = (...some: readonly PlannedFile[]) => planRequests(some, ledger.isThere, requestLimits);
	const { isThere } = ledger;
	const { tagging } = input;
	const tagKeyOf = ({ path, sizeBytes = 0 }: PlannedFile): string | undefined =>
		sizeBytes < SMALLEST_FILE_BYTES ? undefined : tagging?.keyOf(path);
	using follower = isFollowed ? createFollower({ ...tools, isThere, pathOf, tagKeyOf, signal }) : undefined;
	const intake = createIntake({
		...tools,
		...input,
		...limits,
		ledger,
		follower,
		tagging,
		tagKeyOf,
		others,
		work,
		fetchAgain: add,
		missing,
		pathOf,
		signal,
	});
	const onQuiet = (quietMs: number): void =>
		meter.wait(`the source: nothing has come for ${Math.round(quietMs / 1000)} s`);
	await using stalls = createStallWatch({ clock, onQuiet }, limits.stallMs);
	using room = new DisposableStack();
	using pace = tools.bandwidth.join(input.transferId, input.bandwidthLimit);
	const receiver: Receiver = {
		...tools,
		source,
		meter,
		stalls,
		throttle: pace,
		pathOf: ({ file }) => pathOf(file),
		onPart: ({ file }, part, xxh64, tag) => intake.part(file, part, xxh64, tag),
		shouldSync: syncRule(storage.tier(input.tier).durable, limits.syncBytes),
		onUnannounced: unannouncedRoom(() => room.use(storage.reserve(input.tier, UNANNOUNCED_STEP_BYTES))),
	};
	const portable = (request: PlannedRequest): Promise<number> =>
		receiveRequest(receiver, request, signal).catch((error: unknown) => {
			const ignored =
				error instanceof GswarmError && error.reason === "range_ignored" && request.parts !== undefined;
			throw ignored ? new RangeIgnored(error) : error;
		});
	const fast =
		tools.plane &&
		createFastPlane({
			plane: tools.plane,
			log: tools.log,
			transferId: input.transferId,
			receiver,
			portable,
			stallMs: limits.stallMs,
			isLimited: () => pace.isLimited(),
		});
	const open = files.filter((file) => ledger.verified(file) === undefined);
	for (const file of open) {
		// All there, but the run before ended before it was verified; also a file without bytes.
		if (file.partSizeBytes > 0 && ledger.parts(file).size === file.partCount)
			intake.whole(file, file.sizeBytes ?? 0);
		else if (ledger.parts(file).size > 0) follower?.landed(file);
	}
	const bundled = source.readBundle !== undefined && input.swarm === undefined && sealed;
	const { bundles, rest } = bundled
		? planBundles(open, (file) => ledger.parts(file).size === 0)
		: { bundles: [], rest: open };
	bundlesLeft = bundles.length;
	const bundle: BundleInput = {
		io: tools.io,
		log: tools.log,
		transferId: input.transferId,
		receiver,
		pathOf,
		trustPartDigests: input.trustPartDigests,
		onFiles(right) {
			work.track(ledger.sealedFilesLanded(right));
			input.reservation.shrinkTo(input.roomBytes - meter.done());
		},
		onRest: (some) => add(...missing(...some)),
	};
	if (bundlesLeft > 0) meter.enter(input.receivingPhase);
	const waiting = bundles.values();
	for (let lane = 0; lane < Math.min(BUNDLE_LANES, bundles.length); lane++) {
		work.track(
			(async () => {
				for (const some of waiting) {
					await receiveBundle(bundle, some, signal);
					bundlesLeft--;
				}
			})(),
		);
	}
	add(...missing(...rest));
	await work.run(requestLimits.streams, async (request) => {
		const { file, parts } = request;
		const here = file.source.parts === undefined ? undefined : source.localPath?.(file.source);
		if (parts !== undefined && here !== undefined) {
			await copyLocally(tools, receiver, request, here, signal);
			return;
		}
		if (fast?.takes(request) === true) {
			await fast.receive(request, signal);
			return;
		}
		meter.via("portable");
		const bytes = await portable(request);
		if (parts === undefined) intake.whole(file, bytes);
	});
	signal.throwIfAborted();
}

/** Brings a file's bytes to the device now and then, so that a power cut loses little and a stop waits little. */
function syncRule(durable: boolean, everyBytes: number): Receiver["shouldSync"] {
	const unsynced = new Map<number, number>();
	return ({ file }, bytes) => {
		const waiting = (unsynced.get(file.index) ?? 0) + bytes;
		const now = durable && waiting >= everyBytes;
		unsynced.set(file.index, now ? 0 : waiting);
		return now;
	};
}

/** Reserves in steps what nobody announced: files whose size the source did not tell. */
function unannouncedRoom(reserveStep: () => void): Receiver["onUnannounced"] {
	const positions = new Map<number, number>();
	let reserved = 0;
	return ({ file }, position) => {
		positions.set(file.index, position);
		const bytes = [...positions.values()].reduce((sum, one) => sum + one, 0);
		for (; bytes > reserved; reserved += UNANNOUNCED_STEP_BYTES) reserveStep();
	};
}

/** A sealed copy on this machine: an io thread reads and writes, the parts are compared like those from a peer. */
async function copyLocally(
	{ io }: Pick<RunTools, "io">,
	{ meter, onPart, pathOf, shouldSync }: Receiver,
	request: PlannedRequest,
	from: string,
	signal: AbortSignal,
): Promise<void> {
	const { file, parts } = request;
	if (parts === undefined) throw new Error("only parts are copied");
	const to = pathOf(request);
	const { start, end } = byteRange(file, parts);
	let counted = 0;
	const count = (bytes: number): void => {
		meter.add(bytes - counted);
		counted = bytes;
	};
	try {
		await makeFile(to, file.sizeBytes ?? 0);
		const digests = await io.copyRange(
			{ from, to, start, end, partSizeBytes: file.partSizeBytes },
			signal,
			count,
		);
		count(end - start);
		if (shouldSync(request, end - start)) await syncPath(to);
		for (const [at, xxh64] of digests.entries()) await onPart(request, parts.first + at, xxh64);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code !== "SHORT_FILE" && code !== "ENOENT") throw fileError(error, `Copying ${file.path}`);
		throw new GswarmError(
			"TASK_FAILED",
			`The source copy is damaged: ${file.path} is shorter than its manifest says.`,
			{
				reason: "truncated_source",
				details: { file: file.path },
				hint: "Download the model again, or copy it from another node.",
				cause: error,
			},
		);
	}
}

async function makeFile(path: string, sizeBytes: number): Promise<void> {
	const fd = await openOurs(path);
	try {
		await setLength(fd, sizeBytes);
	} finally {
		await closeFile(fd);
	}
}

function manifestFile(file: PlannedFile, ledger: Ledger): ManifestFile {
	const row = ledger.verified(file);
	if (row === undefined) throw new Error(`${file.path} was not verified`);
	return {
		path: file.path,
		size_bytes: row.sizeBytes,
		sha256: row.sha256,
		part_size_bytes: partSizeBytes(row.sizeBytes),
		xxh64: row.xxh64,
	};
}
