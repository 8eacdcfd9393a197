// A repository as people publish one: safetensors shards with their index, configuration and tokenizer files
// (https://github.com/huggingface/safetensors#format).
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileWriter } from "./file-writer.ts";
import type { GgufContent } from "./gguf.ts";
import {
	BEGIN,
	CHAT_TEMPLATE,
	END,
	SPACE_MARK,
	SPECIAL_TOKENS,
	UNKNOWN,
	type Vocabulary,
} from "./vocabulary.ts";
import { byteLength, bytesOf, HEAD_SIZE, KEY_VALUE_HEADS, type Tensor } from "./weights.ts";

/** Writes the directory and returns the names of its files. */
export function writeRepositoryFiles(dir: string, content: GgufContent, shards: number): string[] {
	mkdirSync(dir, { recursive: true });
	const files: Record<string, string> = {
		".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
		"README.md": `---\nlicense: 0bsd\n---\n# ${content.name}\n\nA generated model that knows one sentence.\n`,
		"config.json": json(modelConfig(content)),
		"generation_config.json": json({ bos_token_id: 1, eos_token_id: 2, do_sample: false }),
		"tokenizer.json": json(tokenizer(content.vocabulary)),
		"tokenizer_config.json": json(tokenizerConfig(content)),
	};
	const weightMap: Record<string, string> = {};
	const parts = split(content.tensors, shards);
	const weightFiles = parts.map((tensors, at) => {
		const count = String(parts.length).padStart(5, "0");
		const number = String(at + 1).padStart(5, "0");
		const name = parts.length === 1 ? "model.safetensors" : `model-${number}-of-${count}.safetensors`;
		for (const tensor of tensors) weightMap[tensor.hubName] = name;
		writeShard(join(dir, name), tensors);
		return name;
	});
	if (parts.length > 1) {
		const total = content.tensors.reduce((sum, tensor) => sum + byteLength(tensor), 0);
		const index = { metadata: { total_size: total }, weight_map: weightMap };
		files["model.safetensors.index.json"] = json(index);
	}
	for (const [name, body] of Object.entries(files)) writeFileSync(join(dir, name), body);
	return [...Object.keys(files), ...weightFiles].sort();
}

function writeShard(path: string, tensors: Tensor[]): void {
	let offset = 0;
	const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
	for (const tensor of tensors) {
		const end = offset + byteLength(tensor);
		header[tensor.hubName] = { dtype: "F32", shape: tensor.shape, data_offsets: [offset, end] };
		offset = end;
	}
	const text = JSON.stringify(header);
	// The data starts at a multiple of eight; spaces after the JSON are part of the format.
	const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
	using file = new FileWriter(path);
	file.write(new Uint8Array(BigUint64Array.of(BigInt(padded.length)).buffer));
	file.write(padded);
	for (const tensor of tensors) for (const block of bytesOf(tensor)) file.write(block);
}

/** Consecutive tensors in `shards` groups of about equal weight, none empty. */
function split(tensors: Tensor[], shards: number): Tensor[][] {
	const groups = Math.max(1, Math.min(shards, tensors.length));
	const total = tensors.reduce((sum, tensor) => sum + byteLength(tensor), 0);
	const parts: Tensor[][] = [[]];
	let done = 0;
	for (const [at, tensor] of tensors.entries()) {
		const open = parts.at(-1) ?? [];
		const full = done >= (total / groups) * parts.length;
		const needed = tensors.length - at <= groups - parts.length;
		if (open.length > 0 && parts.length < groups && (full || needed)) parts.push([tensor]);
		else open.push(tensor);
		done += byteLength(tensor);
	}
	return parts;
}

function modelConfig({ shape, contextLength }: GgufContent): object {
	return {
		architectures: ["LlamaForCausalLM"],
		model_type: "llama",
		hidden_size: shape.embedding,
		intermediate_size: shape.feedForward,
		num_hidden_layers: shape.layers,
		num_attention_heads: shape.embedding / HEAD_SIZE,
		num_key_value_heads: KEY_VALUE_HEADS,
		head_dim: HEAD_SIZE,
		vocab_size: shape.vocabulary,
		max_position_embeddings: contextLength,
		rms_norm_eps: 1e-5,
		rope_theta: 10000,
		hidden_act: "silu",
		attention_bias: false,
		mlp_bias: false,
		tie_word_embeddings: false,
		bos_token_id: 1,
		eos_token_id: 2,
		torch_dtype: "float32",
	};
}

function tokenizerConfig({ contextLength }: GgufContent): object {
	return {
		tokenizer_class: "PreTrainedTokenizerFast",
		bos_token: BEGIN,
		eos_token: END,
		unk_token: UNKNOWN,
		model_max_length: contextLength,
		clean_up_tokenization_spaces: false,
		chat_template: CHAT_TEMPLATE,
	};
}

function tokenizer({ tokens, merges }: Vocabulary): object {
	const sequence = (id: "A" | "B") => ({ Sequence: { id, type_id: id === "A" ? 0 : 1 } });
	return {
		version: "1.0",
		truncation: null,
		padding: null,
		added_tokens: SPECIAL_TOKENS.map((content, id) => ({
			id,
			content,
			single_word: false,
			lstrip: false,
			rstrip: false,
			normalized: false,
			special: true,
		})),
		normalizer: {
			type: "Sequence",
			normalizers: [
				{ type: "Prepend", prepend: SPACE_MARK },
				{ type: "Replace", pattern: { String: " " }, content: SPACE_MARK },
			],
		},
		pre_tokenizer: null,
		post_processor: {
			type: "TemplateProcessing",
			single: [{ SpecialToken: { id: BEGIN, type_id: 0 } }, sequence("A")],
			pair: [{ SpecialToken: { id: BEGIN, type_id: 0 } }, sequence("A"), sequence("B")],
			special_tokens: { [BEGIN]: { id: BEGIN, ids: [1], tokens: [BEGIN] } },
		},
		decoder: {
			type: "Sequence",
			decoders: [
				{ type: "Replace", pattern: { String: SPACE_MARK }, content: " " },
				{ type: "ByteFallback" },
				{ type: "Fuse" },
				{ type: "Strip", content: " ", start: 1, stop: 0 },
			],
		},
		model: {
			type: "BPE",
			dropout: null,
			unk_token: UNKNOWN,
			continuing_subword_prefix: null,
			end_of_word_suffix: null,
			fuse_unk: true,
			byte_fallback: true,
			ignore_merges: false,
			vocab: Object.fromEntries(tokens.map((token, id) => [token.text, id])),
			merges,
		},
	};
}

function json(value: object): string {
	return `${JSON.stringify(value, null, 2)}\n`;
}
