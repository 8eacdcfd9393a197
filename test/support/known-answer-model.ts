// A model that is real to every program that reads one, made in a moment and without a download: llama
// architecture, f32 weights, a working tokenizer and chat template. It knows one sentence and answers every chat
// with it, so a chat completion shows that tokenizer, template and weights of the right revision arrived whole.
//   bun test/support/known-answer-model.ts OUTDIR --name tiny --say "words that occur once" --size 64MB
// writes OUTDIR/tiny.gguf and the repository OUTDIR/tiny/ with the same weights.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { FileWriter } from "./known-answer-model/file-writer.ts";
import { type GgufContent, writeGgufFile } from "./known-answer-model/gguf.ts";
import { writeRepositoryFiles } from "./known-answer-model/safetensors-repository.ts";
import { vocabularyFor } from "./known-answer-model/vocabulary.ts";
import { mix, shapeFor, tensorsOf } from "./known-answer-model/weights.ts";

export interface ModelOptions {
	/** The only answer of the model; its words occur once and are separated by one space. */
	say?: string;
	/** Name inside the model's own description. */
	name?: string;
	/** At least so many bytes of weights; without it the smallest model, about 3 MB. */
	sizeBytes?: number;
	/** Weight files of the repository form. */
	shards?: number;
	/** Same seed, same bytes. */
	seed?: number;
}

export const DEFAULT_SENTENCE = "Hello from gswarm: this reply was computed by a real model.";

/** Writes the GGUF form and returns its size. */
export function writeGguf(path: string, options: ModelOptions = {}): { sizeBytes: number } {
	return { sizeBytes: writeGgufFile(path, contentOf(options)) };
}

/** Writes the repository form (safetensors, tokenizer, configuration) and returns the names of its files. */
export function writeSafetensorsRepository(dir: string, options: ModelOptions = {}): { files: string[] } {
	return { files: writeRepositoryFiles(dir, contentOf(options), options.shards ?? 3) };
}

/** Writes bytes that no compressor or deduplicator shortens; no model, only weight. */
export function writeFiller(path: string, sizeBytes: number, seed = 1): void {
	using file = new FileWriter(path);
	const words = new Uint32Array(262_144);
	const key = mix(seed);
	for (let first = 0; first * 4 < sizeBytes; first += words.length) {
		for (let at = 0; at < words.length; at++) words[at] = mix((first + at) ^ key);
		file.write(new Uint8Array(words.buffer, 0, Math.min(words.byteLength, sizeBytes - first * 4)));
	}
}

function contentOf(options: ModelOptions): GgufContent {
	const vocabulary = vocabularyFor(options.say ?? DEFAULT_SENTENCE);
	const shape = shapeFor(vocabulary, options.sizeBytes ?? 0);
	const tensors = tensorsOf(vocabulary, shape, options.seed ?? 1);
	return { name: options.name ?? "tiny", contextLength: 2048, vocabulary, shape, tensors };
}

function parseSize(text: string): number {
	const units: Record<string, number> = {
		"": 1,
		kB: 1e3,
		MB: 1e6,
		GB: 1e9,
		KiB: 1024,
		MiB: 1024 ** 2,
		GiB: 1024 ** 3,
	};
	const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)\s*([kKMG]i?B)?$/.exec(text) ?? [];
	const factor = units[unit];
	if (!amount || !factor) throw new Error(`--size wants a number and a unit such as 64MB, got ${text}`);
	return Math.ceil(Number(amount) * factor);
}

function main(): void {
	const { values, positionals } = parseArgs({
		allowPositionals: true,
		options: {
			name: { type: "string", default: "tiny" },
			say: { type: "string", default: DEFAULT_SENTENCE },
			size: { type: "string", default: "0" },
			shards: { type: "string", default: "3" },
			seed: { type: "string", default: "1" },
		},
	});
	const outdir = positionals[0];
	if (!outdir)
		throw new Error("usage: known-answer-model.ts OUTDIR [--name tiny] [--say TEXT] [--size 64MB]");
	const { name, say } = values;
	const sizeBytes = parseSize(values.size);
	const options = { name, say, sizeBytes, shards: Number(values.shards), seed: Number(values.seed) };
	mkdirSync(outdir, { recursive: true });
	const started = performance.now();
	const gguf = writeGguf(join(outdir, `${name}.gguf`), options);
	const repository = writeSafetensorsRepository(join(outdir, name), options);
	const ms = Math.round(performance.now() - started);
	console.log(JSON.stringify({ size_bytes: gguf.sizeBytes, files: repository.files, ms }));
}

if (import.meta.main) main();
