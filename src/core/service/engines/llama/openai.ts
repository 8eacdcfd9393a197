/**
 * The OpenAI wire format as far as the engine speaks it: requests checked field by field, errors in OpenAI's
 * shape. A parameter that would change the answer and is not supported is refused, never ignored.
 * Source: https://platform.openai.com/docs/api-reference
 */
import { z } from "zod";
import { GswarmError, invalid } from "../../../../schema/errors.ts";

export interface ChatMessage {
	role: string;
	content: string;
}

/** How tokens are chosen; defaults are llama.cpp's. */
export interface Sampling {
	temperature: number;
	topP: number;
	topK: number;
	minP: number;
	seed: number | undefined;
	frequencyPenalty: number;
	presencePenalty: number;
}

/** What the answer must look like; `schema` is a JSON schema. */
export type AnswerFormat = { type: "text" } | { type: "json"; schema: Record<string, unknown> };

export interface CompletionRequest {
	sampling: Sampling;
	/** `undefined`: as many as the context has room for. */
	maxTokens: number | undefined;
	stop: string[];
	stream: boolean;
	includeUsage: boolean;
	format: AnswerFormat;
	input:
		| { kind: "chat"; messages: ChatMessage[]; templateVariables: Record<string, unknown> }
		| { kind: "text"; prompt: string };
}

export interface EmbeddingRequest {
	inputs: string[];
	encoding: "float" | "base64";
}

/** Checks the body of /v1/chat/completions. Throws GswarmError (400) whose `details.param` names the field. */
export function parseChatRequest(body: unknown, alias: string): CompletionRequest {
	refuseUnsupported(body, [...UNSUPPORTED, "tools", "functions", "top_logprobs", "audio"]);
	const parsed = check(chatBody, body, alias);
	return {
		...common(parsed, parsed.max_completion_tokens ?? parsed.max_tokens),
		format: formatOf(parsed.response_format),
		input: {
			kind: "chat",
			messages: parsed.messages.map((message) => ({
				// OpenAI's newer name for the same thing; no template knows it.
				role: message.role === "developer" ? "system" : message.role,
				content: textOf(message.content),
			})),
			templateVariables: parsed.chat_template_kwargs ?? {},
		},
	};
}

/** Checks the body of /v1/completions. */
export function parseTextRequest(body: unknown, alias: string): CompletionRequest {
	refuseUnsupported(body, [...UNSUPPORTED, "suffix", "echo"]);
	const parsed = check(textBody, body, alias);
	const prompt = typeof parsed.prompt === "string" ? parsed.prompt : (parsed.prompt[0] ?? "");
	return { ...common(parsed, parsed.max_tokens), format: { type: "text" }, input: { kind: "text", prompt } };
}

/** Checks the body of /v1/embeddings. */
export function parseEmbeddingRequest(body: unknown, alias: string): EmbeddingRequest {
	refuseUnsupported(body, ["dimensions"]);
	const parsed = check(embeddingBody, body, alias);
	return {
		inputs: typeof parsed.input === "string" ? [parsed.input] : parsed.input,
		encoding: parsed.encoding_format ?? "float",
	};
}

/** The error body of `/v1`: OpenAI's shape, so that its clients raise their own error classes. */
export function openAiErrorBody(error: GswarmError) {
	const { param } = error.details;
	return {
		error: {
			message: error.hint === undefined ? error.message : `${error.message} ${error.hint}`,
			type: error.status >= 500 ? "server_error" : "invalid_request_error",
			param: typeof param === "string" ? param : null,
			code: error.reason ?? null,
		},
	};
}

const MAX_MESSAGES = 4096;
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1024;
const MAX_EMBEDDING_INPUTS = 2048;
/** Parameters of both completion routes that change the answer and that this engine cannot follow. */
const UNSUPPORTED = ["logprobs", "logit_bias"];

const stopText = z.string().min(1).max(MAX_STOP_LENGTH);
const shared = {
	model: z.string().nullish(),
	stream: z.boolean().nullish(),
	stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
	n: z.literal(1, "this engine makes one choice per request").nullish(),
	max_tokens: z.int().min(1).nullish(),
	temperature: z.number().min(0).max(2).nullish(),
	top_p: z.number().gt(0).max(1).nullish(),
	top_k: z.int().min(0).nullish(),
	min_p: z.number().min(0).max(1).nullish(),
	seed: z.int().nullish(),
	stop: z.union([stopText, z.array(stopText).max(MAX_STOPS)]).nullish(),
	frequency_penalty: z.number().min(-2).max(2).nullish(),
	presence_penalty: z.number().min(-2).max(2).nullish(),
};
const sharedBody = z.object(shared);

const textPart = z.object({ type: z.literal("text", "this engine reads text parts only"), text: z.string() });
const message = z.object({
	role: z.string().min(1).max(64),
	content: z.union([z.string(), z.array(textPart)]).nullish(),
});
const chatBody = z.object({
	...shared,
	messages: z.array(message).min(1, "must hold at least one message").max(MAX_MESSAGES),
	max_completion_tokens: z.int().min(1).nullish(),
	response_format: z
		.discriminatedUnion("type", [
			z.object({ type: z.literal("text") }),
			z.object({ type: z.literal("json_object") }),
			z.object({
				type: z.literal("json_schema"),
				json_schema: z.object({ schema: z.record(z.string(), z.unknown()) }),
			}),
		])
		.nullish(),
	chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
});
const textBody = z.object({
	...shared,
	prompt: z.union([z.string(), z.array(z.string()).length(1, "this engine takes one prompt per request")]),
});
const embeddingBody = z.object({
	model: z.string().nullish(),
	input: z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(MAX_EMBEDDING_INPUTS)]),
	encoding_format: z.enum(["float", "base64"]).nullish(),
});

function check<T extends z.ZodType<{ model?: string | null | undefined }>>(
	schema: T,
	body: unknown,
	alias: string,
): z.infer<T> {
	if (typeof body !== "object" || body === null || Array.isArray(body))
		throw invalid("bad_request", "The request body must be a JSON object.");
	const result = schema.safeParse(body);
	if (!result.success) throw wrongField(result.error, body);
	const { model } = result.data;
	// Of several revisions one may be asked for by name; which that is, the gateway knows.
	if (model != null && model !== alias && !model.startsWith(`${alias}@`))
		throw new GswarmError(
			"MODEL_NOT_FOUND",
			`This engine serves ${JSON.stringify(alias)}, not ${JSON.stringify(model)}.`,
			{
				reason: "model_not_found",
				details: { param: "model" },
			},
		);
	return result.data;
}

function wrongField(error: z.ZodError, body: object): GswarmError {
	const issue = deepest(error.issues);
	const param = issue.path.reduce<string>(
		(path, key) =>
			typeof key === "number" ? `${path}[${key}]` : path === "" ? String(key) : `${path}.${String(key)}`,
		"",
	);
	const [first] = issue.path;
	if (issue.path.length === 1 && typeof first === "string" && !Object.hasOwn(body, first))
		return invalid("missing_parameter", `'${param}' is required.`, { param });
	return invalid("invalid_parameter", `'${param}' is wrong: ${issue.message}.`, { param });
}

/** Of a union the branch that got furthest says best what is wrong. */
function deepest(
	issues: readonly z.core.$ZodIssue[],
	base: readonly PropertyKey[] = [],
): { path: PropertyKey[]; message: string } {
	const [issue] = issues;
	if (issue === undefined) return { path: [...base], message: "is not valid" };
	const path = [...base, ...issue.path];
	if (issue.code !== "invalid_union" || issue.errors.length === 0) return { path, message: issue.message };
	const branches = issue.errors.map((branch) => deepest(branch, path));
	const longest = branches.reduce((best, branch) => (branch.path.length > best.path.length ? branch : best));
	if (longest.path.length > path.length) return longest;
	return { path, message: branches.map((branch) => branch.message).join(" or ") };
}

function refuseUnsupported(body: unknown, names: readonly string[]): void {
	if (typeof body !== "object" || body === null) return;
	for (const name of names) {
		const value: unknown = (body as Record<string, unknown>)[name];
		const empty =
			value == null ||
			value === false ||
			value === "" ||
			(typeof value === "object" && Object.keys(value).length === 0);
		if (!empty)
			throw invalid("unsupported_parameter", `'${name}' is not supported by the embedded engine.`, {
				param: name,
			});
	}
}

function common(parsed: z.infer<typeof sharedBody>, maxTokens: number | null | undefined) {
	const stop = parsed.stop ?? [];
	return {
		sampling: {
			temperature: parsed.temperature ?? 0.8,
			topP: parsed.top_p ?? 0.95,
			topK: parsed.top_k ?? 40,
			minP: parsed.min_p ?? 0.05,
			seed: parsed.seed == null ? undefined : parsed.seed >>> 0,
			frequencyPenalty: parsed.frequency_penalty ?? 0,
			presencePenalty: parsed.presence_penalty ?? 0,
		},
		maxTokens: maxTokens ?? undefined,
		stop: typeof stop === "string" ? [stop] : stop,
		stream: parsed.stream ?? false,
		includeUsage: parsed.stream_options?.include_usage ?? false,
	};
}

function formatOf(format: z.infer<typeof chatBody>["response_format"]): AnswerFormat {
	if (format == null || format.type === "text") return { type: "text" };
	if (format.type === "json_schema") return { type: "json", schema: format.json_schema.schema };
	return { type: "json", schema: { type: "object", additionalProperties: true } };
}

function textOf(content: z.infer<typeof message>["content"]): string {
	if (content == null) return "";
	return typeof content === "string" ? content : content.map((part) => part.text).join("");
}
