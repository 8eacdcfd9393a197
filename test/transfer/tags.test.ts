/** Tags of parts: who changes bytes on a line without TLS cannot make them, and they cost no second look at a file. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { createCipheriv } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerSource } from "../../src/core/source/source.ts";
import { createGrants, tagParts } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { createPartTag, sha256Hex } from "../../src/platform/hash.ts";
import { systemIds } from "../../src/platform/ids.ts";
import type { GswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest, type Manifest, partSizeBytes } from "../../src/schema/manifest.ts";
import { openDataPlane } from "../support/data-plane.ts";
import { someBytes } from "../support/faulty-source.ts";
import { type RawRequest, rangeHead, startRawPeer } from "../support/raw-peer.ts";
import { manifestOf, MODEL, publishFiles, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers } from "../support/transfer-stand.ts";

setDefaultTimeout(120_000);

const KEY = "canary-key";
const PART = partSizeBytes(1);
const PARTS = 5;
const WEIGHTS = someBytes((PARTS - 1) * PART + 4321, 21);
const FORGED = Uint8Array.from(WEIGHTS);
FORGED[PART + 5] = (FORGED[PART + 5] ?? 0) ^ 1;
const signal = new AbortController().signal;

const plane = openDataPlane();
afterAll(() => plane[Symbol.asyncDispose]());

const tagOf = (bytes: Uint8Array, part: number, key = KEY): string => {
	const tag = createPartTag(key, { file: 0, part });
	tag.update(bytes.subarray(part * PART, (part + 1) * PART));
	return tag.digestHex();
};

test("a tag is the GMAC of a part, whatever the pieces, and another one for every file, part and key", () => {
	const bytes = someBytes(100_000, 3);
	const nonce = Buffer.from("000000070000000000000009", "hex");
	const gmac = createCipheriv("aes-256-gcm", Buffer.from(sha256Hex(KEY), "hex"), nonce).setAAD(bytes);
	gmac.final();
	const made = (key: string, file: number, part: number, pieces: readonly Uint8Array[]): string => {
		const tag = createPartTag(key, { file, part });
		for (const piece of pieces) tag.update(piece);
		return tag.digestHex();
	};
	expect(made(KEY, 7, 9, [bytes])).toBe(gmac.getAuthTag().toString("hex"));
	expect(made(KEY, 7, 9, [bytes.subarray(0, 33), bytes.subarray(33)])).toBe(made(KEY, 7, 9, [bytes]));
	const all = [made(KEY, 7, 9, [bytes]), made(KEY, 7, 8, [bytes]), made(KEY, 6, 9, [bytes])];
	expect(new Set([...all, made("another", 7, 9, [bytes])]).size).toBe(4);
});

test("a node tells tags of the parts that are asked for, each made once, and no more than a request has", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	using grants = createGrants({ clock: systemClock, ids: systemIds });
	const { content_id: contentId } = await publishFiles(stand.storage, { files: { "model.gguf": WEIGHTS } });
	const { token, tagKey } = grants.grant({ contentId, receiver: "node2", ttlMs: 60_000 });
	const grant = grants.check(token, contentId);
	expect(grant.tagKey).toBe(tagKey);
	expect(tagKey).not.toContain(token);
	const ask = (first: number, end: number, fileIndex = 0) =>
		tagParts(stand, grant, { contentId, fileIndex, first, end }, signal);
	expect(await ask(1, 3)).toEqual([1, 2].map((part) => tagOf(WEIGHTS, part, tagKey)));
	// The file changes: what was tagged is told as it was, or the two tags would give the key away.
	const [copy] = stand.storage.copies();
	if (copy === undefined) throw new Error("no copy");
	writeFileSync(join(stand.storage.pathOf(copy), "model.gguf"), Buffer.alloc(WEIGHTS.length));
	expect(await ask(0, 3)).toEqual([
		tagOf(Buffer.alloc(PART), 0, tagKey),
		...[1, 2].map((part) => tagOf(WEIGHTS, part, tagKey)),
	]);
	for (const [first, end] of [
		[2, 2],
		[3, 2],
		[0, PARTS + 1],
	] as const)
		await expect(ask(first, end)).rejects.toMatchObject({ reason: "range_not_satisfiable" });
	await expect(ask(0, 1, 1)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

/** A manifest whose XXH64 are those of the forged bytes: a second pre-image of XXH64 is easily made. */
function manifestFor(change: Partial<Manifest["files"][number]> = {}): Manifest {
	const manifest = manifestOf({ "model.gguf": FORGED });
	const { sha256 } = manifestOf({ "model.gguf": WEIGHTS }).files[0] ?? { sha256: "" };
	return { ...manifest, files: manifest.files.map((file) => ({ ...file, sha256, ...change })) };
}

async function copyFrom({
	manifest,
	bytes,
	tags,
	tagKey = KEY,
}: {
	manifest: Manifest;
	bytes: Uint8Array;
	/** Undefined: the peer has none. */
	tags: ((part: number) => string) | undefined;
	tagKey?: string;
}) {
	const asked: string[] = [];
	await using peer = await startRawPeer((request: RawRequest) => {
		const [, first, end] = /^GET \/tags\/\w+\/0\?first=(\d+)&end=(\d+) /.exec(request.head) ?? [];
		if (first === undefined || end === undefined) {
			request.socket.write(rangeHead(request, bytes.byteLength));
			request.socket.write(bytes.subarray(request.start, request.end));
			return;
		}
		asked.push(request.head);
		const list = Array.from({ length: Number(end) - Number(first) }, (_, at) => tags?.(Number(first) + at));
		const body = JSON.stringify({ tags: list });
		const status = tags === undefined ? "404 Not Found" : "200 OK";
		request.socket.write(`HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
	});
	const dir = tempDir();
	const held = await standTransfers(dir.path, { progressBytes: 1024 }, { plane });
	await using _ends = {
		async [Symbol.asyncDispose]() {
			await held[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
	const source = peerSource(
		{ clock: systemClock },
		{
			baseUrl: `http://127.0.0.1:${peer.port}`,
			grant: "g",
			tagKey,
			manifest,
			model: MODEL,
			revision: REVISION,
		},
	);
	const failure = await held.run({ source, streams: 4 }).then(
		() => undefined,
		(error: unknown) => error as GswarmError,
	);
	const [copy] = held.stand.storage.copies();
	const got = copy && readFileSync(join(held.stand.storage.pathOf(copy), "model.gguf"));
	return { failure, got, copy, asked };
}

test("tags stand for the sha256 of a file that came without TLS", async () => {
	// Nobody reads the file again: this sha256 is of nothing.
	const manifest = { ...manifestOf({ "model.gguf": WEIGHTS }) };
	manifest.files = manifest.files.map((file) => ({ ...file, sha256: "0".repeat(64) }));
	const { failure, got, copy, asked } = await copyFrom({
		manifest,
		bytes: WEIGHTS,
		tags: (part) => tagOf(WEIGHTS, part),
	});
	expect(failure).toBeUndefined();
	expect(got?.equals(WEIGHTS)).toBe(true);
	expect(copy?.content_id).toBe(sha256Hex(canonicalManifest(manifest)));
	for (const head of asked) expect(head.toLowerCase()).toContain("authorization: bearer g\r\n");
	expect(asked.length).toBeGreaterThan(0);
	expect(asked.join()).not.toContain(KEY);
});

test("bytes that were changed on their way so that their XXH64 stays are refused by their tags", async () => {
	const { failure, got } = await copyFrom({
		manifest: manifestFor(),
		bytes: FORGED,
		tags: (part) => tagOf(WEIGHTS, part),
	});
	expect(failure).toMatchObject({ reason: "checksum_mismatch", retryable: false });
	expect(failure?.message).toContain("tag");
	expect(got).toBeUndefined();
});

test("who changes bytes and does not know the key cannot make their tags", async () => {
	const { failure } = await copyFrom({
		manifest: manifestFor(),
		bytes: FORGED,
		tags: (part) => tagOf(FORGED, part, "guessed"),
	});
	expect(failure).toMatchObject({ reason: "checksum_mismatch" });
});

test.each([
	["are not to be had", undefined],
	["are too few", () => undefined as unknown as string],
	["are no tags", () => "x"],
])("tags that %s leave the word to the sha256", async (_what, tags) => {
	const wrong = await copyFrom({ manifest: manifestFor(), bytes: FORGED, tags });
	expect(wrong.failure).toMatchObject({ reason: "checksum_mismatch" });
	expect(wrong.failure?.message).toContain("sha256");
	const right = await copyFrom({ manifest: manifestOf({ "model.gguf": WEIGHTS }), bytes: WEIGHTS, tags });
	expect(right.failure).toBeUndefined();
	expect(right.got?.equals(WEIGHTS)).toBe(true);
});
