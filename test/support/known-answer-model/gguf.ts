// GGUF version 3, as llama.cpp reads it (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
import { FileWriter } from "./file-writer.ts";
import { CHAT_TEMPLATE, type Vocabulary } from "./vocabulary.ts";
import { byteLength, bytesOf, HEAD_SIZE, KEY_VALUE_HEADS, type Shape, type Tensor } from "./weights.ts";

export interface GgufContent {
	name: string;
	contextLength: number;
	vocabulary: Vocabulary;
	shape: Shape;
	tensors: Tensor[];
}

const VERSION = 3;
const ALIGNMENT = 32;
const F32_TENSOR = 0;

type Value =
	| { u32: number }
	| { f32: number }
	| { bool: boolean }
	| { text: string }
	| { texts: string[] }
	| { f32s: number[] }
	| { i32s: number[] };

/** Writes the file and returns its size in bytes. */
export function writeGgufFile(path: string, content: GgufContent): number {
	const metadata = Object.entries(metadataOf(content));
	const head = [
		Buffer.from("GGUF"),
		u32(VERSION),
		u64(content.tensors.length),
		u64(metadata.length),
		...metadata.flatMap(([key, value]) => [text(key), ...encoded(value)]),
	];
	let offset = 0;
	for (const tensor of content.tensors) {
		// GGUF lists the fastest-moving dimension first.
		const dims = tensor.shape.toReversed();
		head.push(text(tensor.ggufName), u32(dims.length), ...dims.map(u64), u32(F32_TENSOR), u64(offset));
		offset += Math.ceil(byteLength(tensor) / ALIGNMENT) * ALIGNMENT;
	}
	using file = new FileWriter(path);
	file.write(Buffer.concat(head));
	file.pad(ALIGNMENT);
	for (const tensor of content.tensors) {
		for (const block of bytesOf(tensor)) file.write(block);
		file.pad(ALIGNMENT);
	}
	return file.sizeBytes;
}

function metadataOf({ name, contextLength, vocabulary, shape }: GgufContent): Record<string, Value> {
	const { tokens } = vocabulary;
	return {
		"general.architecture": { text: "llama" },
		"general.name": { text: name },
		"general.license": { text: "0bsd" },
		"general.file_type": { u32: 0 },
		"general.alignment": { u32: ALIGNMENT },
		"llama.context_length": { u32: contextLength },
		"llama.embedding_length": { u32: shape.embedding },
		"llama.block_count": { u32: shape.layers },
		"llama.feed_forward_length": { u32: shape.feedForward },
		"llama.vocab_size": { u32: shape.vocabulary },
		"llama.attention.head_count": { u32: shape.embedding / HEAD_SIZE },
		"llama.attention.head_count_kv": { u32: KEY_VALUE_HEADS },
		"llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
		"llama.rope.dimension_count": { u32: HEAD_SIZE },
		"tokenizer.ggml.model": { text: "llama" },
		"tokenizer.ggml.pre": { text: "default" },
		"tokenizer.ggml.tokens": { texts: tokens.map((token) => token.text) },
		"tokenizer.ggml.scores": { f32s: tokens.map((token) => token.score) },
		"tokenizer.ggml.token_type": { i32s: tokens.map((token) => token.kind) },
		"tokenizer.ggml.unknown_token_id": { u32: 0 },
		"tokenizer.ggml.bos_token_id": { u32: 1 },
		"tokenizer.ggml.eos_token_id": { u32: 2 },
		"tokenizer.ggml.add_bos_token": { bool: true },
		"tokenizer.ggml.add_eos_token": { bool: false },
		"tokenizer.ggml.add_space_prefix": { bool: true },
		"tokenizer.chat_template": { text: CHAT_TEMPLATE },
	};
}

const TYPE = { u32: 4, i32: 5, f32: 6, bool: 7, text: 8, array: 9 } as const;

function encoded(value: Value): Uint8Array[] {
	if ("u32" in value) return [u32(TYPE.u32), u32(value.u32)];
	if ("f32" in value) return [u32(TYPE.f32), new Uint8Array(new Float32Array([value.f32]).buffer)];
	if ("bool" in value) return [u32(TYPE.bool), Uint8Array.of(value.bool ? 1 : 0)];
	if ("text" in value) return [u32(TYPE.text), text(value.text)];
	const array = (type: number, length: number) => [u32(TYPE.array), u32(type), u64(length)];
	if ("texts" in value) return [...array(TYPE.text, value.texts.length), ...value.texts.map(text)];
	if ("f32s" in value) {
		return [...array(TYPE.f32, value.f32s.length), new Uint8Array(new Float32Array(value.f32s).buffer)];
	}
	return [...array(TYPE.i32, value.i32s.length), new Uint8Array(new Int32Array(value.i32s).buffer)];
}

function u32(value: number): Uint8Array {
	return new Uint8Array(Uint32Array.of(value).buffer);
}

function u64(value: number): Uint8Array {
	return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

function text(value: string): Uint8Array {
	const bytes = Buffer.from(value);
	return Buffer.concat([u64(bytes.length), bytes]);
}
