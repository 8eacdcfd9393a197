/** Tags of parts: who changes bytes on a line without TLS cannot make them, and they cost no second look at a file. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { createCipheriv } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerSource } from "../../src/core/source/source.ts";
import { MAX_TAGGED_CONTENTS, type TagCollection, type Tags } from "../../src/core/transfer/tags.ts";
import { createTags } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { createPartTag, fileTagKey, sha256Hex } from "../../src/platform/hash.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { GswarmError } from "../../src/schema/errors.ts";
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

const FILE = "model.gguf";
const tagOf = (bytes: Uint8Array, part: number, secret = KEY): string => {
	const tag = createPartTag(fileTagKey(secret, FILE), part);
	tag.update(bytes.subarray(part * PART, (part + 1) * PART));
	return tag.digestHex();
};

test("a tag is the GMAC of a part, whatever the pieces, and another one for every file, part and secret", () => {
	const bytes = someBytes(100_000, 3);
	const key = fileTagKey(KEY, "a/b");
	const nonce = Buffer.from("000000000000000000000009", "hex");
	const gmac = createCipheriv("aes-256-gcm", Buffer.from(key, "hex"), nonce).setAAD(bytes);
	gmac.final();
	const made = (secret: string, path: string, part: number, pieces: readonly Uint8Array[]): string => {
		const tag = createPartTag(fileTagKey(secret, path), part);
		for (const piece of pieces) tag.update(piece);
		return tag.digestHex();
	};
	expect(made(KEY, "a/b", 9, [bytes])).toBe(gmac.getAuthTag().toString("hex"));
	expect(made(KEY, "a/b", 9, [bytes.subarray(0, 33), bytes.subarray(33)])).toBe(made(KEY, "a/b", 9, [bytes]));
	const all = [made(KEY, "a/b", 9, [bytes]), made(KEY, "a/b", 8, [bytes]), made(KEY, "a/c", 9, [bytes])];
	expect(new Set([...all, made("another", "a/b", 9, [bytes])]).size).toBe(4);
});

/** What a worker answers is awaited before it is looked at: `rejects` waits without letting its messages in. */
const reasonOf = (error: unknown): unknown => (error instanceof GswarmError ? error.reason : error);

async function standTags(path: string) {
	const stand = await standStorage(path);
	const { content_id: contentId } = await publishFiles(stand.storage, { files: { [FILE]: WEIGHTS } });
	const tags = createTags({ ...stand, ids: systemIds });
	const [copy] = stand.storage.copies();
	if (copy === undefined) throw new Error("no copy");
	return {
		stand,
		contentId,
		tags,
		overwrite: () => writeFileSync(join(stand.storage.pathOf(copy), FILE), Buffer.alloc(WEIGHTS.length)),
		[Symbol.asyncDispose]: () => stand[Symbol.asyncDispose](),
	};
}

test("a node tells tags of the parts that are asked for, each made once, and no more than a request has", async () => {
	using dir = tempDir();
	await using held = await standTags(dir.path);
	const { tags, contentId } = held;
	const key = tags.keyOf(contentId);
	expect(tags.keyOf(contentId)).toBe(key);
	expect(tags.keyOf("another")).not.toBe(key);
	const ask = (first: number, end: number, fileIndex = 0) =>
		tags.parts(key, { contentId, fileIndex, first, end }, signal);
	expect(await ask(1, 3)).toEqual([1, 2].map((part) => tagOf(WEIGHTS, part, key)));
	// The file changes: what was tagged is told as it was, or the two tags would give the key away.
	held.overwrite();
	expect(await ask(1, 3)).toEqual([1, 2].map((part) => tagOf(WEIGHTS, part, key)));
	// And what is not as its manifest says is not tagged: another node may have told the tag of the right bytes.
	expect(await ask(0, 3).catch(reasonOf)).toBe("source_damaged");
	for (const [first, end] of [
		[2, 2],
		[3, 2],
		[0, PARTS + 1],
	] as const)
		await expect(ask(first, end)).rejects.toMatchObject({ reason: "range_not_satisfiable" });
	await expect(ask(0, 1, 1)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("what was tagged while it came is told without reading it, under the secret that it came with", async () => {
	using dir = tempDir();
	await using held = await standTags(dir.path);
	const { tags, contentId } = held;
	const collection = tags.collect("given");
	expect(collection.keyOf(FILE)).toBe(fileTagKey("given", FILE));
	collection.add(FILE, ["first", "second"]);
	held.overwrite();
	collection.sealed(contentId);
	expect(tags.keyOf(contentId)).toBe("given");
	expect(await tags.parts("given", { contentId, fileIndex: 0, first: 0, end: 2 }, signal)).toEqual([
		"first",
		"second",
	]);
});

test("who was given a secret before another copy came keeps it", async () => {
	using dir = tempDir();
	await using held = await standTags(dir.path);
	const key = held.tags.keyOf(held.contentId);
	held.tags.collect(undefined).sealed(held.contentId);
	expect(held.tags.keyOf(held.contentId)).toBe(key);
});

test("only so many contents are remembered, and the secret of an older one still counts", async () => {
	using dir = tempDir();
	await using held = await standTags(dir.path);
	const { tags, contentId } = held;
	const key = tags.keyOf(contentId);
	for (let count = 0; count < MAX_TAGGED_CONTENTS; count++) tags.keyOf(`content ${count}`);
	expect(tags.keyOf(contentId)).not.toBe(key);
	expect(await tags.parts(key, { contentId, fileIndex: 0, first: 1, end: 2 }, signal)).toEqual([
		tagOf(WEIGHTS, 1, key),
	]);
});

test("what was tagged under secrets that no content has any more is forgotten, and what has one is not", async () => {
	using dir = tempDir();
	await using held = await standTags(dir.path);
	const { tags, contentId } = held;
	const last = PARTS - 1;
	const ask = (key: string) => tags.parts(key, { contentId, fileIndex: 0, first: last, end: PARTS }, signal);
	const key = tags.keyOf(contentId);
	await ask(key);
	await ask("orphan");
	for (let count = 0; count < MAX_TAGGED_CONTENTS; count++) await ask(`orphan ${count}`);
	held.overwrite();
	expect(await ask("orphan").catch(reasonOf)).toBe("source_damaged");
	expect(await ask(key)).toEqual([tagOf(WEIGHTS, last, key)]);
});

/** A manifest whose XXH64 are those of the forged bytes: a second pre-image of XXH64 is easily made. */
function manifestFor(change: Partial<Manifest["files"][number]> = {}): Manifest {
	const manifest = manifestOf({ [FILE]: FORGED });
	const { sha256 } = manifestOf({ [FILE]: WEIGHTS }).files[0] ?? { sha256: "" };
	return { ...manifest, files: manifest.files.map((file) => ({ ...file, sha256, ...change })) };
}

async function copyFrom({
	manifest,
	bytes,
	tags,
	collect,
	...more
}: {
	manifest: Manifest;
	bytes: Uint8Array;
	/** Undefined: the peer has none. */
	tags: ((part: number) => string) | undefined;
	tagKey?: string | undefined;
	collect?: (key: string | undefined) => TagCollection;
}) {
	const tagKey = "tagKey" in more ? more.tagKey : KEY;
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
	const held = await standTransfers(
		dir.path,
		{ progressBytes: 1024 },
		{ plane, tags: collect && { store: { collect } as Tags, isWanted: () => true } },
	);
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
	const got = copy && readFileSync(join(held.stand.storage.pathOf(copy), FILE));
	return { failure, got, copy, asked };
}

test("what comes is tagged on its way, for others who receive it from here", async () => {
	const asked: string[] = [];
	const store = (key: string | undefined): TagCollection => {
		asked.push(key ?? "none");
		return {
			keyOf: (path) => fileTagKey(key ?? KEY, path),
			add: (path, tags) => void asked.push(path, ...tags),
			sealed: (contentId) => void asked.push(contentId),
		};
	};
	const tags = Array.from({ length: PARTS }, (_, part) => tagOf(WEIGHTS, part));
	const manifest = manifestOf({ [FILE]: WEIGHTS });
	const contentId = sha256Hex(canonicalManifest(manifest));
	const tagOfPart = (part: number): string => tagOf(WEIGHTS, part);
	const fromPeer = await copyFrom({ manifest, bytes: WEIGHTS, tags: tagOfPart, collect: store });
	expect(fromPeer.failure).toBeUndefined();
	expect(asked.splice(0)).toEqual([KEY, FILE, ...tags, contentId]);
	// Read for its sha256, it is tagged in the same pass.
	const byPass = await copyFrom({
		manifest,
		bytes: WEIGHTS,
		tags: undefined,
		tagKey: undefined,
		collect: store,
	});
	expect(byPass.failure).toBeUndefined();
	expect(asked).toEqual(["none", FILE, ...tags, contentId]);
});

test("tags stand for the sha256 of a file that came without TLS", async () => {
	// Nobody reads the file again: this sha256 is of nothing.
	const manifest = { ...manifestOf({ [FILE]: WEIGHTS }) };
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
	// Two tags of different bytes with the same number give the key away.
	const said = JSON.stringify([failure, failure?.message, failure?.details]);
	expect(said).not.toContain(tagOf(FORGED, 1));
	expect(said).not.toMatch(/[0-9a-f]{32}/);
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
	const right = await copyFrom({ manifest: manifestOf({ [FILE]: WEIGHTS }), bytes: WEIGHTS, tags });
	expect(right.failure).toBeUndefined();
	expect(right.got?.equals(WEIGHTS)).toBe(true);
});
