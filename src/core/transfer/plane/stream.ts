/**
 * One receiving thread: asks for a range, takes it off the socket into a buffer that stays in the cache, hashes it
 * there and writes it to its place. Everything blocks, and everything has a limit: the connection, the head, a peer
 * that is silent or drips, bytes nobody has let pass. A connection that is cut goes on at the byte where it stopped
 * as long as each brings something. The connection is kept for the next range from the same peer.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { type BlockingSockets, BROKEN, NOTHING_YET } from "../../../platform/blocking-socket.ts";
import type { Clock } from "../../../platform/clock.ts";
import { createPartTag, type StreamingXxh64 } from "../../../platform/hash.ts";
import { endOfHead, MAX_HEAD_BYTES, readHead } from "./answer-head.ts";
import type { Performer } from "./control.ts";
import type { DataJob, Failure, JobEvent } from "./messages.ts";

export interface StreamTools {
	sockets: BlockingSockets;
	clock: Pick<Clock, "monotonicMs">;
	control: Performer;
	newXxh64: () => StreamingXxh64;
	tell: (event: JobEvent) => void;
}

export interface Stream {
	/** Returns when the job has ended; its last event says how. */
	run(job: DataJob): void;
}

/** Smaller ones were measured: the thread is woken more often, which costs more than the cache brings. */
const BLOCK_BYTES = 4 * 1024 * 1024;
/** Hashed at once, several ways: as much as stays in the fastest cache. */
const HASH_BYTES = 128 * 1024;
const TELL_BYTES = BLOCK_BYTES;
const TELL_MS = 200;
const CONNECT_MS = 5000;
/** How long a thread is blocked at most before it looks whether it is still wanted. */
const SLICE_MS = 250;
/** Cuts in one job, each after progress; a peer that cuts more often is not fast. */
const MOST_CUTS = 64;

/** Ends a job early. */
class Ended extends Error {
	readonly failure: Failure;
	readonly code: string | undefined;
	constructor(failure: Failure, message: string, code?: string) {
		super(message);
		this.failure = failure;
		this.code = code;
	}
}

/** The connection is of no use any more; another one may be. */
class Cut extends Error {}

interface Connection {
	peer: string;
	fd: number;
	/** It has brought an answer before. */
	isUsed: boolean;
}

export function createStream(tools: StreamTools): Stream {
	const buffer = new Uint8Array(BLOCK_BYTES);
	const keeper = createKeeper(tools);
	return {
		run(job) {
			try {
				receive(tools, keeper, buffer, job);
				tools.tell({ kind: "done" });
			} catch (error) {
				keeper.drop();
				const { message, code } = error as NodeJS.ErrnoException;
				if (tools.control.isCancelled()) tools.tell({ kind: "failed", failure: "cancelled", message });
				else if (error instanceof Ended)
					tools.tell({ kind: "failed", failure: error.failure, message, code: error.code });
				else if (error instanceof Cut) tools.tell({ kind: "failed", failure: "connection", message });
				else tools.tell({ kind: "failed", failure: "file", message, code });
			}
		},
	};
}

function receive(tools: StreamTools, keeper: Keeper, buffer: Uint8Array, job: DataJob): void {
	const fd = openSync(job.path, constants.O_WRONLY | constants.O_NOFOLLOW);
	try {
		const landing = createLanding(tools, fd, job);
		let cuts = 0;
		while (landing.position() < job.end) {
			const before = landing.position();
			const connection = keeper.connect(job);
			const { isUsed } = connection;
			try {
				receiveOnce(tools, keeper, connection, buffer, job, landing);
			} catch (error) {
				if (!(error instanceof Cut)) throw error;
				keeper.drop();
				stopIfCancelled(tools);
				const gained = landing.position() - before;
				// A kept connection that its peer has closed meanwhile says nothing about the peer.
				if (gained < job.progressBytes && !(isUsed && gained === 0)) throw error;
				if (++cuts > MOST_CUTS) throw new Cut(`the connection was cut ${cuts} times`);
			}
		}
		landing.flush();
	} finally {
		closeSync(fd);
	}
}

/** One answer, or as much of it as comes. @throws Cut, Ended */
function receiveOnce(
	tools: StreamTools,
	keeper: Keeper,
	connection: Connection,
	buffer: Uint8Array,
	job: DataJob,
	landing: Landing,
): void {
	const { sockets } = tools;
	const patience = createPatience(tools.clock, job);
	const asked = { start: landing.position(), end: job.end, sizeBytes: job.sizeBytes };
	const request = `${job.request}Range: bytes=${asked.start}-${asked.end - 1}\r\n\r\n`;
	if (!sockets.send(connection.fd, Buffer.from(request, "latin1"))) throw new Cut("the connection was cut");
	const { count, head } = takeHead(tools, connection.fd, buffer, patience);
	const answer = readHead(buffer.subarray(0, head), asked);
	if (answer.kind === "refused") throw new Ended("answer", `the answer is not taken: ${answer.why}`);
	connection.isUsed = true;
	const first = Math.min(count - head, asked.end - asked.start);
	const isTooMuch = count - head > first;
	landing.take(buffer.subarray(head, head + first));
	patience.restart();
	while (landing.position() < asked.end) {
		const got = sockets.receive(connection.fd, buffer.subarray(0, landing.room(buffer.byteLength)), {
			whole: true,
		});
		if (got === 0 || got === BROKEN) throw new Cut("the connection was cut");
		stopIfCancelled(tools);
		patience.came(Math.max(0, got));
		if (got === NOTHING_YET) continue;
		// The wait for permission is not the peer's.
		if (landing.take(buffer.subarray(0, got))) patience.restart();
	}
	if (isTooMuch || !answer.keepsAlive) keeper.drop();
}

/** Reads until the head is whole: how many bytes came, and how many of them are the head. */
function takeHead(
	tools: StreamTools,
	fd: number,
	buffer: Uint8Array,
	patience: Patience,
): { count: number; head: number } {
	let count = 0;
	for (;;) {
		const got = tools.sockets.receive(fd, buffer.subarray(count, MAX_HEAD_BYTES), { whole: false });
		if (got === 0 || got === BROKEN) throw new Cut("the connection was cut before its answer");
		stopIfCancelled(tools);
		// No head is so long that a part of it would be progress.
		patience.came(0);
		if (got === NOTHING_YET) continue;
		count += got;
		const head = endOfHead(buffer.subarray(0, count));
		if (head !== undefined) return { count, head };
		if (count >= MAX_HEAD_BYTES)
			throw new Ended("answer", `the head of the answer has more than ${count} bytes`);
	}
}

interface Keeper {
	/** @throws Cut, Ended */
	connect(job: DataJob): Connection;
	drop(): void;
}

/** Keeps the last connection. */
function createKeeper({ sockets, control }: StreamTools): Keeper {
	let kept: Connection | undefined;
	const drop = (): void => {
		kept = undefined;
		control.close((fd) => sockets.close(fd));
	};
	return {
		drop,
		connect(job) {
			const peer = `${job.address} ${job.port}`;
			if (kept !== undefined && (kept.peer !== peer || (kept.isUsed && sockets.hasNews(kept.fd)))) drop();
			if (kept !== undefined) return kept;
			const fd = sockets.connect(job.address, job.port, { connectMs: CONNECT_MS, sliceMs: SLICE_MS });
			if (fd === undefined) throw new Cut("no connection came about");
			control.holds(fd);
			if (control.isCancelled()) throw new Ended("cancelled", "cancelled");
			kept = { peer, fd, isUsed: false };
			return kept;
		},
	};
}

interface Landing {
	position(): number;
	/** How much may be read into a buffer of this size: a block ends where a part does. */
	room(bufferBytes: number): number;
	/** Hashes and writes; true when it had to wait until bytes were let pass. @throws Ended */
	take(bytes: Uint8Array): boolean;
	/** Tells what was not told yet. */
	flush(): void;
}

/** Where bytes go: the hash of the part, the file, and the count. */
function createLanding(tools: StreamTools, fd: number, job: DataJob): Landing {
	const { clock, control, newXxh64, tell } = tools;
	let position = job.start;
	const digestsAt = (byte: number) => ({
		xxh64: newXxh64(),
		tag:
			job.tagKey === undefined ? undefined : createPartTag(job.tagKey, Math.floor(byte / job.partSizeBytes)),
	});
	let digests = digestsAt(position);
	let untold = 0;
	let toldMs = clock.monotonicMs();

	const partEnd = (): number =>
		Math.min((Math.floor(position / job.partSizeBytes) + 1) * job.partSizeBytes, job.end);
	const flush = (): boolean => {
		if (untold === 0) return false;
		tell({ kind: "bytes", bytes: untold });
		const bytes = untold;
		untold = 0;
		const beforeMs = clock.monotonicMs();
		if (!control.received(bytes)) throw new Ended("cancelled", "cancelled");
		toldMs = clock.monotonicMs();
		return toldMs - beforeMs > 1;
	};
	const takePiece = (piece: Uint8Array): void => {
		for (let at = 0; at < piece.byteLength; at += HASH_BYTES) {
			const some = piece.subarray(at, at + HASH_BYTES);
			digests.xxh64.update(some);
			digests.tag?.update(some);
		}
		writeAll(fd, piece, position);
		const end = partEnd();
		position += piece.byteLength;
		untold += piece.byteLength;
		if (position < end) return;
		const part = Math.ceil(end / job.partSizeBytes) - 1;
		tell({ kind: "part", part, xxh64: digests.xxh64.digestHex(), tag: digests.tag?.digestHex() });
		digests = digestsAt(position);
	};
	return {
		position: () => position,
		room: (bufferBytes) => Math.min(bufferBytes, partEnd() - position),
		take(bytes) {
			for (let at = 0; at < bytes.byteLength; ) {
				const count = Math.min(bytes.byteLength - at, partEnd() - position);
				takePiece(bytes.subarray(at, at + count));
				at += count;
			}
			const isDue = untold >= TELL_BYTES || clock.monotonicMs() - toldMs >= TELL_MS;
			return isDue && flush();
		},
		flush: () => void flush(),
	};
}

interface Patience {
	/** @throws Cut when too little has come for too long */
	came(bytes: number): void;
	restart(): void;
}

function createPatience(clock: Pick<Clock, "monotonicMs">, { stallMs, progressBytes }: DataJob): Patience {
	let sinceMs = clock.monotonicMs();
	let bytes = 0;
	const restart = (): void => {
		sinceMs = clock.monotonicMs();
		bytes = 0;
	};
	return {
		restart,
		came(more) {
			bytes += more;
			if (bytes >= progressBytes) restart();
			else if (clock.monotonicMs() - sinceMs >= stallMs)
				throw new Ended("connection", `${bytes} bytes came in ${Math.round(stallMs / 1000)} s`);
		},
	};
}

function stopIfCancelled({ control }: StreamTools): void {
	if (control.isCancelled()) throw new Ended("cancelled", "cancelled");
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
	for (let written = 0; written < bytes.byteLength; ) {
		const count = writeSync(fd, bytes, written, bytes.byteLength - written, position + written);
		if (count === 0) throw new Error(`writing ${bytes.byteLength - written} bytes wrote none`);
		written += count;
	}
}
