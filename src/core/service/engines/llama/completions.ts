/** Answers /v1/chat/completions and /v1/completions, whole or as a stream of server-sent events. */
import type { LlamaContextSequence } from "node-llama-cpp";
import { asGswarmError } from "../../../../schema/errors.ts";
import type { Engine } from "./engine.ts";
import { generate, type Outcome, type Prompt, preparePrompt } from "./generate.ts";
import { type CompletionRequest, openAiErrorBody } from "./openai.ts";
import type { LlamaRuntime } from "./runtime.ts";

/** A completion that has its sequence: the time for a refusal with a status of its own is over. */
interface Running {
	engine: Engine;
	runtime: LlamaRuntime;
	request: CompletionRequest;
	sequence: LlamaContextSequence;
	prompt: Prompt;
	signal: AbortSignal;
	head: { id: string; created: number; model: string };
	/** Gives the sequence back; called once. */
	finish(): void;
}

/**
 * Waits for a sequence and answers. `done` is called when the answer, or the stream, has ended.
 * Throws GswarmError for what the client must hear before the first byte.
 */
export async function complete(
	engine: Engine,
	runtime: LlamaRuntime,
	request: CompletionRequest,
	{ signal, done }: { signal: AbortSignal; done: () => void },
): Promise<Response> {
	const prompt = preparePrompt(runtime, request);
	const sequence = await runtime.sequences.acquire(
		signal,
		(candidate) => candidate.compareContextTokens(prompt.all).firstDifferentIndex,
	);
	const prefix = request.input.kind === "chat" ? "chatcmpl" : "cmpl";
	const running: Running = {
		engine,
		runtime,
		request,
		sequence,
		prompt,
		signal,
		head: {
			id: `${prefix}-${engine.args.instanceId}-${++engine.lastAnswer}`,
			created: Math.floor(engine.clock.nowMs() / 1000),
			model: engine.args.alias,
		},
		finish() {
			runtime.sequences.release(sequence);
			done();
		},
	};
	return request.stream ? stream(running) : await whole(running);
}

async function whole(running: Running): Promise<Response> {
	const { head, request } = running;
	try {
		const { text, finishReason, usage } = await compute(running);
		const choice =
			request.input.kind === "chat"
				? { index: 0, message: { role: "assistant", content: text, refusal: null } }
				: { index: 0, text };
		return Response.json({
			...head,
			object: request.input.kind === "chat" ? "chat.completion" : "text_completion",
			choices: [{ ...choice, logprobs: null, finish_reason: finishReason }],
			usage,
		});
	} finally {
		running.finish();
	}
}

function stream(running: Running): Response {
	const left = new AbortController();
	const signal = AbortSignal.any([running.signal, left.signal]);
	const body = new ReadableStream<Uint8Array>({
		start(controller) {
			void writeEvents({ ...running, signal }, (text) => {
				if (!signal.aborted) controller.enqueue(ENCODER.encode(text));
			}).finally(() => {
				running.finish();
				if (!left.signal.aborted) controller.close();
			});
		},
		cancel(reason) {
			left.abort(reason);
		},
	});
	return new Response(body, {
		headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
	});
}

const ENCODER = new TextEncoder();
/** A comment in a silent stream keeps proxies from giving up on a long prompt. */
const KEEP_ALIVE_MS = 10_000;

/** Never rejects: past the first byte a failure is an event of the stream. */
async function writeEvents(running: Running, write: (text: string) => void): Promise<void> {
	const chat = running.request.input.kind === "chat";
	const usageWanted = running.request.includeUsage;
	const send = (value: object) => write(`data: ${JSON.stringify(value)}\n\n`);
	const piece = (content: { role?: string; content?: string }, finishReason: string | null) =>
		send({
			...running.head,
			object: chat ? "chat.completion.chunk" : "text_completion",
			choices: [
				{
					index: 0,
					...(chat ? { delta: content } : { text: content.content ?? "" }),
					logprobs: null,
					finish_reason: finishReason,
				},
			],
			...(usageWanted ? { usage: null } : {}),
		});
	const keepAlive = setInterval(() => write(": still computing\n\n"), KEEP_ALIVE_MS);
	try {
		if (chat) piece({ role: "assistant", content: "" }, null);
		const outcome = await compute(running, (text) => piece({ content: text }, null));
		piece({}, outcome.finishReason);
		if (usageWanted)
			send({
				...running.head,
				object: chat ? "chat.completion.chunk" : "text_completion",
				choices: [],
				usage: outcome.usage,
			});
		write("data: [DONE]\n\n");
	} catch (error) {
		send(openAiErrorBody(asGswarmError(error)));
	} finally {
		clearInterval(keepAlive);
	}
}

async function compute(running: Running, onText?: (text: string) => void): Promise<Outcome> {
	const { engine, runtime } = running;
	const startMs = engine.clock.monotonicMs();
	let firstTokenMs: number | undefined;
	const outcome = await generate(runtime, running.sequence, running.prompt, running.request, {
		signal: running.signal,
		...(onText === undefined ? {} : { onText }),
		onToken() {
			firstTokenMs ??= engine.clock.monotonicMs() - startMs;
		},
	});
	const { metrics } = engine;
	metrics.generationMs += engine.clock.monotonicMs() - startMs;
	metrics.promptTokens += outcome.usage.prompt_tokens;
	metrics.cachedPromptTokens += outcome.usage.prompt_tokens_details.cached_tokens;
	metrics.generatedTokens += outcome.usage.completion_tokens;
	if (firstTokenMs !== undefined) {
		metrics.firstTokens++;
		metrics.firstTokenMs += firstTokenMs;
	}
	return outcome;
}
