/** What kind of model a set of files is, from names and a small config.json; a guess for people, never a check. */

export type ModelFormat = "gguf" | "safetensors" | "pytorch" | "onnx" | "unknown";
export type ModelKind = "llm" | "embedding" | "vision" | "multimodal" | "audio" | "other";

const FORMATS: readonly [ModelFormat, RegExp][] = [
	["safetensors", /\.safetensors$/i],
	["gguf", /\.gguf$/i],
	["pytorch", /\.(bin|pt|pth)$/i],
	["onnx", /\.onnx$/i],
];

/** By class name in config.json's `architectures`; first match wins. */
const ARCHITECTURES: readonly [RegExp, ModelKind][] = [
	[/Whisper|Wav2Vec|SpeechSeq2Seq|ForCTC$|Audio/, "audio"],
	[
		/VisionText|Llava|VL[A-Z]|ImageTextToText|Mllama|Idefics|PaliGemma|Pixtral|Gemma3ForCond|Mistral3/,
		"multimodal",
	],
	[/ForCausalLM$|LMHeadModel$|ForConditionalGeneration$/, "llm"],
	[/ForImageClassification$|ForObjectDetection$|ViT|CLIP|Segformer|Swin/, "vision"],
	[
		/ForSequenceClassification$|^(Bert|Roberta|XLMRoberta|MPNet|Nomic|Distil)\w*(Model|MaskedLM)$/,
		"embedding",
	],
];

/** The format that the files are in; where several are, the one an engine would take. */
export function detectFormat(paths: readonly string[]): ModelFormat {
	const found = FORMATS.find(([, pattern]) => paths.some((path) => pattern.test(path)));
	return found?.[0] ?? "unknown";
}

/** `general.architecture` of GGUF files that are no language models; first match wins. */
const GGUF_ARCHITECTURES: readonly [RegExp, ModelKind][] = [
	[/^(.*-?bert.*|t5encoder|gemma-embedding)$/, "embedding"],
	[/^clip$/, "vision"],
	[/^(whisper|wavtokenizer.*)$/, "audio"],
	[/^(sd\d?.*|flux|lumina\d?|wan|hyvid)$/, "other"],
];

/** `config` is the parsed config.json, if there is one; `architecture` what a header of weights says. */
export function guessModelType(paths: readonly string[], config?: unknown, architecture?: string): ModelKind {
	if (paths.some((path) => /(^|\/)(1_Pooling\/|config_sentence_transformers\.json$)/.test(path)))
		return "embedding";
	const names = architecturesOf(config);
	for (const [pattern, kind] of ARCHITECTURES) if (names.some((name) => pattern.test(name))) return kind;
	if (paths.some((path) => /(^|\/)mmproj[^/]*\.gguf$/i.test(path))) return "multimodal";
	if (detectFormat(paths) === "gguf") {
		const known = GGUF_ARCHITECTURES.find(([pattern]) => pattern.test(architecture ?? ""));
		return known?.[1] ?? "llm";
	}
	if (paths.some((path) => /(^|\/)(generation_config|tokenizer)\.json$/.test(path))) return "llm";
	return paths.some((path) => /(^|\/)preprocessor_config\.json$/.test(path)) ? "vision" : "other";
}

function architecturesOf(config: unknown): string[] {
	if (typeof config !== "object" || config === null || !("architectures" in config)) return [];
	const { architectures } = config;
	return Array.isArray(architectures) ? architectures.filter((name) => typeof name === "string") : [];
}
