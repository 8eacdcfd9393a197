import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { peerHandlers } from "../../src/agent/node/peer-routes.ts";
import { peerSource, type Source } from "../../src/core/source/source.ts";
import { isWorthCompressing } from "../../src/core/transfer/compressed-part.ts";
import {
	type Bandwidth,
	createBandwidth,
	createGrants,
	createShares,
	createTags,
	type TransferProgress,
} from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { compressedBlocks } from "../../src/platform/zstd-blocks.ts";
import {
	ACCEPT_CODING_HEADER,
	CODING,
	CODING_HEADER,
	type Compression,
} from "../../src/schema/compression.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { faultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const TEXT = new TextEncoder().encode("a line that compresses well, over and over\n".repeat(1500));
const FILES: Record<string, Uint8Array> = {
	"even.gguf": new Uint8Array(2 * PART + 999).fill(3),
	"random.gguf": someBytes(PART + 17, 5),
	"notes/a.txt": TEXT,
	"notes/b.txt": TEXT.slice(100),
};

interface Answered {
	path: string;
	asked: string | null;
	coded: boolean;
}

interface Stand extends AsyncDisposable {
	receiver: TransferStand;
	answered: Answered[];
	/** False: the sender is of an earlier version. */
	knowsCoding: boolean;
	/** What the sender's answers become on their way. */
	change: (response: Response, path: string) => Response | Promise<Response>;
	up: Bandwidth;
	source(compression: Compression | undefined, limitBytesPerSecond?: number): Source;
	/** The copy as files. */
	receive(
		compression: Compression | undefined,
		input?: Partial<Parameters<TransferStand["run"]>[0]>,
		limitBytesPerSecond?: number,
	): Promise<{ last: TransferProgress; isRight: boolean }>;
}

async function standPair(): Promise<Stand> {
	const stack = new AsyncDisposableStack();
	const dir = stack.use(tempDir());
	for (const name of ["from", "to"]) mkdirSync(join(dir.path, name));
	const sender = stack.use(await standTransfers(join(dir.path, "from")));
	const receiver = stack.use(await standTransfers(join(dir.path, "to")));
	const { storage, io } = sender.stand;
	const copy = await sender.run({ source: faultySource(FILES), revision: REVISION });
	const manifest = storage.manifest(copy.content_id);
	if (manifest === undefined) throw new Error("no manifest");
	const deps = { clock: systemClock, ids: systemIds };
	const grants = stack.use(createGrants(deps));
	const grant = grants.grant({ contentId: copy.content_id, receiver: "node2", ttlMs: 60_000 });
	const shares = createShares({ storage, ...deps });
	const up = createBandwidth(deps);
	const tags = createTags({ storage, io, ids: systemIds });
	const handlers = peerHandlers({
		shares,
		grants,
		tags,
		storage,
		io,
		clock: systemClock,
		isBusy: () => false,
		up,
	});
	const stand: Stand = {
		receiver,
		answered: [],
		knowsCoding: true,
		change: (response) => response,
		up,
		source: (compression, limitBytesPerSecond) =>
			peerSource(deps, {
				baseUrl: `http://127.0.0.1:${server.port}`,
				grant,
				manifest,
				model: MODEL,
				revision: REVISION,
				compression,
				limitBytesPerSecond,
			}),
		async receive(compression, input = {}, limitBytesPerSecond?) {
			let last: TransferProgress | undefined;
			const got = await receiver.run({
				transferId: "copy-1",
				source: stand.source(compression, limitBytesPerSecond),
				revision: REVISION,
				receivingPhase: "copying",
				trustPartDigests: true,
				...input,
				onProgress: (progress) => void (last = progress),
			});
			if (last === undefined) throw new Error("no progress");
			const at = receiver.stand.storage.pathOf(got);
			const isRight = Object.entries(FILES).every(([path, bytes]) =>
				readFileSync(join(at, path)).equals(Buffer.from(bytes)),
			);
			return { last, isRight };
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		async fetch(request) {
			const { pathname, searchParams } = new URL(request.url);
			const [, kind, content_id = "", file_index = ""] = pathname.split("/");
			const bearer = request.headers.get("authorization")?.replace("Bearer ", "");
			const [first, end] = [Number(searchParams.get("first")), Number(searchParams.get("end"))];
			const asked = request.headers.get(ACCEPT_CODING_HEADER);
			if (!stand.knowsCoding) request.headers.delete(ACCEPT_CODING_HEADER);
			const call = { params: { content_id, file_index }, query: { first, end }, bearer, request };
			const handler = kind === "bundles" ? handlers.readBundle : handlers.readPart;
			const response = await (handler as unknown as (input: typeof call) => Promise<Response>)(call);
			const coded = response.headers.has(CODING_HEADER);
			stand.answered.push({ path: pathname, asked, coded });
			return await stand.change(response, pathname);
		},
	});
	stack.defer(() => server.stop(true));
	return stand;
}

test.each([
	["shrinks, and the line is slower", { bytes: 1000, compressedBytes: 500, ms: 1 }, 100_000, true],
	["shrinks, and the line is as fast", { bytes: 1000, compressedBytes: 500, ms: 1 }, 900_000, false],
	["shrinks, whatever the line", { bytes: 1000, compressedBytes: 500, ms: 1000 }, undefined, true],
	["hardly shrinks", { bytes: 1000, compressedBytes: 950, ms: 1 }, 1, false],
	["grows, whatever the line", { bytes: 1000, compressedBytes: 1020, ms: 1 }, undefined, false],
])("a part that %s", (_what, sample, rateBytesPerSecond, expected) => {
	expect(isWorthCompressing(sample, { rateBytesPerSecond }, false)).toBe(expected);
});

test.each([
	["shrinks well", 600, 1, true],
	["shrinks by an eighth", 870, 1, false],
	["shrinks by an eighth and is to be compressed", 870, undefined, true],
])("on a busy machine a part that %s", (_what, compressedBytes, rateBytesPerSecond, expected) => {
	const sample = { bytes: 1000, compressedBytes, ms: 1 };
	expect(isWorthCompressing(sample, { rateBytesPerSecond }, true)).toBe(expected);
});

test("with zstd the parts that shrink come compressed, the others as they are, and every byte is right", async () => {
	await using stand = await standPair();
	const { last, isRight } = await stand.receive("zstd");
	expect(isRight).toBe(true);
	const coded = (index: string): boolean[] =>
		stand.answered.filter(({ path }) => path.endsWith(`/${index}`)).map((one) => one.coded);
	expect(coded("0")).toContain(true);
	expect(coded("3")).not.toContain(true);
	expect(stand.answered.some(({ path, coded: is }) => path.startsWith("/bundles/") && is)).toBe(true);
	expect(last.compressed?.bytes).toBeGreaterThanOrEqual(2 * PART);
	expect(last.compressed?.wireBytes).toBeLessThan(PART / 100);
	const total = Object.values(FILES).reduce((sum, bytes) => sum + bytes.length, 0);
	expect(last).toMatchObject({ bytesDone: total, bytesTotal: total });
});

test("without it nothing is asked for, and nothing that comes compressed is taken", async () => {
	await using stand = await standPair();
	stand.change = (response, path) => {
		if (path.startsWith("/bundles/") || stand.answered.length > 6) return response;
		return new Response(response.body, {
			status: response.status,
			headers: { ...Object.fromEntries(response.headers), [CODING_HEADER]: CODING },
		});
	};
	const { last, isRight } = await stand.receive(undefined);
	expect(isRight).toBe(true);
	expect(stand.answered.filter(({ asked }) => asked !== null)).toEqual([]);
	expect(last.compressed).toBeUndefined();
});

test("a sender that does not know the question sends the bytes as they are", async () => {
	await using stand = await standPair();
	stand.knowsCoding = false;
	const { isRight, last } = await stand.receive("zstd");
	expect(isRight).toBe(true);
	expect(stand.answered.some(({ asked }) => asked === "zstd")).toBe(true);
	expect(last.compressed).toBeUndefined();
});

test.each([
	["a bomb", () => Bun.zstdCompressSync(new Uint8Array(1 << 26))],
	["garbage", () => someBytes(5000, 9)],
	["a frame that is cut off", () => Bun.zstdCompressSync(new Uint8Array(300_000)).subarray(0, 20)],
	["more than was asked for", () => undefined],
])("%s in place of a part is refused, and the part comes again as it is", async (_what, make) => {
	await using stand = await standPair();
	let spoilt = 0;
	stand.change = async (response) => {
		if (!response.headers.has(CODING_HEADER)) return response;
		spoilt++;
		const bytes = make() ?? new Uint8Array(64).fill(1);
		await response.body?.cancel();
		const head = new Uint8Array(8);
		new DataView(head.buffer).setUint32(0, 512 * 1024, true);
		new DataView(head.buffer).setUint32(4, Math.min(bytes.length, 512 * 1024), true);
		return new Response(Buffer.concat([head, bytes]), {
			status: response.status,
			headers: Object.fromEntries(response.headers),
		});
	};
	const { isRight, last } = await stand.receive("zstd");
	// Those that were under way when the first was refused.
	expect(spoilt).toBeGreaterThan(0);
	expect(isRight).toBe(true);
	expect(last.bytesDone).toBe(last.bytesTotal);
	expect(stand.receiver.stand.storage.staged()).toEqual([]);
});

test("a part that comes compressed to other bytes than its digest says is fetched again", async () => {
	await using stand = await standPair();
	let spoilt = 0;
	stand.change = async (response) => {
		if (!response.headers.has(CODING_HEADER) || spoilt > 0) return response;
		const range = /^bytes (\d+)-(\d+)/.exec(response.headers.get("content-range") ?? "");
		if (range === null) return response;
		spoilt++;
		await response.body?.cancel();
		const bytes = new Uint8Array(Number(range[2]) + 1 - Number(range[1])).fill(4);
		return new Response(compressedBlocks(new Blob([bytes])), {
			status: 206,
			headers: Object.fromEntries(response.headers),
		});
	};
	const { isRight } = await stand.receive("zstd");
	expect([isRight, spoilt]).toEqual([true, 1]);
});

test("with auto the line is measured, and only for a slow one parts are compressed", async () => {
	await using stand = await standPair();
	// Nothing between the two is slower than the machine itself.
	const { isRight, last } = await stand.receive("auto");
	expect(isRight).toBe(true);
	const large = stand.answered.filter(({ path }) => path.startsWith("/parts/"));
	expect(large[0]).toMatchObject({ asked: "zstd; rate=1000000000000", coded: false });
	expect(last.bytesDone).toBe(last.bytesTotal);
});

test.each([
	["who sends", undefined, 4 << 20],
	["who receives", 4 << 20, undefined],
])("with auto a limit of %s is a slow line from the first part on", async (_who, limit, up) => {
	await using stand = await standPair();
	stand.up.setNode({ own: up });
	const { last, isRight } = await stand.receive("auto", { bandwidthLimit: limit }, limit);
	expect(isRight).toBe(true);
	expect(last.compressed?.bytes).toBeGreaterThanOrEqual(2 * PART);
});
