/** What a config.json of transformers tells of a model. */
import { kvElementsPerToken } from "../../platform/kv-cache.ts";
import { recordOf, shownText } from "./shown-text.ts";

export interface ModelConfig {
	json: unknown;
	architecture: string | undefined;
	contextLength: number | undefined;
	precision: string | undefined;
	quantisation: string | undefined;
	kvElementsPerToken: number | undefined;
}

/** Composite models keep the words of their language part one level down. */
export function readConfig(json: unknown): ModelConfig {
	const top = recordOf(json);
	const text = recordOf(top["text_config"]);
	const quantisation = recordOf(top["quantization_config"]);
	const first = <T>(keys: readonly string[], take: (value: unknown) => T | undefined): T | undefined =>
		keys.map((key) => take(top[key]) ?? take(text[key])).find((value) => value !== undefined);
	const { architectures } = top;
	const method = shownText(quantisation["quant_method"]);
	const bits = naturalOf(quantisation["bits"]);
	const heads = first(["num_attention_heads", "n_head", "n_heads"], naturalOf);
	return {
		json,
		architecture:
			shownText(Array.isArray(architectures) ? architectures[0] : undefined) ?? shownText(top["model_type"]),
		contextLength: first(
			["max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"],
			naturalOf,
		),
		precision: first(["dtype", "torch_dtype"], shownText),
		quantisation: method === undefined ? undefined : `${method}${bits === undefined ? "" : ` ${bits}-bit`}`,
		kvElementsPerToken: kvElementsPerToken({
			layers:
				first(["layer_types"], attentionLayers) ??
				first(["num_hidden_layers", "n_layer", "n_layers", "num_layers"], naturalOf),
			heads,
			kvHeads:
				first(["num_key_value_heads", "num_kv_heads"], naturalOf) ??
				(first(["multi_query"], (value) => value === true || undefined) === true ? 1 : heads),
			hiddenSize: first(["hidden_size", "n_embd", "d_model"], naturalOf),
			keyLength: first(["head_dim"], naturalOf),
			valueLength: first(["head_dim"], naturalOf),
			latentRank: first(["kv_lora_rank"], naturalOf),
			ropeLength: first(["qk_rope_head_dim"], naturalOf),
		}),
	};
}

/** Of models that mix kinds of layers: those that keep keys and values. */
function attentionLayers(value: unknown): number | undefined {
	if (!Array.isArray(value)) return undefined;
	return naturalOf(value.filter((kind) => kind === "full_attention" || kind === "sliding_attention").length);
}

function naturalOf(value: unknown): number | undefined {
	return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}
