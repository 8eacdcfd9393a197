import { expect, test } from "bun:test";
import { DETECTOR_VERSION, type Detected } from "../../src/schema/detected.ts";
import { parseRevision } from "../../src/schema/names.ts";
import {
	MODEL,
	manifestOf,
	publishFiles,
	REVISION,
	standStorage,
	writeFiles,
} from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

const DETECTED: Detected = {
	detector: DETECTOR_VERSION,
	format: "gguf",
	model_type: "llm",
	architecture: "llama",
	parameters: 7,
	precision: "Q4_K_M",
	context_length: 2048,
	license: null,
	weights_bytes: 12,
	kv_cache_bytes_per_token: 64,
	memory_bytes: 131_084,
};

test("what was read from a content's files is told of each of its copies, after a restart too", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const copy = await publishFiles(stand.storage);
	expect(copy.detected).toBeUndefined();
	const before = stand.storage.inventoryVersion();
	await stand.storage.setDetected(copy.content_id, DETECTED);
	expect(stand.storage.inventoryVersion()).toBeGreaterThan(before);
	const other = await publishFiles(stand.storage, { tier: "dram", transferId: "copy-1" });
	expect(other.detected).toEqual(DETECTED);
	await stand.restart();
	expect(stand.storage.copies().map(({ detected }) => detected)).toEqual([DETECTED, DETECTED]);
});

test("a copy may be published with what was read, and it goes with the last copy", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage } = stand;
	const files = { "a.gguf": "0123" };
	writeFiles(await storage.openStaging("disk", "download-1"), files);
	const about = { modelType: "llm", sourceUrl: null, format: "gguf", model: MODEL };
	const manifest = manifestOf(files);
	const input = {
		tier: "disk",
		transferId: "download-1",
		revision: REVISION,
		manifest,
		detected: DETECTED,
		...about,
	};
	const copy = await storage.publish(input);
	expect(storage.copy(MODEL, "disk")?.detected).toEqual(DETECTED);
	await storage.remove(MODEL, REVISION, "disk");
	expect(storage.detected(copy.content_id)).toBeUndefined();
	// Nothing is kept of a content that is not here.
	await storage.setDetected(copy.content_id, DETECTED);
	expect(storage.detected(copy.content_id)).toBeUndefined();
	const again = await publishFiles(storage, {
		files,
		transferId: "download-2",
		revision: parseRevision("r2"),
	});
	expect(again.content_id).toBe(copy.content_id);
	expect(again.detected).toBeUndefined();
});
