import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
	createShares,
	createSwarm,
	type Shares,
	type SwarmView,
	type TransferInput,
} from "../../src/core/transfer/transfer.ts";
import { describeSealed, type Relay, type Source } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createLog } from "../../src/platform/log.ts";
import { numberParts } from "../../src/core/transfer/part-numbers.ts";
import type { PlannedFile } from "../../src/core/transfer/plan.ts";
import { asGswarmError, GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { faultySource, type FaultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const PARTS = 8;
const BYTES = PARTS * PART;
const FILES = { "config.json": someBytes(10, 2), "model.gguf": someBytes(BYTES, 1) };
const ALL = BYTES + 10;

/** What a line to a node does to what comes over it. */
interface Line {
	/** Bytes that were asked for over it. */
	sent: number;
	/** Each block of it, as it comes; what this returns is what arrives. */
	change?: (bytes: Uint8Array) => Uint8Array;
	/** Digests that it claims. */
	claim?: (xxh64: string) => string;
	isCut: boolean;
	/** Waits so long before each block. */
	delayMs: number;
}

interface Node {
	name: string;
	stand: TransferStand;
	shares: Shares;
	line: Line;
}

interface Stand extends AsyncDisposable {
	nodes: Map<string, Node>;
	node(name: string): Node;
	events: Record<string, unknown>[];
	/** A receiver among others; resolves to its copy. */
	receive(
		name: string,
		members: readonly string[],
		options?: ReceiveOptions & { from?: readonly string[] },
	): Promise<ModelCopy>;
}

interface ReceiveOptions {
	/** Where the bytes come from; undefined: from nodes that have them. */
	web?: Source;
	input?: Partial<TransferInput>;
	join?: () => Promise<SwarmView>;
}

async function standSwarm(names: readonly string[]): Promise<Stand> {
	const stack = new AsyncDisposableStack();
	const dir = stack.use(tempDir());
	const events: Record<string, unknown>[] = [];
	const log = createLog({ clock: systemClock, write: (line) => void events.push(JSON.parse(line)) });
	const nodes = new Map<string, Node>();
	for (const name of names) {
		mkdirSync(join(dir.path, name));
		const stand = stack.use(await standTransfers(join(dir.path, name), { stallMs: 2_000 }));
		const shares = createShares({ storage: stand.stand.storage, ids: systemIds, clock: systemClock });
		nodes.set(name, { name, stand, shares, line: { sent: 0, isCut: false, delayMs: 0 } });
	}
	const node = (name: string): Node => {
		const found = nodes.get(name);
		if (found === undefined) throw new Error(`no node ${name}`);
		return found;
	};
	const stand: Stand = {
		nodes,
		node,
		events,
		async receive(name, members, { from = [], web, input = {}, join: ask } = {}) {
			const held = from.flatMap((one) => node(one).stand.stand.storage.copies())[0];
			const manifest = held && node(from[0] ?? "").stand.stand.storage.manifest(held.content_id);
			const base = web ?? sealed(manifest?.files ?? []);
			const keyOf =
				held === undefined ? ({ sourceId }: { sourceId: string }) => sourceId : () => held.content_id;
			const view = (key: string): SwarmView => ({
				members,
				self: members.indexOf(name),
				peers: [...from, ...members.filter((one) => one !== name)].map((one) => ({
					node: one,
					place: one,
					relay: relayOf(node(one), key),
				})),
			});
			await using swarm = createSwarm(
				{ clock: systemClock, ids: systemIds, log, shares: node(name).shares },
				{
					base,
					isOrigin: web !== undefined,
					keyOf,
					join: (key) => (ask === undefined ? Promise.resolve(view(key)) : ask()),
				},
			);
			const copy = await node(name).stand.run({
				transferId: `copy-${name}`,
				source: swarm.source,
				swarm,
				revision: REVISION,
				trustPartDigests: web === undefined,
				...input,
			});
			swarm.published(copy.content_id);
			return copy;
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
	return stand;
}

function sealed(files: Parameters<typeof describeSealed>[0]): Source {
	return {
		describe: () => Promise.resolve(describeSealed(files, { uri: "test", model: MODEL, revision: REVISION })),
		read: () => Promise.reject(new Error("not from here")),
	};
}

function relayOf({ shares, line, name }: Node, key: string): Relay {
	const check = (): void => {
		if (line.isCut)
			throw new GswarmError("NETWORK_ERROR", `${name} is away`, { reason: "connection_refused" });
	};
	return {
		async have(question, signal) {
			check();
			const answer = await shares.have(key, { ...question, waitMs: Math.min(question.waitMs, 200) }, signal);
			check();
			const { claim } = line;
			return claim === undefined
				? answer
				: {
						...answer,
						added: answer.added.map(([part, xxh64]): [number, string] => [part, xxh64 && claim(xxh64)]),
					};
		},
		read(file, range) {
			check();
			const found = shares.resolve(key, file.index, () => range);
			const reader = Bun.file(found.path).slice(found.start, found.end).stream().getReader();
			return Promise.resolve(
				new ReadableStream<Uint8Array>({
					async pull(controller) {
						if (line.delayMs > 0) await systemClock.sleep(line.delayMs);
						if (line.isCut) {
							controller.error(new Error("cut"));
							return;
						}
						const { done, value } = await reader.read();
						if (done) {
							controller.close();
							return;
						}
						line.sent += value.byteLength;
						controller.enqueue(line.change?.(new Uint8Array(value)) ?? value);
					},
					cancel: () => reader.cancel(),
				}),
			);
		},
	};
}

async function withOrigin(receivers: readonly string[]): Promise<Stand> {
	const stand = await standSwarm(["origin", ...receivers]);
	await stand.node("origin").stand.run({ source: faultySource(FILES), revision: REVISION });
	return stand;
}

function expectWhole({ stand }: Node): void {
	const { storage } = stand.stand;
	const [copy] = storage.copies();
	if (copy === undefined) throw new Error("no copy");
	for (const [path, bytes] of Object.entries(FILES))
		expect(Buffer.from(bytes).equals(readFileSync(join(storage.pathOf(copy), path)))).toBe(true);
	const [tier] = storage.tiers();
	expect(readdirSync(join(tier?.root ?? "", "staging"))).toEqual([]);
}

function webReads(source: FaultySource): number {
	return source.bytesSent();
}

const flipped = (bytes: Uint8Array): Uint8Array => {
	bytes[0] = (bytes[0] ?? 0) ^ 1;
	return bytes;
};

test("receivers give each other what they have, and the node that has all of it sends it about once", async () => {
	const names = ["a", "b", "c", "d"];
	await using stand = await withOrigin(names);
	await Promise.all(names.map((name) => stand.receive(name, names, { from: ["origin"] })));
	for (const name of names) expectWhole(stand.node(name));
	expect(stand.node("origin").line.sent).toBeLessThan(1.5 * ALL);
	for (const name of names) expect(stand.node(name).line.sent).toBeGreaterThan(0);
});

test("what is downloaded by several is read from its source about once, and each checks the whole", async () => {
	const names = ["a", "b", "c"];
	await using stand = await standSwarm(names);
	const sources = names.map(() => faultySource(FILES, { digests: "sha256" }));
	const copies = await Promise.all(
		names.map((name, at) => stand.receive(name, names, { web: sources[at] as FaultySource })),
	);
	for (const name of names) expectWhole(stand.node(name));
	expect(new Set(copies.map((copy) => copy.content_id)).size).toBe(1);
	// Three on their own read it three times; a busy machine makes one help another with what is under way.
	expect(sources.reduce((sum, source) => sum + webReads(source), 0)).toBeLessThan(2 * ALL);
});

test("a relay that gives wrong bytes is dropped, and only those parts are fetched again", async () => {
	const names = ["a", "b", "liar"];
	await using stand = await withOrigin(names);
	stand.node("liar").line.change = flipped;
	await Promise.all(names.map((name) => stand.receive(name, names, { from: ["origin"] })));
	for (const name of ["a", "b"]) expectWhole(stand.node(name));
	expect(stand.events.some((it) => it["event"] === "swarm.peer_dropped" && it["node"] === "liar")).toBe(true);
	// It was asked for no more than what was on its way when it was found out.
	expect(stand.node("liar").line.sent).toBeLessThan(2 * 3 * PART);
});

test("of a download, a relay that lies about digests as well is found out by the whole, and costs only its parts", async () => {
	const names = ["a", "liar"];
	await using stand = await standSwarm(names);
	const liar = stand.node("liar");
	const slow = faultySource(FILES, { digests: "sha256", onBlock: () => systemClock.sleep(2) });
	await stand.receive("liar", ["liar"], { web: faultySource(FILES, { digests: "sha256" }) });
	liar.line.change = flipped;
	// Nothing but the flipped bytes has the digest that it says.
	liar.line.claim = () => "";
	await stand.receive("a", names, { web: slow });
	expectWhole(stand.node("a"));
	expect(liar.line.sent).toBeGreaterThan(0);
	// What it gave was fetched once more, and nothing else.
	expect(webReads(slow)).toBeLessThan(ALL + PART);
});

test("of a download, bytes that are not what their giver claims are noticed at the first part", async () => {
	const names = ["a", "liar"];
	await using stand = await standSwarm(names);
	const { line } = stand.node("liar");
	await stand.receive("liar", ["liar"], { web: faultySource(FILES, { digests: "sha256" }) });
	line.change = flipped;
	await stand.receive("a", names, { web: faultySource(FILES, { digests: "sha256" }) });
	expectWhole(stand.node("a"));
	expect(line.sent).toBeGreaterThan(0);
	// Two requests at once, and what began before the first of them was whole.
	expect(line.sent).toBeLessThan(4 * PART);
});

test("a receiver that dies takes nothing along but its help", async () => {
	const names = ["a", "b", "dying"];
	await using stand = await withOrigin(names);
	const stop = new AbortController();
	const { line } = stand.node("dying");
	line.delayMs = 1;
	const dying = stand
		.receive("dying", names, {
			from: ["origin"],
			input: {
				bandwidthLimit: 8_000_000,
				signal: stop.signal,
				onProgress: ({ bytesDone }) => {
					if (bytesDone < PART) return;
					line.isCut = true;
					stop.abort(new Error("dead"));
				},
			},
		})
		.catch((error: unknown) => error);
	await Promise.all(["a", "b"].map((name) => stand.receive(name, names, { from: ["origin"] })));
	expect(await dying).toBeInstanceOf(Error);
	for (const name of ["a", "b"]) expectWhole(stand.node(name));
});

test("the node that has all of it may go when the receivers have every part among them", async () => {
	const names = ["a", "b"];
	await using stand = await withOrigin(names);
	await stand.receive("a", ["a"], { from: ["origin"] });
	stand.node("origin").line.isCut = true;
	await stand.receive("b", names, { from: ["origin"] });
	expectWhole(stand.node("b"));
});

test("when nobody has what is missing it says so, waits, and gives up for now", async () => {
	await using stand = await withOrigin(["a"]);
	stand.node("origin").line.isCut = true;
	const waits: unknown[] = [];
	const error = await stand
		.receive("a", ["a"], { from: ["origin"], input: { onProgress: (p) => waits.push(p.waitingFor) } })
		.catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ reason: "no_source", retryable: true });
	expect(waits).toContain("another node to have what is missing");
	stand.node("origin").line.isCut = false;
	await stand.receive("a", ["a"], { from: ["origin"] });
	expectWhole(stand.node("a"));
});

test("without the host a download goes on alone; a copy cannot begin", async () => {
	await using stand = await withOrigin(["a", "b"]);
	const nobody = (): Promise<SwarmView> =>
		Promise.reject(new GswarmError("NETWORK_ERROR", "no host", { retryable: true }));
	await stand.receive("a", ["a", "b"], { web: faultySource(FILES, { digests: "sha256" }), join: nobody });
	expectWhole(stand.node("a"));
	const refused = await stand
		.receive("b", ["a", "b"], { from: ["origin"], join: nobody })
		.catch((error: unknown) => error);
	expect(refused).toMatchObject({ message: "no host" });
});

test("a receiver that comes late takes what the others have", async () => {
	const names = ["a", "b", "late"];
	await using stand = await withOrigin(names);
	const early = ["a", "b"].map((name) =>
		stand.receive(name, names, { from: ["origin"], input: { bandwidthLimit: 40_000_000 } }),
	);
	await until(
		"the others have something",
		() => stand.node("a").line.sent > 0 || stand.node("b").line.sent > 0,
	);
	const before = stand.node("origin").line.sent;
	await stand.receive("late", names, { from: ["origin"] });
	await Promise.all(early);
	for (const name of names) expectWhole(stand.node(name));
	expect(stand.node("origin").line.sent - before).toBeLessThan(ALL);
});

test("what others are told is what has landed, in order, and begins anew when some of it was wrong", async () => {
	await using stand = await withOrigin(["a"]);
	const { shares } = stand.node("a");
	const key = "a".repeat(64);
	const ask = (epoch: string, since: number) =>
		shares.have(key, { epoch, since, turn: 0, waitMs: 0, digests: true }, new AbortController().signal);
	expect(await ask("", 0).catch((error: unknown) => error)).toMatchObject({ reason: "part_not_here" });
	const share = shares.open(key, {
		files: [],
		numbers: { count: 4, numberOf: () => 0, at: () => undefined, touched: () => ({ first: 0, end: 0 }) },
		pathOf: () => "",
	});
	share.landed(3, "x");
	share.landed(1, "y");
	share.landed(1, "y");
	const first = await ask("", 0);
	expect(first).toMatchObject({
		added: [
			[3, "x"],
			[1, "y"],
		],
		next: 2,
		complete: false,
	});
	share.landed(0, "z");
	expect(await ask(first.epoch, first.next)).toMatchObject({ added: [[0, "z"]], next: 3 });
	share.withdraw([3]);
	const anew = await ask(first.epoch, 3);
	expect(anew.epoch).not.toBe(first.epoch);
	expect(anew.added).toEqual([
		[1, "y"],
		[0, "z"],
	]);
	share[Symbol.dispose]();
	expect(await ask(anew.epoch, 0).catch((error: unknown) => error)).toMatchObject({
		reason: "part_not_here",
	});
});

test("only what has landed is given on, and a part that is only begun is not", async () => {
	await using stand = await withOrigin(["a"]);
	const { shares } = stand.node("a");
	const key = "b".repeat(64);
	const file = { index: 0, path: "x", sizeBytes: 3 * PART, partSizeBytes: PART, partCount: 3 } as PlannedFile;
	using share = shares.open(key, { files: [file], numbers: numberParts([file]), pathOf: () => "/tmp/x" });
	share.landed(1, "x");
	const asked = (start: number, end: number): string => {
		try {
			return shares.resolve(key, 0, () => ({ start, end })).path;
		} catch (error) {
			return asGswarmError(error).reason ?? "";
		}
	};
	expect(asked(PART, 2 * PART)).toBe("/tmp/x");
	expect(asked(PART + 5, PART + 9)).toBe("/tmp/x");
	expect(asked(PART - 1, 2 * PART)).toBe("part_not_here");
	expect(asked(PART, 2 * PART + 1)).toBe("part_not_here");
	expect(asked(0, PART)).toBe("part_not_here");
	share.withdraw([1]);
	expect(asked(PART, 2 * PART)).toBe("part_not_here");
});
