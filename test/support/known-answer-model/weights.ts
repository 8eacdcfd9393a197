// The weights of the known-answer model. The embedding is one-hot and the output matrix holds a large logit from
// each word of the sentence to the next; attention and feed-forward layers are noise too weak to matter. A real
// engine does a real forward pass over all of it and can only answer the sentence.
import type { Vocabulary } from "./vocabulary.ts";

export interface Shape {
	vocabulary: number;
	embedding: number;
	layers: number;
	feedForward: number;
}

export interface Tensor {
	ggufName: string;
	hubName: string;
	/** Rows and columns, or one length. */
	shape: number[];
	/** Writes the elements from index `first` on; a pure function of the position, so any block can be asked for. */
	fill(block: Float32Array, first: number): void;
}

export const HEAD_SIZE = 64;
/** All query heads share one key and value head, which keeps the smallest model small. */
export const KEY_VALUE_HEADS = 1;
export const ELEMENT_BYTES = 4;

const SMALLEST_FEED_FORWARD = 64;
const WIDEST_FEED_FORWARD = 8192;
const BLOCK_ELEMENTS = 262_144;

/** The smallest shape that can hold the vocabulary and weighs at least `sizeBytes`; few, wide layers. */
export function shapeFor(vocabulary: Vocabulary, sizeBytes: number): Shape {
	const tokens = vocabulary.tokens.length;
	const embedding = Math.ceil(tokens / HEAD_SIZE) * HEAD_SIZE;
	const wanted = Math.ceil(sizeBytes / ELEMENT_BYTES) - (2 * tokens + 1) * embedding;
	const attention = 2 * embedding * (embedding + KEY_VALUE_HEADS * HEAD_SIZE + 1);
	const perUnit = 3 * embedding;
	const layers = Math.max(1, Math.ceil(wanted / (attention + perUnit * WIDEST_FEED_FORWARD)));
	const units = Math.max(SMALLEST_FEED_FORWARD, (wanted / layers - attention) / perUnit);
	return { vocabulary: tokens, embedding, layers, feedForward: Math.ceil(units / 32) * 32 };
}

/** Every tensor in file order. */
export function tensorsOf(vocabulary: Vocabulary, shape: Shape, seed: number): Tensor[] {
	const { embedding, feedForward } = shape;
	const keyValue = KEY_VALUE_HEADS * HEAD_SIZE;
	const layerTensors = (layer: number) => {
		const tensor = (gguf: string, hub: string, dims: number[]): Tensor => {
			const key = mix(seed ^ mix(Bun.hash.xxHash32(`${layer}.${gguf}`)));
			return {
				ggufName: `blk.${layer}.${gguf}.weight`,
				hubName: `model.layers.${layer}.${hub}.weight`,
				shape: dims,
				fill: dims.length === 1 ? ones : (block, first) => noise(block, first, key),
			};
		};
		return [
			tensor("attn_norm", "input_layernorm", [embedding]),
			tensor("attn_q", "self_attn.q_proj", [embedding, embedding]),
			tensor("attn_k", "self_attn.k_proj", [keyValue, embedding]),
			tensor("attn_v", "self_attn.v_proj", [keyValue, embedding]),
			tensor("attn_output", "self_attn.o_proj", [embedding, embedding]),
			tensor("ffn_norm", "post_attention_layernorm", [embedding]),
			tensor("ffn_gate", "mlp.gate_proj", [feedForward, embedding]),
			tensor("ffn_up", "mlp.up_proj", [feedForward, embedding]),
			tensor("ffn_down", "mlp.down_proj", [embedding, feedForward]),
		];
	};
	return [
		{
			ggufName: "token_embd.weight",
			hubName: "model.embed_tokens.weight",
			shape: [shape.vocabulary, embedding],
			fill: (block, first) => oneHot(block, first, embedding),
		},
		...Array.from({ length: shape.layers }, (_, layer) => layerTensors(layer)).flat(),
		{ ggufName: "output_norm.weight", hubName: "model.norm.weight", shape: [embedding], fill: ones },
		{
			ggufName: "output.weight",
			hubName: "lm_head.weight",
			shape: [shape.vocabulary, embedding],
			fill: successors(vocabulary, shape, mix(seed)),
		},
	];
}

export function byteLength(tensor: Tensor): number {
	return tensor.shape.reduce((product, length) => product * length, ELEMENT_BYTES);
}

/** The bytes of a tensor, block by block; a block is only valid until the next one is asked for. */
export function* bytesOf(tensor: Tensor): Generator<Uint8Array> {
	const elements = byteLength(tensor) / ELEMENT_BYTES;
	const block = new Float32Array(Math.min(BLOCK_ELEMENTS, elements));
	for (let first = 0; first < elements; first += block.length) {
		const part = block.subarray(0, Math.min(block.length, elements - first));
		tensor.fill(part, first);
		yield new Uint8Array(part.buffer, 0, part.byteLength);
	}
}

/** 32 bits that look random (the "lowbias32" integer hash of Chris Wellons). */
export function mix(value: number): number {
	let bits = value ^ (value >>> 16);
	bits = Math.imul(bits, 0x7feb352d);
	bits ^= bits >>> 15;
	bits = Math.imul(bits, 0x846ca68b);
	return bits ^ (bits >>> 16);
}

function noise(block: Float32Array, first: number, key: number): void {
	const bits = new Uint32Array(block.buffer, block.byteOffset, block.length);
	// Random sign and mantissa under one exponent: every value lies in ±[2^-11, 2^-10).
	for (let at = 0; at < bits.length; at++) bits[at] = (mix((first + at) ^ key) & 0x807fffff) | 0x3a000000;
}

function ones(block: Float32Array): void {
	block.fill(1);
}

function oneHot(block: Float32Array, first: number, columns: number): void {
	block.fill(0);
	for (let row = Math.floor(first / columns); row * columns < first + block.length; row++) {
		const at = row * columns + row - first;
		if (at >= 0 && at < block.length) block[at] = 1;
	}
}

/** The output matrix: column = token just read, row = token to say; unknown company starts the sentence. */
function successors(vocabulary: Vocabulary, shape: Shape, key: number): Tensor["fill"] {
	const { answer, tokens } = vocabulary;
	const says = new Map(answer.slice(1).map((next, at) => [answer[at], next]));
	// A raw completion reads a word with the space mark; it continues as the word without one does.
	const wordOf = new Map(tokens.map(({ text }, id) => [text, id]));
	const opening = answer[1] ?? 0;
	const marked = wordOf.get(`\u2581${tokens[opening]?.text}`);
	if (marked !== undefined) says.set(marked, says.get(opening) ?? opening);
	const strong = new Set(tokens.map((_, read) => (says.get(read) ?? opening) * shape.embedding + read));
	// The normalised one-hot input is √embedding, so the logit is 40: greedy and sampled answers agree.
	const weight = 40 / Math.sqrt(shape.embedding);
	return (block, first) => {
		noise(block, first, key);
		for (const at of strong) {
			if (at >= first && at < first + block.length) block[at - first] = weight;
		}
	};
}
