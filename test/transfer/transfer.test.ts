import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { TransferProgress } from "../../src/core/transfer/transfer.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { type FaultyOptions, faultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const MIB = 1024 * 1024;
const PART = partSizeBytes(1);
/** Three parts in one file, a small one, an empty one. */
const BIG = "weights/model.gguf";
const FILES = {
	[BIG]: someBytes(2 * PART + 4 * MIB + 17, 1),
	"config.json": someBytes(900, 2),
	"empty.txt": new Uint8Array(),
};
const TOTAL = 2 * PART + 4 * MIB + 917;

function expectFiles(path: string, files: Record<string, Uint8Array>): void {
	for (const [name, bytes] of Object.entries(files)) {
		expect(sha256Hex(readFileSync(join(path, name)))).toBe(sha256Hex(bytes));
	}
}

/** Nothing of the transfer is left, and no copy is there. */
function expectNothing(held: TransferStand, directory: string, tier = "disk"): void {
	const { storage } = held.stand;
	expect(storage.copies()).toEqual([]);
	expect(readdirSync(join(directory, tier, "models"))).toEqual([]);
	expect(readdirSync(join(directory, tier, "staging"))).toEqual([]);
	expect(storage.usage(tier).reserved).toBe(0);
	expect(held.transfers.known()).toEqual([]);
}

async function failureOf(work: Promise<unknown>): Promise<GswarmError> {
	const error = await work.then(
		() => undefined,
		(thrown: unknown) => thrown,
	);
	if (error instanceof GswarmError) return error;
	throw new Error("it did not fail as it should", { cause: error });
}

test.each(["sha256", "git-sha1", "parts", "none"] as const)(
	"a model comes whole from a source with digests: %s, every byte asked for once",
	async (digests) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const source = faultySource(FILES, { digests });
		const seen: TransferProgress[] = [];
		const copy = await held.run({ source, onProgress: (progress) => seen.push(progress) });
		expect(copy).toMatchObject({
			model_name: MODEL,
			tier: "disk",
			status: "ready",
			size_bytes: TOTAL,
			// Its name says GGUF, its bytes do not.
			format: "unknown",
		});
		expectFiles(held.stand.storage.pathOf(copy), FILES);
		expect(source.bytesSent()).toBe(TOTAL);
		expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
		expect(held.transfers.known()).toEqual([]);
		expect(held.stand.storage.usage("disk").reserved).toBe(0);
		const phases = seen.map((progress) => progress.phase).filter((phase, at, all) => phase !== all[at - 1]);
		expect(phases).toEqual(["resolving", "downloading", "verifying", "publishing", "done"]);
		expect(seen.at(-1)).toMatchObject({
			bytesDone: TOTAL,
			bytesTotal: TOTAL,
			etaS: 0,
			waitingFor: undefined,
		});
	},
);

test("the same bytes make the same content id, whatever the source told of them", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const ids = new Set<string>();
	for (const digests of ["sha256", "parts", "none"] as const) {
		const transferId = `download-${digests}`;
		const model = parseModelName(`acme/${digests}`);
		const small = { "a.bin": someBytes(1000, 3), "b/c.bin": someBytes(2000, 4) };
		ids.add((await held.run({ transferId, model, source: faultySource(small, { digests }) })).content_id);
	}
	expect(ids.size).toBe(1);
});

test("a source that cuts every connection is read on at the byte where it stopped", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	// More cuts than a fruitless source would get tries.
	const source = faultySource(FILES, { cutAfterBytes: 1_500_000 });
	const copy = await held.run({ source, tier: "dram" });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(source.bytesSent()).toBe(TOTAL);
	expect(source.reads.filter((read) => read.path === BIG).length).toBeGreaterThan(12);
});

test("a source that brings nothing is given up, kept for later, and only what is missing is asked for then", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const dead = faultySource(FILES, {
		digests: "parts",
		// The last part never comes.
		onBlock: (path, position) => {
			if (path === BIG && position >= 2 * PART + MIB) throw new Error("ECONNRESET");
		},
	});
	const error = await failureOf(held.run({ source: dead, tier: "dram", streams: 1 }));
	expect(error).toMatchObject({ code: "NETWORK_ERROR", reason: "connection_lost", retryable: true });
	expect(error.message).toContain(BIG);
	expect(held.transfers.known()).toEqual(["download-1"]);
	// What waits for another run holds no room; what it has staged counts as its own.
	expect(held.stand.storage.usage("dram").reserved).toBe(0);
	await held.restart();
	expect(held.stand.storage.usage("dram").reserved).toBe(0);
	const good = faultySource(FILES, { digests: "parts" });
	const seen: TransferProgress[] = [];
	const copy = await held.run({ source: good, tier: "dram", onProgress: (progress) => seen.push(progress) });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(good.reads.map((read) => `${read.path} ${read.start}`).sort()).toEqual([
		"config.json 0",
		`${BIG} ${2 * PART}`,
	]);
	expect(seen.find((progress) => progress.bytesTotal > 0)?.bytesDone).toBe(2 * PART);
});

test("a connection that brings nothing for the limit is ended and read on elsewhere", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { stallMs: 500 });
	const source = faultySource(FILES, { stall: { path: BIG, at: 3 * MIB, times: 1 }, blockBytes: MIB });
	const copy = await held.run({ source });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(source.bytesSent()).toBe(TOTAL);
});

test("a source that stalls every time is given up for now, by name", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { stallMs: 40 });
	const source = faultySource(FILES, { stall: { path: BIG, at: 3 * MIB, times: 99 }, blockBytes: MIB });
	const error = await failureOf(held.run({ source }));
	expect(error).toMatchObject({ reason: "stalled", retryable: true, details: { file: BIG } });
	await held.transfers.discard("download-1");
	expectNothing(held, dir.path);
});

test("a flipped bit in a part with a known digest is fetched again, that part alone", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { digests: "parts", flip: { path: BIG, at: PART + 5, times: 2 } });
	const copy = await held.run({ source, trustPartDigests: true });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(source.bytesSent()).toBe(TOTAL + 2 * PART);
});

test("a part that comes wrong three times fails the transfer by name and leaves nothing", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { digests: "parts", flip: { path: BIG, at: PART + 5, times: 99 } });
	const error = await failureOf(held.run({ source }));
	expect(error).toMatchObject({ code: "TASK_FAILED", reason: "checksum_mismatch", retryable: false });
	expect(error.message).toContain(BIG);
	expectNothing(held, dir.path);
});

test("a flipped bit where only the whole has a digest is found before anything is published; the file comes again", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { flip: { path: BIG, at: PART + 5, times: 1 } });
	const copy = await held.run({ source });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(source.bytesSent()).toBe(TOTAL + (FILES[BIG]?.byteLength ?? 0));
});

test.each([
	["a sha256 that is never met", { claimDigest: { path: BIG, hex: "0".repeat(64) } }, BIG],
	[
		"a git blob sha1 that is never met",
		{ digests: "git-sha1", claimDigest: { path: "config.json", hex: "0".repeat(40) } },
		"config.json",
	],
	["a sha256 under right parts", { digests: "parts", claimDigest: { path: BIG, hex: "1".repeat(64) } }, BIG],
] satisfies [string, FaultyOptions, string][])(
	"%s fails as checksum_mismatch and leaves nothing",
	async (_title, faults, file) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const error = await failureOf(held.run({ source: faultySource(FILES, faults) }));
		expect(error).toMatchObject({ code: "TASK_FAILED", reason: "checksum_mismatch", details: { file } });
		expectNothing(held, dir.path);
	},
);

test.each([
	["ends early, as if complete", { claimSize: { path: BIG, size: 3 * PART } }, "truncated_source"],
	["sends more than was asked", { tooMany: 5 }, "oversized_answer"],
] satisfies [string, FaultyOptions, string][])(
	"a source that %s is refused by name and leaves nothing",
	async (_title, faults, reason) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const error = await failureOf(held.run({ source: faultySource(FILES, { digests: "none", ...faults }) }));
		expect(error).toMatchObject({ code: "NETWORK_ERROR", reason, retryable: false, details: { file: BIG } });
		expectNothing(held, dir.path);
	},
);

test("a cut that looks like the end is a cut as long as more comes after it", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { cutAfterBytes: 3 * MIB, cutsLookComplete: true });
	const copy = await held.run({ source });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
});

test("verify_checksum without a digest at the source is refused before the first byte", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { digests: "none" });
	const error = await failureOf(held.run({ source, verifyChecksum: true }));
	expect(error).toMatchObject({ code: "INVALID_REQUEST", reason: "no_checksum_available" });
	expect(source.reads).toEqual([]);
	expectNothing(held, dir.path);
});

test("a file whose size and digest nobody tells needs permission", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const options = { digests: "none", sizeless: true, rangeable: false } as const;
	const source = faultySource(FILES, options);
	expect(await failureOf(held.run({ source }))).toMatchObject({ reason: "no_checksum_available" });
	expect(source.reads).toEqual([]);
	const copy = await held.run({ source, verifyChecksum: false });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	expect(held.stand.storage.usage("disk").reserved).toBe(0);
});

test.each([
	["of unknown size", { sizeless: true, rangeable: false }],
	["without ranges", { rangeable: false }],
	["whose ranges are ignored", { ignoresRanges: true }],
] satisfies [string, FaultyOptions][])(
	"a source %s comes as one stream per file, a cut one from its start again",
	async (_title, faults) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const source = faultySource(FILES, { ...faults, cutAfterBytes: 2 * MIB, cuts: 2 });
		const seen: TransferProgress[] = [];
		const copy = await held.run({ source, tier: "dram", onProgress: (one) => seen.push(one) });
		expect(seen.at(-1)).toMatchObject({ bytesDone: TOTAL, bytesTotal: TOTAL });
		expectFiles(held.stand.storage.pathOf(copy), FILES);
		expect(source.bytesSent()).toBe(TOTAL + 2 * (2 * MIB));
		expect(source.reads.every((read) => read.start === 0)).toBe(true);
		expect(held.stand.storage.usage("dram")).toMatchObject({ reserved: 0, used: TOTAL });
	},
);

test("a shorter second try of a stream of unknown size leaves nothing of the first behind it", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const long = { "a.bin": someBytes(5 * MIB, 5) };
	let reads = 0;
	const source = faultySource(long, { digests: "none", sizeless: true, rangeable: false, blockBytes: MIB });
	const short = faultySource(
		{ "a.bin": someBytes(100, 6) },
		{ digests: "none", sizeless: true, rangeable: false },
	);
	const shrinking = {
		...source,
		read: (...args: Parameters<typeof source.read>) => {
			if (reads++ > 0) return short.read(...args);
			return faultySource(long, { cutAfterBytes: 4 * MIB }).read(...args);
		},
	};
	const copy = await held.run({ source: shrinking, verifyChecksum: false });
	expect(copy.size_bytes).toBe(100);
	// Nothing had to be fetched a third time.
	expect(reads).toBe(2);
	expectFiles(held.stand.storage.pathOf(copy), { "a.bin": someBytes(100, 6) });
});

test("a source that changes while it is read is read from the start, once, and never mixed", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const after = { [BIG]: someBytes(2 * PART, 7), "config.json": someBytes(10, 8) };
	const source = faultySource(FILES, { cutAfterBytes: 5 * MIB, changesAt: { read: 4, files: after } });
	const copy = await held.run({ source });
	expectFiles(held.stand.storage.pathOf(copy), after);
	expect(readdirSync(held.stand.storage.pathOf(copy)).sort()).toEqual(["config.json", "weights"]);
	expect(source.descriptions).toBe(2);
});

test("a source that changes again and again is a conflict, and nothing is left", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const refused = new GswarmError("CONFLICT", "it changed", { reason: "source_changed" });
	const error = await failureOf(held.run({ source: faultySource(FILES, { refused }) }));
	expect(error).toMatchObject({ code: "CONFLICT", reason: "source_changed", retryable: false });
	expectNothing(held, dir.path);
});

test("what was fetched from another state of the source is not used when the transfer goes on", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const stop = new AbortController();
	const before = faultySource(FILES, {
		onBlock: (path, position) => {
			if (path === BIG && position >= PART + MIB) stop.abort(stopping());
		},
	});
	await failureOf(held.run({ source: before, signal: stop.signal, streams: 1 }));
	const rows = held.stand.db.read.query("SELECT part_index FROM transfer_part").all();
	expect(rows).toEqual([{ part_index: 0 }]);
	const other = { ...FILES, [BIG]: someBytes(2 * PART + 4 * MIB + 17, 99) };
	const after = faultySource(other);
	const copy = await held.run({ source: after });
	expectFiles(held.stand.storage.pathOf(copy), other);
	expect(after.bytesSent()).toBe(TOTAL);
});

function stopping(): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
		reason: "stopping",
		retryable: true,
	});
}

test("a stop keeps what is there; the next start asks only for parts without a row", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const stop = new AbortController();
	const first = faultySource(FILES, {
		onBlock: (path, position) => {
			if (path === BIG && position >= PART + MIB) stop.abort(stopping());
		},
	});
	const error = await failureOf(held.run({ source: first, signal: stop.signal, streams: 1 }));
	expect(error.reason).toBe("stopping");
	expect(held.stand.storage.copies()).toEqual([]);
	await held.restart();
	const second = faultySource(FILES);
	const copy = await held.run({ source: second });
	expectFiles(held.stand.storage.pathOf(copy), FILES);
	const missing = second.reads.filter((read) => read.path === BIG);
	expect(missing.map((read) => read.start)).toEqual([PART]);
});

test("a cancel leaves the target absent, staging empty and nothing reserved", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const cancel = new AbortController();
	const source = faultySource(FILES, {
		onBlock: (path, position) => {
			if (path === BIG && position >= PART + MIB) cancel.abort();
		},
	});
	const error = await failureOf(held.run({ source, signal: cancel.signal }));
	expect(error).toMatchObject({ code: "TASK_FAILED", reason: "cancelled", retryable: false });
	expectNothing(held, dir.path);
	const again = await held.run({ source: faultySource(FILES) });
	expect(again.status).toBe("ready");
});

test("a cancel is heard while the source hangs", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { stallMs: 600_000 });
	const cancel = new AbortController();
	let hangs = false;
	const source = faultySource(FILES, {
		onBlock: async (path, position) => {
			if (path !== BIG || position < MIB) return;
			hangs = true;
			await new Promise(() => {});
		},
	});
	const failure = failureOf(held.run({ source, signal: cancel.signal }));
	await until("the source hangs", () => hangs);
	cancel.abort();
	expect((await failure).reason).toBe("cancelled");
	expectNothing(held, dir.path);
});

test("what does not fit is refused before the first byte, counting what others have reserved", async () => {
	using dir = tempDir();
	const tiers = [
		{
			name: "dram",
			kind: "dram" as const,
			root: join(dir.path, "dram"),
			limitBytes: TOTAL + 100,
			floorBytes: 0,
		},
	];
	await using held = await standTransfers(dir.path, {}, { tiers });
	const other = held.stand.storage.reserve("dram", 101);
	const source = faultySource(FILES);
	const error = await failureOf(held.run({ source, tier: "dram" }));
	expect(error).toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		status: 507,
		details: { reason: "insufficient_space", required: TOTAL, available: TOTAL - 1, device: "dram" },
	});
	expect(source.reads).toEqual([]);
	other[Symbol.dispose]();
	expectNothing(held, dir.path, "dram");
	expect((await held.run({ source, tier: "dram" })).status).toBe("ready");
});

test.each([
	["climbs out", { "../escaped.bin": someBytes(10, 1) }, "unsafe_filename"],
	["is absolute", { "/tmp/gswarm-escaped": someBytes(10, 1) }, "unsafe_filename"],
	["hides a folder in a file", { a: someBytes(10, 1), "a/b": someBytes(10, 2) }, "bad_manifest"],
	["differs in letter case only", { "a.bin": someBytes(10, 1), "A.BIN": someBytes(10, 2) }, "bad_manifest"],
])("a description is refused before any byte when a path %s", async (_title, files, reason) => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(files);
	expect(await failureOf(held.run({ source }))).toMatchObject({ code: "INVALID_REQUEST", reason });
	expect(source.reads).toEqual([]);
	expectNothing(held, dir.path);
	expect(existsSync("/tmp/gswarm-escaped")).toBe(false);
});

test("a peer whose part digests do not fit the size is refused before any byte", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { digests: "parts", claimSize: { path: BIG, size: 5 * PART } });
	expect(await failureOf(held.run({ source }))).toMatchObject({ reason: "bad_manifest" });
	expect(source.reads).toEqual([]);
});

test("two transfers at once do not disturb each other, also when they bring the same model", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const model = parseModelName("acme/other");
	const otherFiles = { "model.safetensors": someBytes(PART + 5, 9) };
	const [one, two, other] = await Promise.all([
		held.run({ transferId: "download-1", source: faultySource(FILES) }),
		held.run({ transferId: "download-2", source: faultySource(FILES) }),
		held.run({ transferId: "download-3", source: faultySource(otherFiles), model }),
	]);
	expect(one).toEqual(two);
	expectFiles(held.stand.storage.pathOf(one), FILES);
	expectFiles(held.stand.storage.pathOf(other), otherFiles);
	expect(held.stand.storage.copies()).toHaveLength(2);
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
	expect(held.stand.storage.usage("disk").reserved).toBe(0);
});

test("one transfer does not run twice at once", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const first = held.run({ source: faultySource(FILES) });
	expect(await failureOf(held.run({ source: faultySource(FILES) }))).toMatchObject({
		reason: "already_running",
	});
	expect((await first).status).toBe("ready");
});

test("a copy that is there already is the answer, without a byte; other contents at its place are a conflict", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const revision = parseRevision("v1");
	const copy = await held.run({ source: faultySource(FILES), revision });
	const again = faultySource(FILES);
	// As after a crash between the publication and the end of the task.
	expect(await held.run({ source: again, revision })).toEqual(copy);
	expect(again.reads).toEqual([]);
	const other = faultySource({ ...FILES, "config.json": someBytes(900, 77) });
	expect(await failureOf(held.run({ source: other, revision }))).toMatchObject({
		code: "CONFLICT",
		reason: "copy_exists",
	});
	expect(held.stand.storage.copies()).toEqual([copy]);
});

test("a source that limits us is waited for when it asks for a moment, and left to the queue when it asks for more", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const seen: (string | undefined)[] = [];
	const soon = faultySource(FILES, { limited: { times: 2, retryAfterS: 0 } });
	await held.run({ source: soon, onProgress: ({ waitingFor }) => seen.push(waitingFor) });
	expect(seen.some((text) => text?.includes("limits us"))).toBe(true);
	const later = faultySource(FILES, { limited: { times: 99, retryAfterS: 3600 } });
	const model = parseModelName("acme/later");
	const error = await failureOf(held.run({ transferId: "download-2", model, source: later }));
	expect(error).toMatchObject({ reason: "rate_limited", retryable: true, retryAfterS: 3600 });
	expect(held.transfers.known()).toEqual(["download-2"]);
});

test("progress counts over the whole model, never above it, also when parts come again", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, {
		digests: "parts",
		flip: { path: BIG, at: 5, times: 2 },
		cutAfterBytes: 3 * MIB,
	});
	const seen: TransferProgress[] = [];
	await held.run({ source, tier: "dram", onProgress: (progress) => seen.push(progress) });
	for (const { bytesDone, bytesTotal } of seen) expect(bytesDone).toBeLessThanOrEqual(bytesTotal);
	expect(seen.at(-1)).toMatchObject({ bytesDone: TOTAL, bytesTotal: TOTAL });
});

test("progress does not go back when a whole file has to come again", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const source = faultySource(FILES, { flip: { path: BIG, at: 5, times: 1 }, blockBytes: MIB });
	const seen: number[] = [];
	await held.run({ source, onProgress: ({ bytesDone }) => seen.push(bytesDone) });
	expect(source.bytesSent()).toBeGreaterThan(TOTAL);
	expect(seen).toEqual(seen.toSorted((a, b) => a - b));
	expect(seen.at(-1)).toBe(TOTAL);
});

test("a source that has gone quiet is said to be what is waited for, until it brings something", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path, { stallMs: 1000 });
	const source = faultySource(FILES, { stall: { path: BIG, at: 3 * MIB, times: 1 }, blockBytes: MIB });
	const seen: (string | undefined)[] = [];
	await held.run({ source, onProgress: ({ waitingFor }) => seen.push(waitingFor) });
	expect(seen.some((text) => text?.startsWith("the source: nothing has come for ") === true)).toBe(true);
	expect(seen.at(-1)).toBeUndefined();
});

test("room that was reserved is given back to the filesystem's count as bytes land", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const { storage } = held.stand;
	const { reserve } = storage;
	const left: number[] = [];
	storage.reserve = (...args) => {
		const real = reserve(...args);
		return { ...real, shrinkTo: (bytes) => void left.push(bytes) };
	};
	await held.run({ source: faultySource(FILES) });
	expect(left.some((bytes) => bytes > 0 && bytes < TOTAL)).toBe(true);
	// But for the blocks that are on their way from stream to file.
	expect(left.at(-1)).toBeLessThan(MIB);
});

test("a stream of unknown size takes room as it comes, and is refused where there is none", async () => {
	using dir = tempDir();
	const limitBytes = 20 * MIB;
	const tiers = [
		{ name: "dram", kind: "dram" as const, root: join(dir.path, "dram"), limitBytes, floorBytes: 0 },
	];
	await using held = await standTransfers(dir.path, {}, { tiers });
	const big = faultySource({ "a.bin": someBytes(30 * MIB, 1) }, { sizeless: true, rangeable: false });
	const error = await failureOf(held.run({ source: big, tier: "dram" }));
	expect(error).toMatchObject({ reason: "insufficient_space", status: 507 });
	expect(big.bytesSent()).toBeLessThan(limitBytes);
	expectNothing(held, dir.path, "dram");
	const small = faultySource({ "a.bin": someBytes(10 * MIB, 1) }, { sizeless: true, rangeable: false });
	expect((await held.run({ source: small, tier: "dram" })).size_bytes).toBe(10 * MIB);
	expect(held.stand.storage.usage("dram")).toMatchObject({ used: 10 * MIB, reserved: 0 });
});

test("a limited transfer takes the time that its rate asks for", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const startedMs = performance.now();
	const seen: TransferProgress[] = [];
	// A source that waits for our rate is not one that stalls.
	const bandwidthLimit = TOTAL * 2;
	await held.run({
		source: faultySource(FILES),
		tier: "dram",
		bandwidthLimit,
		onProgress: (one) => seen.push(one),
	});
	expect(performance.now() - startedMs).toBeGreaterThan(350);
	expect(seen.at(-1)?.bytesDone).toBe(TOTAL);
});

test("an unknown tier is refused", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	expect(await failureOf(held.run({ source: faultySource(FILES), tier: "disk7" }))).toMatchObject({
		reason: "device_not_found",
	});
});
