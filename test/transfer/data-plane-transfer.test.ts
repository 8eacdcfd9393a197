/** Whole transfers by the data process: what is published, what is asked for, and what a bad peer or a crash costs. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerSource, type Source } from "../../src/core/source/source.ts";
import { createFastPlane } from "../../src/core/transfer/fast-plane.ts";
import {
	type PlannedFile,
	type PlannedRequest,
	planFiles,
	requestFor,
} from "../../src/core/transfer/plan.ts";
import type { DataListener, DataPlane } from "../../src/core/transfer/plane/data-process.ts";
import type { DataJob } from "../../src/core/transfer/plane/messages.ts";
import type { Receiver } from "../../src/core/transfer/receive.ts";
import type { Meter } from "../../src/core/transfer/progress.ts";
import type { TransferProgress } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { silentLog } from "../../src/platform/log.ts";
import type { GswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest, partSizeBytes } from "../../src/schema/manifest.ts";
import { openDataPlane } from "../support/data-plane.ts";
import { someBytes } from "../support/faulty-source.ts";
import { type RawPeer, type RawRequest, rangeHead, startRawPeer } from "../support/raw-peer.ts";
import { manifestOf, MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const tempPlace = tempDir();
afterAll(() => tempPlace[Symbol.dispose]());

const PART = partSizeBytes(1);
const PARTS = 5;
const WEIGHTS = someBytes((PARTS - 1) * PART + 4321, 11);
const SIZE = WEIGHTS.byteLength;
const FILES: Record<string, Uint8Array> = { "config.json": someBytes(100, 12), "model.gguf": WEIGHTS };
const MANIFEST = manifestOf(FILES);
const CONTENT_ID = sha256Hex(canonicalManifest(MANIFEST));

function sourceAt({ port }: Pick<RawPeer, "port">, host = "127.0.0.1") {
	return peerSource(
		{ clock: systemClock },
		{
			baseUrl: `http://${host}:${port}`,
			grant: "canary-grant",
			manifest: MANIFEST,
			model: MODEL,
			revision: REVISION,
		},
	);
}

/** The bytes of the file that was asked for. */
function bytesFor({ head }: RawRequest): Uint8Array {
	const [, index] = new RegExp(`^GET /parts/${CONTENT_ID}/(\\d) HTTP/1.1\r\n`).exec(head) ?? [];
	return Object.values(FILES)[Number(index)] ?? new Uint8Array();
}

const isFast = ({ head }: RawRequest): boolean => !/^User-Agent/im.test(head);

function send(request: RawRequest): void {
	const bytes = bytesFor(request);
	request.socket.write(rangeHead(request, bytes.byteLength));
	request.socket.write(bytes.subarray(request.start, request.end));
}

interface World extends AsyncDisposable {
	held: TransferStand;
	plane: DataPlane;
	peer: RawPeer;
	planes: Set<TransferProgress["plane"]>;
	copy(change?: Partial<Parameters<TransferStand["run"]>[0]>): ReturnType<TransferStand["run"]>;
	/** Of the weights, by the fast plane or not. */
	asked(): { start: number; end: number; fast: boolean }[];
	published(): void;
	isEmpty(): boolean;
}

async function world(
	answer: (request: RawRequest) => void = send,
	limits: Parameters<typeof standTransfers>[1] = {},
): Promise<World> {
	const dir = tempDir();
	const plane = openDataPlane();
	const peer = await startRawPeer(answer);
	const held = await standTransfers(dir.path, { progressBytes: 1024, ...limits }, { plane });
	const planes: World["planes"] = new Set();
	return {
		held,
		plane,
		peer,
		planes,
		copy: (change = {}) =>
			held.run({
				source: sourceAt(peer),
				streams: 4,
				onProgress: (progress) => planes.add(progress.plane),
				...change,
			}),
		asked: () =>
			peer.requests
				.filter((request) => bytesFor(request) === WEIGHTS)
				.map((request) => ({ start: request.start, end: request.end, fast: isFast(request) })),
		published() {
			const [copy] = held.stand.storage.copies();
			if (copy === undefined) throw new Error("nothing was published");
			expect(copy.content_id).toBe(CONTENT_ID);
			for (const [path, bytes] of Object.entries(FILES))
				expect(readFileSync(join(held.stand.storage.pathOf(copy), path)).equals(bytes)).toBe(true);
		},
		isEmpty: () =>
			held.stand.storage.copies().length === 0 &&
			held.stand.storage.staged().length === 0 &&
			held.transfers.known().length === 0,
		async [Symbol.asyncDispose]() {
			await held[Symbol.asyncDispose]();
			await plane[Symbol.asyncDispose]();
			await peer[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

const failure = (work: Promise<unknown>): Promise<GswarmError> =>
	work.then(
		() => {
			throw new Error("it did not fail");
		},
		(error: unknown) => error as GswarmError,
	);

test("large files come by the data process, small ones by the agent, every byte once and on the grant", async () => {
	await using all = await world();
	await all.copy();
	all.published();
	expect(all.planes).toEqual(new Set([undefined, "fast", "portable"]));
	const asked = all.asked();
	expect(asked.every(({ fast }) => fast)).toBe(true);
	expect(
		asked.toSorted((a, b) => a.start - b.start).reduce((at, { start, end }) => (start === at ? end : -1), 0),
	).toBe(SIZE);
	for (const { head } of all.peer.requests)
		expect(head.toLowerCase()).toContain("authorization: bearer canary-grant\r\n");
	expect(all.peer.requests.filter((request) => !isFast(request)).length).toBe(1);
});

test("what the data process publishes is what the agent publishes itself", async () => {
	await using fast = await world();
	await using portable = await world();
	const byProcess = await fast.copy();
	await portable.held.restart();
	const { plainPeer: _none, ...source } = sourceAt(portable.peer);
	const byAgent = await portable.copy({ source });
	portable.published();
	expect(portable.asked().some((request) => request.fast)).toBe(false);
	const same = ({ created_at: _, ...rest }: Record<string, unknown>) => rest;
	expect(same({ ...byProcess })).toMatchObject({
		content_id: byAgent.content_id,
		size_bytes: byAgent.size_bytes,
	});
});

test.each([
	["https", "https://127.0.0.1:1", false],
	["a name", "http://localhost:1", false],
	["an address", "http://10.0.0.7:8002", true],
	["an address of six", "http://[fd00::7]:8002", true],
])("only a literal address without TLS is for the data process: %s", async (_what, baseUrl, expected) => {
	const source = peerSource(
		{ clock: systemClock },
		{ baseUrl, grant: "g", manifest: MANIFEST, model: MODEL, revision: REVISION },
	);
	const [file] = (await source.describe(new AbortController().signal)).files;
	if (file === undefined) throw new Error("no file");
	expect(source.plainPeer?.(file) !== undefined).toBe(expected);
	expect(source.plainPeer?.({ ...file, path: "other" as never })).toBeUndefined();
});

test("a grant that would begin another header is not sent by a bare socket", async () => {
	const input = { baseUrl: "http://127.0.0.1:1", manifest: MANIFEST, model: MODEL, revision: REVISION };
	const source = peerSource({ clock: systemClock }, { ...input, grant: "g\r\nX-Evil: 1" });
	const [file] = (await source.describe(new AbortController().signal)).files;
	expect(file && source.plainPeer?.(file)).toBeUndefined();
});

test("a part that comes with the wrong digest is fetched again, that part alone", async () => {
	let wrong = 1;
	await using all = await world((request) => {
		const bytes = bytesFor(request);
		if (bytes !== WEIGHTS || request.start > PART || request.end <= PART || wrong-- <= 0)
			return send(request);
		const changed = Uint8Array.from(bytes.subarray(request.start, request.end));
		changed[PART - request.start + 7] = (changed[PART - request.start + 7] ?? 0) ^ 1;
		request.socket.write(rangeHead(request, SIZE));
		request.socket.write(changed);
	});
	await all.copy();
	all.published();
	const again = all.asked().filter(({ start }) => start === PART);
	expect(again).toContainEqual({ start: PART, end: 2 * PART, fast: true });
	expect(all.asked().reduce((sum, { start, end }) => sum + end - start, 0)).toBe(SIZE + PART);
});

test("a peer whose part is always wrong fails the copy, and nothing of it stays", async () => {
	await using all = await world((request) => {
		const bytes = bytesFor(request);
		request.socket.write(rangeHead(request, bytes.byteLength));
		request.socket.write(bytes === WEIGHTS ? Buffer.alloc(request.end - request.start) : bytes);
	});
	expect(await failure(all.copy())).toMatchObject({ reason: "checksum_mismatch", retryable: false });
	expect(all.isEmpty()).toBe(true);
});

test("parts that are right one by one but no file of the promised sha256 are not published", async () => {
	const lying = { ...MANIFEST, files: MANIFEST.files.map((file) => ({ ...file, sha256: "0".repeat(64) })) };
	await using all = await world((request) => {
		const bytes = Object.values(FILES)[Number(/\/(\d) HTTP/.exec(request.head)?.[1])] ?? new Uint8Array();
		request.socket.write(rangeHead(request, bytes.byteLength));
		request.socket.write(bytes.subarray(request.start, request.end));
	});
	const source = peerSource(
		{ clock: systemClock },
		{
			baseUrl: `http://127.0.0.1:${all.peer.port}`,
			grant: "g",
			manifest: lying,
			model: MODEL,
			revision: REVISION,
		},
	);
	expect(await failure(all.copy({ source }))).toMatchObject({ reason: "checksum_mismatch" });
	expect(all.isEmpty()).toBe(true);
});

test("the data process killed in the middle of a part costs that part, and no byte is wrong", async () => {
	let killed = 0;
	const kills: (() => void)[] = [];
	await using all = await world((request) => {
		if (bytesFor(request) !== WEIGHTS || killed > 0) return send(request);
		request.socket.write(rangeHead(request, SIZE));
		// One whole part and a half, or half of the only one.
		const half = Math.min(request.start + PART + PART / 2, request.end - PART / 2);
		request.socket.write(WEIGHTS.subarray(request.start, half), () => kills[0]?.());
	});
	kills.push(() => {
		const pid = all.plane.pid();
		if (killed++ === 0 && pid !== undefined) process.kill(pid, "SIGKILL");
	});
	const seen: TransferProgress[] = [];
	await all.copy({ onProgress: (progress) => seen.push(progress) });
	all.published();
	expect(killed).toBeGreaterThan(0);
	// What was thrown away is not counted twice: the count would go beyond what there is.
	expect(Math.max(...seen.map(({ bytesTotal }) => bytesTotal))).toBe(MANIFEST.total_bytes);
	expect(seen.at(-1)).toMatchObject({ phase: "done", bytesDone: MANIFEST.total_bytes });
	expect(all.asked().every(({ fast }) => fast)).toBe(true);
});

test("a data process that always dies leaves the copy to the agent", async () => {
	await using dying = openDataPlane({ mostCrashes: 2 }, { command: ["/bin/false"] });
	await using peer = await startRawPeer(send);
	using dir = tempDir();
	await using held = await standTransfers(dir.path, {}, { plane: dying });
	const planes = new Set<unknown>();
	await held.run({ source: sourceAt(peer), onProgress: ({ plane }) => planes.add(plane) });
	expect(held.stand.storage.copies()[0]?.content_id).toBe(CONTENT_ID);
	expect(planes).toContain("portable");
});

test("answers that a bare socket does not take are left to the agent, which takes them", async () => {
	await using all = await world((request) => {
		if (!isFast(request)) return send(request);
		const { start, end, socket } = request;
		const head = `HTTP/1.1 206 Partial Content\r\nContent-Range: bytes ${start}-${end - 1}/${SIZE}`;
		socket.write(`${head}\r\nTransfer-Encoding: chunked\r\n\r\n${(end - start).toString(16)}\r\n`);
		socket.write(WEIGHTS.subarray(start, end));
		socket.write("\r\n0\r\n\r\n");
	});
	await all.copy();
	all.published();
	expect(all.planes).toContain("portable");
	const fast = all.asked().filter((request) => request.fast);
	// Then it is left alone.
	expect(fast.length).toBeLessThanOrEqual(6);
	expect(
		all
			.asked()
			.filter((request) => !request.fast)
			.reduce((sum, { start, end }) => sum + end - start, 0),
	).toBe(SIZE);
});

test.each([
	["does not know the grant", "401 Unauthorized", "grant_refused"],
	["does not have the file", "404 Not Found", "not_found"],
])("a peer that %s fails as it does without the data process", async (_what, status, reason) => {
	await using all = await world(({ socket }) => {
		socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`);
	});
	expect(await failure(all.copy())).toMatchObject({ reason });
});

test("a peer that stalls in the middle of a part is left, and the rest is fetched again", async () => {
	let stalls = 1;
	await using all = await world(
		(request) => {
			if (bytesFor(request) !== WEIGHTS || request.start !== 0 || stalls-- <= 0) return send(request);
			request.socket.write(rangeHead(request, SIZE));
			request.socket.write(WEIGHTS.subarray(0, PART + 99));
		},
		{ stallMs: 1000 },
	);
	await all.copy();
	all.published();
	// The whole part that came before is not asked for again.
	expect(all.asked().filter(({ start }) => start === 0).length).toBe(1);
});

test("a cancel in the middle ends at once, leaves nothing, and closes the connections", async () => {
	await using all = await world((request) => {
		if (bytesFor(request) !== WEIGHTS) return send(request);
		request.socket.write(rangeHead(request, SIZE));
		request.socket.write(WEIGHTS.subarray(request.start, request.start + 1000));
	});
	const stop = new AbortController();
	const work = failure(all.copy({ signal: stop.signal }));
	await until("bytes have been asked for", () => all.asked().length > 0);
	stop.abort();
	expect(await work).toMatchObject({ reason: "cancelled" });
	expect(all.isEmpty()).toBe(true);
	await until("the connections to it are closed", () => all.peer.open() <= 1);
});

test("after a stop only what has no row is asked for again", async () => {
	let hold = true;
	await using all = await world((request) => {
		if (bytesFor(request) !== WEIGHTS || !hold || request.start === 0) return send(request);
		request.socket.write(rangeHead(request, SIZE));
		request.socket.write(WEIGHTS.subarray(request.start, request.end - 1));
	});
	const work = failure(all.copy());
	const rows = (): { at: number }[] =>
		all.held.stand.db.read
			.query<{ at: number }, []>("SELECT part_index AS at FROM transfer_part WHERE file_index = 1")
			.all();
	await until("a part has its row", () => rows().length > 0 && all.asked().length >= 2);
	const landed = rows();
	await all.held.restart();
	expect(await work).toMatchObject({ reason: "stopping", retryable: true });
	hold = false;
	const before = all.asked().length;
	await all.copy();
	all.published();
	for (const { start, end } of all.asked().slice(before))
		for (const { at } of landed) expect(start >= (at + 1) * PART || end <= at * PART).toBe(true);
});

test("a limit that is known is kept by the agent itself", async () => {
	await using all = await world();
	const startedMs = performance.now();
	await all.copy({ bandwidthLimit: SIZE });
	all.published();
	expect(all.planes).not.toContain("fast");
	// A second's worth of bytes, less what may come at once.
	expect(performance.now() - startedMs).toBeGreaterThan(600);
});

test("a data process that skips parts, repeats them or makes some up is not believed", async () => {
	const told: [number, string][] = [];
	const left: PlannedRequest["parts"][] = [];
	const file = await plannedWeights(sourceAt({ port: 1 }));
	const fast = createFastPlane({
		plane: {
			isUsable: () => true,
			receive(_what: DataJob, { onPart }: DataListener) {
				for (const part of [0, 2, 0, 7, 1, -1]) onPart(part, `digest of ${part}`, undefined);
				return Promise.resolve({ kind: "done" });
			},
		} as unknown as DataPlane,
		log: silentLog,
		transferId: "copy-1",
		stallMs: 20_000,
		isLimited: () => false,
		portable: (request) => Promise.resolve(left.push(request.parts)),
		receiver: receiverWith({
			source: sourceAt({ port: 1 }),
			onPart: (_request, part, xxh64) => Promise.resolve(void told.push([part, xxh64])),
		}),
	});
	await fast.receive(requestFor(file, { first: 0, end: 3 }), never);
	expect(told).toEqual([0, 1].map((part) => [part, `digest of ${part}`]));
	expect(left).toEqual([{ first: 2, end: 3 }]);
});

test("requests that fail one after the other leave the rest to the agent; one that succeeds between them does not", async () => {
	const file = await plannedWeights(sourceAt({ port: 1 }));
	const request = requestFor(file, { first: 0, end: 1 });
	const ends = [false, false, true, false, false, false];
	let left = 0;
	const fast = createFastPlane({
		plane: {
			isUsable: () => true,
			receive(_what: DataJob, { onPart }: DataListener) {
				const isDone = ends.shift() === true;
				if (isDone) onPart(0, "digest", undefined);
				return Promise.resolve(
					isDone ? { kind: "done" } : { kind: "failed", failure: "answer", message: "no", code: undefined },
				);
			},
		} as unknown as DataPlane,
		log: silentLog,
		transferId: "copy-1",
		stallMs: 20_000,
		isLimited: () => false,
		portable: () => Promise.resolve(left++),
		receiver: receiverWith({ source: sourceAt({ port: 1 }) }),
	});
	for (let times = 0; times < 6; times++) {
		expect(fast.takes(request)).toBe(true);
		await fast.receive(request, never);
	}
	expect(fast.takes(request)).toBe(false);
	expect(left).toBe(5);
});

test("a limit that comes in the middle holds for the last bytes of a request too", async () => {
	using dir = tempDir();
	await using peer = await startRawPeer(send);
	await using plane = openDataPlane();
	const source = sourceAt(peer);
	const file = await plannedWeights(source);
	const paid = Promise.withResolvers<void>();
	let bytes = 0;
	let asked = 0;
	let ended = false;
	const fast = createFastPlane({
		plane,
		log: silentLog,
		transferId: "copy-1",
		stallMs: 20_000,
		isLimited: () => false,
		portable: () => Promise.reject(new Error("not this way")),
		receiver: receiverWith({
			source,
			meter: { add: (more: number) => void (bytes += more), via: () => {} } as unknown as Meter,
			throttle: {
				pass: (more: number) => {
					asked += more;
					return paid.promise;
				},
			},
		}),
	});
	const request = requestFor(file, { first: 0, end: 1 });
	expect(fast.takes(request)).toBe(true);
	const work = fast.receive(request, never).then(() => (ended = true));
	await until("all bytes have come", () => asked === PART);
	// The process has told its end by the time that another one could be asked.
	await until(
		"it is idle",
		async () => (await plane.receive(jobAfter(dir.path, request, peer), hears, never)).kind === "done",
	);
	expect(ended).toBe(false);
	paid.resolve();
	await work;
	expect(bytes).toBe(PART);
});

const never = new AbortController().signal;
async function plannedWeights(source: Source): Promise<PlannedFile> {
	const files = planFiles(await source.describe(never), { verifyChecksum: undefined, wholeFiles: false });
	const file = files.find(({ sizeBytes }) => sizeBytes === SIZE);
	if (file === undefined) throw new Error("no file");
	return file;
}

/** What of a receiver the fast plane uses. */
function receiverWith(change: Partial<Receiver> & Pick<Receiver, "source">): Receiver {
	const path = join(tempPlace.path, "f");
	return {
		clock: systemClock,
		meter: { add: () => {}, via: () => {} } as unknown as Meter,
		throttle: { pass: () => Promise.resolve() },
		limits: { progressBytes: 1024 } as Receiver["limits"],
		pathOf: () => path,
		shouldSync: () => false,
		onPart: () => Promise.resolve(),
		...change,
	} as Receiver;
}

const hears = { onBytes: () => Promise.resolve(), onPart: () => {} };

/** The first part once more, by another thread. */
function jobAfter(directory: string, request: PlannedRequest, { port }: RawPeer): DataJob {
	const { file } = request;
	const path = join(directory, "g");
	writeFileSync(path, "");
	return {
		address: "127.0.0.1",
		port,
		request: `GET /parts/${CONTENT_ID}/1 HTTP/1.1\r\n`,
		path,
		start: 0,
		end: PART,
		sizeBytes: SIZE,
		partSizeBytes: file.partSizeBytes,
		stallMs: 20_000,
		progressBytes: 1024,
		tagKey: undefined,
	};
}
