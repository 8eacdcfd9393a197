/** What holds for every kind of source, tried on each of them: transfer relies on it and on nothing else. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import type { ByteRange, Source, SourceFile } from "../../src/core/source/source.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";
import { type Content, type Faults, type Subject, SUBJECTS } from "./source-subjects.ts";

/** More than one block of a file. */
const SIZE_BYTES = 2_500_000;
const CONTENT: Content = { bytes: noise(1), other: noise(2) };
const HOSTILE = ["../../etc/x", "a\\b", "con", "a:b", ".gswarm-x", "trailing."];

function noise(seed: number): Uint8Array {
	const bytes = new Uint8Array(SIZE_BYTES);
	let state = seed * 2_654_435_761;
	for (let at = 0; at < SIZE_BYTES; at++) {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		bytes[at] = state >>> 24;
	}
	return bytes;
}
const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const failure = (work: () => unknown): Promise<Record<string, unknown>> =>
	Promise.try(work).then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
async function described(source: Source): Promise<SourceFile> {
	const { files } = await source.describe(signal());
	const file = files.find(({ sizeBytes }) => sizeBytes === SIZE_BYTES);
	if (file === undefined) throw new Error("the model is not described");
	return file;
}
async function bytesOf(source: Source, file: SourceFile, range?: ByteRange): Promise<Buffer> {
	return Buffer.from(await new Response(await source.read(file, range, signal())).arrayBuffer());
}
/** What came before the end or the failure. */
async function received(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
	const blocks: Uint8Array[] = [];
	try {
		for await (const block of stream) blocks.push(block);
	} catch {
		// How it ended is the transfer's to see.
	}
	return Buffer.concat(blocks);
}

for (const [kind, begin] of Object.entries(SUBJECTS)) {
	describe(`a source of the kind ${kind}`, () => {
		const on = async (work: (subject: Subject, directory: string) => Promise<void>): Promise<void> => {
			using dir = tempDir();
			await using subject = await begin(dir.path, CONTENT);
			await work(subject, dir.path);
		};

		test("describes the same thing twice, and again under the name that it gave itself", () =>
			on(async ({ open, reopen }) => {
				const first = await open().describe(signal());
				const second = await open().describe(signal());
				expect(second).toEqual(first);
				expect(first.sourceId).toMatch(/^[0-9a-f]{64}$/);
				expect(first.totalBytes).toBe(first.files.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0));
				if (reopen === undefined) return;
				const again = await reopen(first.uri).describe(signal());
				expect([again.sourceId, again.revision, again.uri]).toEqual([
					first.sourceId,
					first.revision,
					first.uri,
				]);
			}));

		test("claims no digest that is not the file's", () =>
			on(async ({ open }) => {
				const source = open();
				for (const file of (await source.describe(signal())).files) {
					if (file.digest === undefined) continue;
					const bytes = await bytesOf(source, file);
					const sha1 = new Bun.CryptoHasher("sha1").update(`blob ${bytes.length}\0`).update(bytes);
					expect(file.digest.hex).toBe(
						file.digest.algorithm === "sha256" ? sha256Hex(bytes) : sha1.digest("hex"),
					);
				}
			}));

		test("reads exactly the range that was asked for, many at once", () =>
			on(async ({ open }) => {
				const source = open();
				const file = await described(source);
				const ranges: ByteRange[] = [
					{ start: 0, end: 1 },
					{ start: SIZE_BYTES - 1, end: SIZE_BYTES },
					{ start: 0, end: SIZE_BYTES },
					{ start: 65_535, end: 65_537 },
					...Array.from({ length: 12 }, (_, at) => ({ start: at * 33_333, end: (at + 1) * 33_333 })),
				];
				const read = await Promise.all(ranges.map((range) => bytesOf(source, file, range)));
				for (const [at, { start, end }] of ranges.entries())
					expect(read[at]?.equals(CONTENT.bytes.subarray(start, end))).toBe(true);
				expect((await bytesOf(source, file)).equals(CONTENT.bytes)).toBe(true);
			}));

		test("never gives bytes of another version under the description of the first", () =>
			on(async ({ open, change }) => {
				const source = open();
				const file = await described(source);
				await change();
				const range = { start: 1000, end: 200_000 };
				try {
					expect((await bytesOf(source, file, range)).equals(CONTENT.bytes.subarray(1000, 200_000))).toBe(
						true,
					);
				} catch (error) {
					expect(asGswarmError(error)).toMatchObject({ code: "CONFLICT", reason: "source_changed" });
				}
			}));

		test("that has changed describes itself differently", () =>
			on(async ({ open, reopen, change }) => {
				const before = await open().describe(signal());
				await change();
				// What is sealed is described by its seal alone.
				if (reopen !== undefined)
					expect((await open().describe(signal())).sourceId).not.toBe(before.sourceId);
			}));

		test.each<[string, Faults, string, boolean]>([
			["the whole file where a range was asked", { ignoreRange: true }, "range_ignored", true],
			["another range", { wrongRange: true }, "wrong_range", false],
		])("refuses %s", (_what, faults, reason, retryable) =>
			on(async ({ open, set }) => {
				if (set === undefined) return;
				const source = open();
				const file = await described(source);
				set(faults);
				const refused = await failure(() => source.read(file, { start: 100, end: 200 }, signal()));
				expect(refused).toMatchObject({ code: "NETWORK_ERROR", reason, retryable });
			}),
		);

		test("whose connection is cut gives the beginning and nothing else", () =>
			on(async ({ open, set }) => {
				if (set === undefined) return;
				const source = open();
				const file = await described(source);
				set({ cutAfterBytes: 100_000 });
				const got = await received(await source.read(file, undefined, signal()));
				expect(got.length).toBeLessThanOrEqual(100_000);
				expect(got.equals(CONTENT.bytes.subarray(0, got.length))).toBe(true);
			}));

		test("whose connections are cut again and again is transferred whole, without asking for all of it each time", () =>
			on(async ({ open, set }, directory) => {
				mkdirSync(join(directory, "tiers"));
				await using stand = await standTransfers(join(directory, "tiers"));
				set?.({ cutAfterBytes: 600_000 });
				const copy = await stand.run({ source: open() });
				const manifest = stand.stand.storage.manifest(copy.content_id);
				expect(manifest?.files.find(({ size_bytes: size }) => size === SIZE_BYTES)?.sha256).toBe(
					sha256Hex(CONTENT.bytes),
				);
			}));

		test("ends with the caller's reason when it is aborted: before, while it waits, and in the middle of a body", () =>
			on(async ({ open, reopen, set }) => {
				const gone = new Error("the caller has gone");
				// What is sealed is described without asking anybody.
				if (reopen !== undefined) await expect(open().describe(AbortSignal.abort(gone))).rejects.toBe(gone);
				const source = open();
				const file = await described(source);
				await expect(source.read(file, undefined, AbortSignal.abort(gone))).rejects.toBe(gone);
				const controller = new AbortController();
				set?.({ stallAfterBytes: 50_000 });
				let bytes = 0;
				const reading = Promise.try(async () => {
					for await (const block of await source.read(file, undefined, controller.signal)) {
						bytes += block.length;
						if (set === undefined) controller.abort(gone);
					}
				});
				const ended = failure(() => reading);
				// Behind the proxy nothing comes at all: it waits for the answer.
				if (kind !== "bucket") await until("some bytes have come", () => bytes > 0);
				controller.abort(gone);
				expect((await ended)["reason"]).not.toBe("nothing failed");
				expect(bytes).toBeLessThan(SIZE_BYTES);
			}));

		test("shows its credential to its own origin alone", () =>
			on(async ({ secret }) => {
				if (secret === undefined) return;
				const source = secret.open();
				const { files } = await source.describe(signal());
				await Promise.allSettled(
					files.map(async (file) => received(await source.read(file, undefined, signal()))),
				);
				const seen = secret.seen();
				expect(seen.length).toBeGreaterThan(0);
				const leaked = seen.filter(({ origin, text }) => origin !== secret.at && text.includes(secret.value));
				expect(leaked).toEqual([]);
				const shown = seen.some(({ origin, text }) => origin === secret.at && text.includes(secret.value));
				expect(shown).toBe(secret.at !== "nowhere");
			}));

		test.each(HOSTILE)("with a file named %p is refused as a whole", (name) =>
			on(async ({ withName }) => {
				const source = withName(name);
				if (source === undefined) return;
				const refused = await failure(() => source.describe(signal()));
				expect(["unsafe_filename", "outside_import_folder"]).toContain(String(refused["reason"]));
			}),
		);
	});
}
