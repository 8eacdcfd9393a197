import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guessModelType } from "../../src/core/source/detect.ts";
import {
	detectModel,
	inspectFiles,
	type ModelFacts,
	openSource,
	type SourceOptions,
} from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { createIoPool } from "../../src/platform/io-pool.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type FileServer, startFileServer } from "../support/file-server.ts";
import { writeGguf, writeSafetensorsRepository } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";

const dir = tempDir();
let hub: Hub;
let files: FileServer;
let ggufBytes: number;

beforeAll(() => {
	const tiny = join(dir.path, "tiny");
	mkdirSync(tiny);
	writeSafetensorsRepository(tiny, { sizeBytes: 8_000_000, shards: 3 });
	writeFileSync(join(tiny, "README.md"), "---\nlicense: apache-2.0\ntags: [x]\n---\n# Tiny\n");
	for (const name of ["gguf", "odd", "cut"]) mkdirSync(join(dir.path, name));
	ggufBytes = writeGguf(join(dir.path, "gguf/tiny.gguf"), { sizeBytes: 8_000_000 }).sizeBytes;
	writeFileSync(join(dir.path, "cut/LICENSE"), "\n  MIT License  \n\nCopyright\n");
	writeFileSync(join(dir.path, "odd/model.safetensors"), "this is no header at all");
	writeFileSync(join(dir.path, "odd/README.md"), "---\nlicense: other\nlicense_name: tiny-licence\n---\n");
	writeFileSync(
		join(dir.path, "odd/config.json"),
		JSON.stringify({
			architectures: ["LlavaForConditionalGeneration"],
			text_config: { max_position_embeddings: 4096, torch_dtype: "float16" },
			quantization_config: { quant_method: "gptq", bits: 4 },
		}),
	);
	writeFileSync(
		join(dir.path, "cut/cut.gguf"),
		readFileSync(join(dir.path, "gguf/tiny.gguf")).subarray(0, 5000),
	);
	const repository = (name: string) => ({ dir: join(dir.path, name) });
	hub = startHub({
		repositories: Object.fromEntries(["tiny", "gguf", "odd", "cut"].map((n) => [`acme/${n}`, repository(n)])),
	});
	files = startFileServer({ dir: join(dir.path, "gguf") });
});
afterAll(() => {
	hub.stop();
	files.stop();
	dir[Symbol.dispose]();
});
afterEach(() => {
	hub.clearFaults();
	hub.clearLog();
	files.exchanges.length = 0;
	files.set({ acceptRange: undefined, cutAfterBytes: undefined, sendLength: undefined });
});

async function inspect(uri: string, options: SourceOptions = {}): Promise<ModelFacts> {
	const outbound = createOutbound(
		{ clock: systemClock, log: silentLog },
		{ allow: [hub.url, hub.cdnUrl, files.url] },
	);
	const source = openSource(uri, { outbound, clock: systemClock, hub: { endpoint: hub.url }, ...options });
	const signal = AbortSignal.timeout(20_000);
	return await inspectFiles(source, await source.describe(signal), signal);
}
const bodyBytes = (): number => hub.log().reduce((sum, { bytesSent }) => sum + bytesSent, 0);

describe("before anything is downloaded", () => {
	test("a repository of safetensors tells parameters, precision, architecture, context and licence", async () => {
		const facts = await inspect("acme/tiny");
		expect(facts).toMatchObject({
			format: "safetensors",
			modelType: "llm",
			architecture: "LlamaForCausalLM",
			precision: "F32",
			license: "apache-2.0",
			contextLength: 2048,
			notes: [],
		});
		// f32: four bytes each, and nothing but the headers besides.
		expect(facts.parameterCount).toBeGreaterThan(1_900_000);
		expect(facts.parameterCount).toBeLessThan(2_600_000);
	});

	test("no more of it is read than headers are long", async () => {
		await inspect("acme/tiny");
		expect(bodyBytes()).toBeLessThan(600_000);
	});

	test("a GGUF file tells the same from its own header, its licence too", async () => {
		const facts = await inspect("acme/gguf");
		expect(facts).toMatchObject({
			format: "gguf",
			architecture: "llama",
			contextLength: 2048,
			license: "0bsd",
			notes: [],
		});
		expect((facts.parameterCount ?? 0) * 4).toBeGreaterThan(ggufBytes * 0.9);
		expect((facts.parameterCount ?? 0) * 4).toBeLessThan(ggufBytes);
	});

	test("a file on a web server is read in ranges, or from its start where there are none", async () => {
		const whole = await inspect(`${files.url}/tiny.gguf`);
		files.set({ acceptRange: false });
		expect(await inspect(`${files.url}/tiny.gguf`)).toEqual(whole);
		expect(whole.architecture).toBe("llama");
	});

	test("a header that is none is a note; what else can be told is told", async () => {
		const facts = await inspect("acme/odd");
		expect(facts).toMatchObject({
			modelType: "multimodal",
			architecture: "LlavaForConditionalGeneration",
			contextLength: 4096,
			precision: "gptq 4-bit",
			license: "tiny-licence",
			parameterCount: undefined,
		});
		expect(facts.format).toBe("unknown");
		expect(facts.notes[0]).toContain("corrupt_safetensors");
		expect(facts.notes[1]).toContain("0 of 1 headers");
	});

	test("a GGUF file that is cut off says so", async () => {
		const facts = await inspect("acme/cut");
		expect(facts.parameterCount).toBeUndefined();
		expect(facts.license).toBe("MIT License");
		expect(facts.notes[0]).toContain("truncated_gguf");
		expect(facts).toMatchObject({ format: "unknown", weightsBytes: undefined });
	});

	test("weights and the memory of a token of context are told by either form of a model", async () => {
		const [repository, gguf] = [await inspect("acme/tiny"), await inspect("acme/gguf")];
		expect(repository.weightsBytes).toBe((repository.parameterCount ?? 0) * 4);
		expect(gguf.weightsBytes).toBe((gguf.parameterCount ?? 0) * 4);
		expect(gguf.kvCacheBytesPerToken).toBe(repository.kvCacheBytesPerToken);
		expect(gguf.kvCacheBytesPerToken).toBeGreaterThan(0);
	});

	test("files that are here tell what their source told", async () => {
		await using io = createIoPool({ threads: 1 });
		for (const name of ["tiny", "gguf"]) {
			const directory = join(dir.path, name);
			const sizes = readdirSync(directory).map((path) => ({
				path,
				size_bytes: statSync(join(directory, path)).size,
			}));
			const facts = await inspect(`acme/${name}`);
			expect(
				await detectModel(io, (path) => join(directory, path), sizes, AbortSignal.timeout(20_000)),
			).toMatchObject({
				format: facts.format,
				model_type: facts.modelType,
				architecture: facts.architecture ?? null,
				parameters: facts.parameterCount ?? null,
				precision: facts.precision ?? null,
				context_length: facts.contextLength ?? null,
				license: facts.license ?? null,
				weights_bytes: facts.weightsBytes ?? null,
				kv_cache_bytes_per_token: facts.kvCacheBytesPerToken ?? null,
				memory_bytes: (facts.weightsBytes ?? 0) + (facts.kvCacheBytesPerToken ?? 0) * 2048,
			});
		}
	});

	test("an encoder keeps no cache, and an architecture of GGUF tells what kind it is", async () => {
		expect(guessModelType(["x.gguf"], undefined, "nomic-bert")).toBe("embedding");
		await using io = createIoPool({ threads: 1 });
		const directory = join(dir.path, "encoder");
		mkdirSync(directory);
		const config = {
			architectures: ["BertModel"],
			num_hidden_layers: 12,
			num_attention_heads: 12,
			hidden_size: 768,
		};
		const text = JSON.stringify(config);
		writeFileSync(join(directory, "config.json"), text);
		const listed = [{ path: "config.json", size_bytes: text.length }];
		expect(
			await detectModel(io, (path) => join(directory, path), listed, AbortSignal.timeout(20_000)),
		).toMatchObject({
			model_type: "embedding",
			kv_cache_bytes_per_token: null,
		});
	});

	test("a link among the files of a model is not followed", async () => {
		await using io = createIoPool({ threads: 1 });
		const directory = join(dir.path, "links");
		mkdirSync(directory);
		for (const name of ["config.json", "model-00001-of-00003.safetensors"])
			symlinkSync(join(dir.path, "tiny", name), join(directory, name));
		const listed = readdirSync(directory).map((path) => ({ path, size_bytes: 100_000 }));
		expect(
			await detectModel(io, (path) => join(directory, path), listed, AbortSignal.timeout(20_000)),
		).toMatchObject({
			architecture: null,
			parameters: null,
		});
	});

	test.each([true, false])(
		"a connection that is cut (length told: %p) is not taken for a short header",
		async (sendLength) => {
			files.set({ cutAfterBytes: 1000, sendLength });
			const error = await inspect(`${files.url}/tiny.gguf`).catch(asGswarmError);
			expect(error).toMatchObject({ code: "NETWORK_ERROR", retryable: true });
			expect(files.exchanges.length).toBeLessThan(10);
		},
	);
});
