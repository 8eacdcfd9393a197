import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createDetection } from "../../src/agent/node/detection.ts";
import { silentLog } from "../../src/platform/log.ts";
import { parseModelName } from "../../src/schema/names.ts";
import { writeSafetensorsRepository } from "../support/known-answer-model.ts";
import { publishFiles, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

function repository(directory: string): Record<string, Uint8Array> {
	mkdirSync(directory);
	writeSafetensorsRepository(directory, { sizeBytes: 1_000_000, shards: 2 });
	return Object.fromEntries(
		readdirSync(directory).map((name) => [name, readFileSync(join(directory, name))]),
	);
}

test("copies of which nobody knows what they are are looked at: those that are there, and those that come", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, io } = stand;
	const [a, b] = [parseModelName("a"), parseModelName("b")];
	const files = repository(join(dir.path, "tiny"));
	const first = await publishFiles(storage, { model: a, files });
	await using detection = createDetection({ storage, io, log: silentLog });
	await detection.idle();
	expect(storage.detected(first.content_id)).toMatchObject({
		format: "safetensors",
		model_type: "llm",
		architecture: "LlamaForCausalLM",
		precision: "F32",
		context_length: 2048,
	});
	const second = await publishFiles(storage, {
		model: b,
		transferId: "download-2",
		files: { "b.gguf": "no header" },
	});
	await until("it was looked at", () => storage.detected(second.content_id) !== undefined);
	expect(storage.detected(second.content_id)).toMatchObject({ format: "unknown", parameters: null });
});

test("a copy whose files are gone stops nothing: the next one is looked at", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path);
	const { storage, io } = stand;
	const [a, b] = [parseModelName("a"), parseModelName("b")];
	const lost = await publishFiles(storage, { model: a, files: { "a.gguf": "GGUF" } });
	const kept = await publishFiles(storage, {
		model: b,
		transferId: "download-2",
		files: repository(join(dir.path, "tiny")),
	});
	rmSync(storage.pathOf(lost), { recursive: true });
	await using detection = createDetection({ storage, io, log: silentLog });
	await detection.idle();
	expect(storage.detected(kept.content_id)?.parameters).toBeGreaterThan(100_000);
});
