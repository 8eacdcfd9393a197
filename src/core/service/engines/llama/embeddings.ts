/** Answers /v1/embeddings. Vectors have length 1, as OpenAI's do. */
import { invalid } from "../../../../schema/errors.ts";
import type { Engine } from "./engine.ts";
import type { EmbeddingRequest } from "./openai.ts";
import { type LlamaRuntime, MAX_EMBEDDING_TOKENS } from "./runtime.ts";

/** Embeds the inputs one after the other. Throws GswarmError `context_length_exceeded` naming the input. */
export async function embed(
	engine: Engine,
	runtime: LlamaRuntime,
	request: EmbeddingRequest,
	{ signal }: { signal: AbortSignal },
): Promise<Response> {
	const pool = await runtime.embeddings();
	const context = await pool.acquire(signal);
	try {
		const limit = Math.min(runtime.trainedContextTokens, MAX_EMBEDDING_TOKENS);
		const lengths = request.inputs.map((input) => context.calculateInputLength(input));
		const tooLong = lengths.findIndex((length) => length >= limit);
		if (tooLong >= 0)
			throw invalid(
				"context_length_exceeded",
				`input[${tooLong}] has ${lengths[tooLong]} tokens, this model embeds up to ${limit - 1}.`,
				{ param: "input" },
			);
		const data: object[] = [];
		for (const [index, input] of request.inputs.entries()) {
			signal.throwIfAborted();
			const { vector } = await context.getEmbeddingFor(input);
			data.push({ object: "embedding", index, embedding: encode(unit(vector), request.encoding) });
		}
		const tokens = lengths.reduce((sum, length) => sum + length, 0);
		engine.metrics.promptTokens += tokens;
		return Response.json({
			object: "list",
			model: engine.args.alias,
			data,
			usage: { prompt_tokens: tokens, total_tokens: tokens },
		});
	} finally {
		pool.release(context);
	}
}

/** Scaled to length 1; a zero vector stays as it is. */
export function unit(vector: readonly number[]): number[] {
	const length = Math.hypot(...vector);
	return length === 0 ? [...vector] : vector.map((value) => value / length);
}

/** base64 is little-endian f32, what OpenAI's own clients ask for by default. */
export function encode(vector: readonly number[], encoding: "float" | "base64"): number[] | string {
	return encoding === "float" ? [...vector] : Buffer.from(new Float32Array(vector).buffer).toString("base64");
}
