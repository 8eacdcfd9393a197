/** One completion: prompt to tokens, tokens to text, with limits that hold and a stop that is prompt. */
import type { LlamaContextSequence, LlamaGrammar, Token } from "node-llama-cpp";
import { invalid } from "../../../../schema/errors.ts";
import type { CompletionRequest } from "./openai.ts";
import type { LlamaRuntime } from "./runtime.ts";

export interface Prompt {
	/** Without the token that the model wants first. */
	tokens: Token[];
	/** With it: what is computed and counted. */
	all: Token[];
	maxTokens: number;
}

export interface Outcome {
	text: string;
	finishReason: "stop" | "length";
	usage: Usage;
}

export interface Usage {
	prompt_tokens: number;
	completion_tokens: number;
	total_tokens: number;
	prompt_tokens_details: { cached_tokens: number };
}

/** Renders, tokenizes and measures the input. Throws GswarmError `context_length_exceeded` (400). */
export function preparePrompt(runtime: LlamaRuntime, request: CompletionRequest): Prompt {
	const tokens = tokenize(runtime, request);
	const all = runtime.firstToken === undefined ? tokens : [runtime.firstToken.id, ...tokens];
	if (all.length === 0) throw invalid("invalid_parameter", "The prompt is empty.", { param: "prompt" });
	const room = runtime.contextTokens - CONTEXT_RESERVE - all.length;
	if (room < 1)
		throw invalid(
			"context_length_exceeded",
			`The context is ${runtime.contextTokens} tokens, the prompt has ${all.length}; there is no room for an answer.`,
			{
				param: request.input.kind === "chat" ? "messages" : "prompt",
				required: all.length,
				available: runtime.contextTokens,
			},
		);
	return { tokens, all, maxTokens: Math.min(request.maxTokens ?? room, room) };
}

/**
 * Generates on `sequence`, which the caller holds. `onText` gets the text piece by piece; the pieces make up
 * `Outcome.text`. Throws the signal's reason as soon as the token or the piece of prompt in work is done.
 */
export async function generate(
	runtime: LlamaRuntime,
	sequence: LlamaContextSequence,
	prompt: Prompt,
	request: CompletionRequest,
	options: { signal: AbortSignal; onText?: (text: string) => void; onToken?: () => void },
): Promise<Outcome> {
	const { signal } = options;
	const grammar = await grammarFor(runtime, request);
	const cachedTokens = await evaluatePrompt(sequence, prompt.all, signal);
	const before = sequence.tokenMeter.getState();
	const completion = new runtime.module.LlamaCompletion({ contextSequence: sequence });
	let text = "";
	try {
		const { sampling } = request;
		const { metadata } = await completion.generateCompletionWithMeta(prompt.tokens, {
			maxTokens: prompt.maxTokens,
			temperature: sampling.temperature,
			topP: sampling.topP,
			topK: sampling.topK,
			minP: sampling.minP,
			...(sampling.seed === undefined ? {} : { seed: sampling.seed }),
			repeatPenalty: penaltyOf(request),
			...(request.stop.length === 0 ? {} : { customStopTriggers: request.stop }),
			...(grammar === undefined ? {} : { grammar }),
			// The prompt fits and maxTokens is bounded, so nothing of the context is ever shifted out.
			contextShiftSize: 1,
			signal,
			onTextChunk(chunk) {
				text += chunk;
				options.onText?.(chunk);
			},
			onToken: () => options.onToken?.(),
		});
		const completionTokens = sequence.tokenMeter.diff(before).usedOutputTokens;
		return {
			text,
			finishReason: metadata.stopReason === "maxTokens" ? "length" : "stop",
			usage: {
				prompt_tokens: prompt.all.length,
				completion_tokens: completionTokens,
				total_tokens: prompt.all.length + completionTokens,
				prompt_tokens_details: { cached_tokens: cachedTokens },
			},
		};
	} finally {
		completion.dispose({ disposeSequence: false });
	}
}

/** llama.cpp keeps the last cell of a sequence free, and the generator stops one earlier. */
const CONTEXT_RESERVE = 2;
/** One batch of llama.cpp; between batches an abandoned prompt is noticed. */
const PROMPT_PIECE_TOKENS = 512;

function tokenize(runtime: LlamaRuntime, request: CompletionRequest): Token[] {
	const { input } = request;
	if (input.kind === "text") return runtime.model.tokenize(input.prompt, false);
	const rendered = runtime.template.render(input.messages, input.templateVariables);
	const doubled = runtime.firstToken?.text ?? "";
	return runtime.model.tokenize(
		rendered.startsWith(doubled) ? rendered.slice(doubled.length) : rendered,
		true,
	);
}

/** Computes all but the last token of the prompt; returns how many of them the sequence knew already. */
async function evaluatePrompt(
	sequence: LlamaContextSequence,
	all: readonly Token[],
	signal: AbortSignal,
): Promise<number> {
	const wanted = all.slice(0, -1);
	await sequence.adaptStateToTokens(wanted, false);
	const cached = sequence.nextTokenIndex;
	for (let from = cached; from < wanted.length; from += PROMPT_PIECE_TOKENS) {
		signal.throwIfAborted();
		await sequence.evaluateWithoutGeneratingNewTokens(wanted.slice(from, from + PROMPT_PIECE_TOKENS));
	}
	signal.throwIfAborted();
	return cached;
}

async function grammarFor(
	runtime: LlamaRuntime,
	request: CompletionRequest,
): Promise<LlamaGrammar | undefined> {
	if (request.format.type === "text") return undefined;
	try {
		// The caller's schema is checked by the grammar compiler itself, whose type covers only its own dialect.
		return await runtime.llama.createGrammarForJsonSchema(request.format.schema as never);
	} catch (cause) {
		throw invalid("invalid_parameter", `'response_format' cannot be followed: ${(cause as Error).message}.`, {
			param: "response_format",
		});
	}
}

function penaltyOf(request: CompletionRequest) {
	const { frequencyPenalty, presencePenalty } = request.sampling;
	if (frequencyPenalty === 0 && presencePenalty === 0) return false as const;
	return { penalty: 1, frequencyPenalty, presencePenalty, lastTokens: 256, penalizeNewLine: true };
}
