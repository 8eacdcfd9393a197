import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readdirSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { storageSource } from "../../src/core/transfer/transfer.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { faultySource, someBytes } from "../support/faulty-source.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

const PART = partSizeBytes(1);
const FILES = {
	"model.gguf": someBytes(2 * PART + 999, 1),
	"config.json": someBytes(10, 2),
	"empty.txt": new Uint8Array(),
};

async function withCopy(directory: string): Promise<TransferStand> {
	const held = await standTransfers(directory);
	await held.run({ source: faultySource(FILES), revision: REVISION });
	return held;
}

function damage(path: string, at: number): void {
	const fd = openSync(path, "r+");
	writeSync(fd, Uint8Array.of(readFileSync(path)[at] === 7 ? 8 : 7), 0, 1, at);
	closeSync(fd);
}

test("a copy from disk to dram is the same content, read once, and holds its source meanwhile", async () => {
	using dir = tempDir();
	await using held = await withCopy(dir.path);
	const { storage } = held.stand;
	const [original] = storage.copies();
	if (original === undefined) throw new Error("no copy");
	const phases: string[] = [];
	let refused: unknown;
	{
		using source = storageSource(storage, original, "copy to dram");
		refused = await storage.remove(MODEL, REVISION, "disk").catch((error: unknown) => error);
		const copy = await held.run({
			transferId: "copy-1",
			source,
			tier: "dram",
			trustPartDigests: true,
			receivingPhase: "copying",
			onProgress: ({ phase }) => phases.push(phase),
		});
		expect(copy).toMatchObject({
			tier: "dram",
			content_id: original.content_id,
			revision: original.revision,
		});
		for (const [name, bytes] of Object.entries(FILES)) {
			expect(sha256Hex(readFileSync(join(storage.pathOf(copy), name)))).toBe(sha256Hex(bytes));
		}
	}
	expect(refused).toMatchObject({ code: "CONFLICT", reason: "in_use" });
	expect(phases).toContain("copying");
	expect((await storage.remove(MODEL, REVISION, "disk")).freedBytes).toBe(2 * PART + 999 + 10);
	expect(storage.copies().map((copy) => copy.tier)).toEqual(["dram"]);
});

test.each([
	["trusting its part digests", true],
	["hashing the whole again", false],
])(
	"a source copy with a flipped bit is refused by name, and the source stays, %s",
	async (_title, trustPartDigests) => {
		using dir = tempDir();
		await using held = await withCopy(dir.path);
		const { storage } = held.stand;
		const [original] = storage.copies();
		if (original === undefined) throw new Error("no copy");
		damage(join(storage.pathOf(original), "model.gguf"), PART + 5);
		using source = storageSource(storage, original, "copy to dram");
		const error = await held
			.run({ transferId: "copy-1", source, tier: "dram", trustPartDigests })
			.catch((thrown: unknown) => thrown);
		expect(error).toMatchObject({
			reason: "checksum_mismatch",
			details: { file: "model.gguf" },
			retryable: false,
		});
		expect(storage.copies()).toEqual([{ ...original, last_used_at: expect.any(Number) }]);
		expect(readdirSync(join(dir.path, "dram/staging"))).toEqual([]);
	},
);

test("a source copy that lost its tail is refused by name", async () => {
	using dir = tempDir();
	await using held = await withCopy(dir.path);
	const { storage } = held.stand;
	const [original] = storage.copies();
	if (original === undefined) throw new Error("no copy");
	truncateSync(join(storage.pathOf(original), "model.gguf"), PART + 5);
	using source = storageSource(storage, original, "copy to dram");
	const error = await held
		.run({ transferId: "copy-1", source, tier: "dram" })
		.catch((thrown: unknown) => thrown);
	expect(error).toBeInstanceOf(GswarmError);
	expect(error).toMatchObject({ reason: "truncated_source", details: { file: "model.gguf" } });
});

test("a copy that is not ready is no source", async () => {
	using dir = tempDir();
	await using held = await withCopy(dir.path);
	const { storage } = held.stand;
	const [original] = storage.copies();
	if (original === undefined) throw new Error("no copy");
	await storage.remove(MODEL, REVISION, "disk");
	expect(() => storageSource(storage, original, "copy to dram")).toThrow("There is no model");
});

test("after another boot, staged parts are read again and only those that differ from their row are fetched", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const stop = new AbortController();
	const stopping = new GswarmError("RESOURCE_UNAVAILABLE", "stopping", {
		reason: "stopping",
		retryable: true,
	});
	const first = faultySource(FILES, {
		digests: "parts",
		onBlock: (path, position) => {
			if (path === "model.gguf" && position >= 2 * PART) stop.abort(stopping);
		},
	});
	await held.run({ source: first, signal: stop.signal, streams: 1 }).catch(() => {});
	const staged = join(dir.path, "disk/staging/download-1/model/model.gguf");
	// As a power cut does it: the row was durable, the bytes were not.
	damage(staged, 5);
	await held.restart({ bootId: "boot-2" });
	const second = faultySource(FILES, { digests: "parts" });
	// Nobody reads the whole again after it has come.
	const copy = await held.run({ source: second, trustPartDigests: true });
	expect(copy.status).toBe("ready");
	const asked = second.reads.filter((read) => read.path === "model.gguf").map((read) => read.start);
	expect(asked.sort((a, b) => a - b)).toEqual([0, 2 * PART]);
});

test("a staged file that is gone or has another length is fetched again, whatever its rows say", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const stop = new AbortController();
	const stopping = new GswarmError("RESOURCE_UNAVAILABLE", "stopping", {
		reason: "stopping",
		retryable: true,
	});
	const first = faultySource(FILES, {
		digests: "parts",
		onBlock: (path, position) => {
			if (path === "model.gguf" && position >= 2 * PART) stop.abort(stopping);
		},
	});
	await held.run({ source: first, signal: stop.signal, streams: 1 }).catch(() => {});
	truncateSync(join(dir.path, "disk/staging/download-1/model/model.gguf"), PART);
	const second = faultySource(FILES, { digests: "parts" });
	// Nobody reads the whole again after it has come.
	const copy = await held.run({ source: second, trustPartDigests: true });
	expect(sha256Hex(readFileSync(join(held.stand.storage.pathOf(copy), "model.gguf")))).toBe(
		sha256Hex(FILES["model.gguf"]),
	);
});
