import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { choosePlace, type PlaceState } from "../../src/core/transfer/several-sources.ts";
import { severalSources } from "../../src/core/transfer/transfer.ts";
import type { PeerSource, Source } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { createLog } from "../../src/platform/log.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { faultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { storageSource } from "../../src/core/transfer/storage-source.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const BYTES = someBytes(12 * PART + 99, 1);
const FILES = { "model.gguf": BYTES, "config.json": someBytes(10, 2) };

const place = (change: Partial<PlaceState> = {}): PlaceState => ({
	waitingBytes: 0,
	rateBytesPerSecond: undefined,
	coolUntilMs: 0,
	...change,
});

test("a request goes to who will have answered it soonest; who is new is tried once, who rests is not", () => {
	const fast = place({ rateBytesPerSecond: 100 });
	const slow = place({ rateBytesPerSecond: 10 });
	expect(choosePlace([slow, fast], 100, 0)).toBe(1);
	// With nine requests there the slow one is as soon.
	expect(choosePlace([slow, { ...fast, waitingBytes: 950 }], 100, 0)).toBe(0);
	expect(choosePlace([slow, fast, place()], 100, 0)).toBe(2);
	expect(choosePlace([slow, fast, place({ waitingBytes: 100 })], 100, 0)).toBe(1);
	expect(choosePlace([slow, { ...fast, coolUntilMs: 5 }], 100, 0)).toBe(0);
	expect(choosePlace([slow, { ...fast, coolUntilMs: 5 }], 100, 5)).toBe(1);
	expect(choosePlace([place({ coolUntilMs: Infinity })], 100, 1e12)).toBeUndefined();
});

test("streams of several sources of any rates end about as soon as they can", () => {
	fc.assert(
		fc.property(fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 4 }), (rates) => {
			const places = rates.map((rate) => place({ rateBytesPerSecond: rate }));
			for (let request = 0; request < 100; request++) {
				const at = choosePlace(places, 10, 0) ?? -1;
				(places[at] as PlaceState).waitingBytes += 10;
			}
			const ends = places.map(({ waitingBytes }, at) => waitingBytes / (rates[at] ?? 1));
			const best = 1000 / rates.reduce((sum, rate) => sum + rate, 0);
			// The last request may be one at the slowest that is used.
			expect(Math.max(...ends)).toBeLessThanOrEqual(best + 10 / Math.min(...rates));
		}),
	);
});

interface Giver {
	source: PeerSource;
	/** Bytes that were asked of it. */
	asked: number;
	fail: (range: { start: number; end: number }) => GswarmError | undefined;
	change: (bytes: Uint8Array) => Uint8Array;
}

async function standGivers(
	names: readonly string[],
	work: (stand: {
		receiver: TransferStand;
		givers: Record<string, Giver>;
		events: Record<string, unknown>[];
		receive(): Promise<{ sources: string[] }>;
	}) => Promise<void>,
): Promise<void> {
	using fromDir = tempDir();
	using toDir = tempDir();
	await using sender = await standTransfers(fromDir.path);
	await using receiver = await standTransfers(toDir.path);
	const { storage } = sender.stand;
	const copy = await sender.run({ source: faultySource(FILES), revision: REVISION });
	using base = storageSource(storage, copy, "test");
	const events: Record<string, unknown>[] = [];
	const log = createLog({ clock: systemClock, write: (line) => void events.push(JSON.parse(line)) });
	const givers: Record<string, Giver> = {};
	for (const name of names) givers[name] = giverOf(base);
	const [first, ...rest] = Object.entries(givers).map(([device, { source }]) => ({ device, source }));
	if (first === undefined) throw new Error("no giver");
	await work({
		receiver,
		givers,
		events,
		async receive() {
			const source = severalSources({ clock: systemClock, log }, [first, ...rest]);
			const got = await receiver.run({ source, revision: REVISION, trustPartDigests: true, streams: 4 });
			const at = join(receiver.stand.storage.pathOf(got), "model.gguf");
			expect(readFileSync(at).equals(Buffer.from(BYTES))).toBe(true);
			return { sources: source.givers() };
		},
	});
}

function giverOf(base: Source): Giver {
	const giver: Giver = {
		asked: 0,
		fail: () => undefined,
		change: (bytes) => bytes,
		source: {
			describe: (signal) => base.describe(signal),
			touch: () => Promise.resolve(),
			async read(file, range, signal) {
				const wanted = range ?? { start: 0, end: file.sizeBytes ?? 0 };
				giver.asked += wanted.end - wanted.start;
				const failure = giver.fail(wanted);
				if (failure !== undefined) throw failure;
				const body = await base.read(file, range, signal);
				return body.pipeThrough(
					new TransformStream<Uint8Array, Uint8Array>({
						transform: (bytes, controller) => controller.enqueue(giver.change(bytes)),
					}),
				);
			},
		},
	};
	return giver;
}

const away = (): GswarmError =>
	new GswarmError("NETWORK_ERROR", "away", { reason: "connection_lost", retryable: true });

test("a copy comes from all that have it, each byte once", () =>
	standGivers(["node1:disk", "node2:disk", "node3:disk"], async ({ givers, receive }) => {
		const { sources } = await receive();
		expect(sources.length).toBeGreaterThan(1);
		const asked = Object.values(givers).reduce((sum, one) => sum + one.asked, 0);
		expect(asked).toBe(BYTES.length + 10);
	}));

test.each([
	["does not answer", away],
	["has it no longer", () => new GswarmError("TASK_FAILED", "gone", { reason: "not_found" })],
])("a source that %s costs nothing but its part of the rate", (_what, failure) =>
	standGivers(["node1:disk", "node2:disk"], async ({ givers, receive }) => {
		(givers["node1:disk"] as Giver).fail = failure;
		expect(await receive()).toEqual({ sources: ["node2:disk"] });
	}),
);

test("who gives what is not right is asked no more, and the part comes from another", () =>
	standGivers(["node1:disk", "node2:disk"], async ({ givers, receive, events }) => {
		const liar = givers["node1:disk"] as Giver;
		liar.change = (bytes) => bytes.map((byte) => byte ^ 1);
		await receive();
		expect(events.filter(({ event }) => event === "transfer.source_dropped")).toMatchObject([
			{ device: "node1:disk" },
		]);
	}));

test("with every source away, the transfer says so and is kept for another run", () =>
	standGivers(["node1:disk", "node2:disk"], async ({ givers, receive, receiver }) => {
		for (const one of Object.values(givers)) one.fail = away;
		const failure = await receive().catch((error: unknown) => error);
		expect(failure).toMatchObject({ code: "NETWORK_ERROR", reason: "connection_lost", retryable: true });
		for (const one of Object.values(givers)) one.fail = () => undefined;
		await receive();
		expect(receiver.stand.storage.copies().map(({ model_name }) => model_name)).toEqual([MODEL]);
	}));
