/** Loads the model with node-llama-cpp. The only file that imports that package, and only when asked. */
import type { Llama, LlamaContextSequence, LlamaEmbeddingContext, LlamaModel, Token } from "node-llama-cpp";
import { GswarmError } from "../../../../schema/errors.ts";
import { type ChatTemplate, createChatTemplate } from "./chat-template.ts";
import type { ModelFiles } from "./model-files.ts";
import { SlotPool } from "./slot-pool.ts";

type LlamaModule = typeof import("node-llama-cpp");

/** A loaded model and what requests use of it. */
export interface LlamaRuntime {
	module: LlamaModule;
	llama: Llama;
	model: LlamaModel;
	sequences: SlotPool<LlamaContextSequence>;
	/** Tokens per sequence, prompt and answer together. */
	contextTokens: number;
	trainedContextTokens: number;
	template: ChatTemplate;
	/** The token that every prompt of this model starts with, if any; a template that renders it too would double it. */
	firstToken: { id: Token; text: string } | undefined;
	/** Made at the first call; shares the weights. */
	embeddings(): Promise<SlotPool<LlamaEmbeddingContext>>;
}

export interface RuntimeOptions {
	contextTokens: number | undefined;
	parallel: number;
	threads: number;
	queueLimit: number;
	onProgress: (fraction: number) => void;
	onLog: (level: string, message: string) => void;
}

/** Loads weights (mapped, not copied) and makes the sequences. Throws GswarmError `model_load_failed`. */
export async function loadRuntime(files: ModelFiles, options: RuntimeOptions): Promise<LlamaRuntime> {
	try {
		return await load(await import("node-llama-cpp"), files, options);
	} catch (cause) {
		if (cause instanceof GswarmError) throw cause;
		throw new GswarmError(
			"INVALID_REQUEST",
			`Cannot load the model ${files.entryPath}: ${cause instanceof Error ? cause.message : String(cause)}`,
			{ reason: "model_load_failed", cause },
		);
	}
}

/** Where the caller names no context: long enough for a conversation, small enough for any machine. */
const DEFAULT_CONTEXT_TOKENS = 4096;
/** Longer texts are split before they are embedded. */
export const MAX_EMBEDDING_TOKENS = 8192;

async function load(module: LlamaModule, files: ModelFiles, options: RuntimeOptions): Promise<LlamaRuntime> {
	const llama = await module.getLlama({
		gpu: false,
		build: "never",
		skipDownload: true,
		usePrebuiltBinaries: true,
		progressLogs: false,
		maxThreads: options.threads,
		logLevel: module.LlamaLogLevel.warn,
		logger: (level, message) => options.onLog(level, message),
	});
	const model = await llama.loadModel({
		modelPath: files.entryPath,
		gpuLayers: 0,
		useMmap: true,
		useDirectIo: false,
		// The weights are mapped: those of a model on tmpfs are in memory already and must not be counted twice.
		ignoreMemorySafetyChecks: true,
		onLoadProgress: options.onProgress,
	});
	const trained = model.trainContextSize;
	const context = await model.createContext({
		contextSize: Math.min(options.contextTokens ?? DEFAULT_CONTEXT_TOKENS, trained),
		sequences: options.parallel,
		threads: options.threads,
		failedCreationRemedy: false,
	});
	const slots = Array.from({ length: options.parallel }, () => context.getSequence());
	const template = files.header.metadata.get("tokenizer.chat_template");
	let embeddings: Promise<SlotPool<LlamaEmbeddingContext>> | undefined;
	return {
		module,
		llama,
		model,
		sequences: new SlotPool(slots, { waitLimit: options.queueLimit }),
		contextTokens: context.contextSize,
		trainedContextTokens: trained,
		template: createChatTemplate(typeof template === "string" ? template : undefined, {
			bos: model.tokens.bosString ?? "",
			eos: model.tokens.eosString ?? "",
		}),
		firstToken: firstTokenOf(model),
		embeddings() {
			embeddings ??= createEmbeddings(model, Math.min(trained, MAX_EMBEDDING_TOKENS), options);
			return embeddings;
		},
	};
}

async function createEmbeddings(model: LlamaModel, contextSize: number, options: RuntimeOptions) {
	// Encoder models see a text as a whole, so one batch must hold all of it.
	const context = await model.createEmbeddingContext({
		contextSize,
		batchSize: contextSize,
		threads: options.threads,
	});
	return new SlotPool([context], { waitLimit: options.queueLimit });
}

/** The rule by which node-llama-cpp prepends, after `llama_tokenize_internal` of llama.cpp. */
function firstTokenOf(model: LlamaModel): { id: Token; text: string } | undefined {
	const { bos, bosString, shouldPrependBosToken } = model.tokens;
	if (bos === null || model.vocabularyType === "rwkv" || model.vocabularyType === "ugm") return undefined;
	return model.vocabularyType === "wpm" || shouldPrependBosToken
		? { id: bos, text: bosString ?? "" }
		: undefined;
}
