import { expect, test } from "bun:test";
import { detectFormat, guessModelType } from "../../src/core/source/detect.ts";

test.each([
	[["config.json", "model.safetensors", "pytorch_model.bin"], "safetensors"],
	[["tiny.GGUF"], "gguf"],
	[["pytorch_model.bin"], "pytorch"],
	[["onnx/model.onnx"], "onnx"],
	[["README.md"], "unknown"],
	[[], "unknown"],
])("the format of %j is %s", (paths, format) => {
	expect(detectFormat(paths)).toBe(format as never);
});

test.each([
	[["model.safetensors"], { architectures: ["LlamaForCausalLM"] }, "llm"],
	[["model.safetensors"], { architectures: ["BertModel"] }, "embedding"],
	[["model.safetensors", "1_Pooling/config.json"], { architectures: ["Qwen2ForCausalLM"] }, "embedding"],
	[["model.safetensors"], { architectures: ["LlavaForConditionalGeneration"] }, "multimodal"],
	[["model.safetensors"], { architectures: ["ViTForImageClassification"] }, "vision"],
	[["model.safetensors"], { architectures: ["WhisperForAudioClassification"] }, "audio"],
	[["model.safetensors"], { architectures: ["WhisperForConditionalGeneration"] }, "audio"],
	[["model.safetensors"], { architectures: ["T5ForConditionalGeneration"] }, "llm"],
	[["model.safetensors"], { architectures: ["Qwen2VLForConditionalGeneration"] }, "multimodal"],
	[["tiny.gguf"], undefined, "llm"],
	[["tiny.gguf", "mmproj-F16.gguf"], undefined, "multimodal"],
	[["model.safetensors", "tokenizer.json"], undefined, "llm"],
	[["model.onnx", "preprocessor_config.json"], undefined, "vision"],
	[["weights.bin"], undefined, "other"],
	[["weights.bin"], { architectures: "LlamaForCausalLM" }, "other"],
	[["weights.bin"], { architectures: [1, null] }, "other"],
	[["weights.bin"], [], "other"],
])("%j with %j is guessed to be %s", (paths, config, kind) => {
	expect(guessModelType(paths, config)).toBe(kind as never);
});
