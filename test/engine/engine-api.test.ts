import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_SENTENCE, writeGguf } from "../support/known-answer-model.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { type EngineProcess, longRequest, startEngine } from "./engine-process.ts";

interface ErrorBody {
	error: { message: string; type: string; param: string | null; code: string | null };
}

interface ChatBody {
	choices: [{ message: { content: string }; finish_reason: string }];
	usage: {
		prompt_tokens: number;
		completion_tokens: number;
		prompt_tokens_details: { cached_tokens: number };
	};
}

const MESSAGES = [{ role: "user", content: "What are you?" }];
const PARALLEL = 2;
const QUEUE_LIMIT = 1;

let dir: TempDir;
let engine: EngineProcess;
let modelPath: string;

beforeAll(async () => {
	// tmpfs where there is one: the maps test then shows the DRAM tier's case.
	dir = tempDir("/dev/shm");
	modelPath = join(dir.path, "tiny.gguf");
	writeGguf(modelPath);
	engine = await startEngine(
		"--model",
		modelPath,
		"--alias",
		"acme/tiny",
		"--instance-id",
		"i-1",
		"--threads",
		"1",
		"--parallel",
		String(PARALLEL),
		"--queue-limit",
		String(QUEUE_LIMIT),
		"--ctx-size",
		"1024",
	);
}, 60_000);

afterAll(async () => {
	await engine[Symbol.asyncDispose]();
	dir[Symbol.dispose]();
});

async function chat(body: Record<string, unknown> = {}): Promise<ChatBody> {
	const response = await engine.post("/v1/chat/completions", { messages: MESSAGES, ...body });
	expect(response.status).toBe(200);
	return (await response.json()) as ChatBody;
}

async function refusal(path: string, body: unknown): Promise<{ status: number } & ErrorBody["error"]> {
	const response = await engine.post(path, body);
	const { error } = (await response.json()) as ErrorBody;
	return { status: response.status, ...error };
}

async function running(): Promise<number> {
	const health = (await (await engine.get("/health")).json()) as { requests_running: number };
	return health.requests_running;
}

/** The data of a stream's events. */
function dataOf(text: string): string[] {
	return text
		.split("\n\n")
		.filter((event) => event.startsWith("data: "))
		.map((event) => event.slice("data: ".length));
}

describe("a ready engine", () => {
	test("answers a chat with the sentence that its weights hold", async () => {
		const { choices, usage } = await chat({ model: "acme/tiny" });
		expect(choices[0]).toMatchObject({ message: { content: DEFAULT_SENTENCE }, finish_reason: "stop" });
		expect(usage.prompt_tokens).toBeGreaterThan(3);
		expect(usage.completion_tokens).toBe(DEFAULT_SENTENCE.split(" ").length + 1);
	});

	test("streams the same answer as server-sent events, with usage when asked", async () => {
		const response = await engine.post("/v1/chat/completions", {
			messages: MESSAGES,
			stream: true,
			stream_options: { include_usage: true },
		});
		expect(response.headers.get("content-type")).toBe("text/event-stream");
		const data = dataOf(await response.text());
		expect(data.at(-1)).toBe("[DONE]");
		const events = data.slice(0, -1).map(
			(text) =>
				JSON.parse(text) as {
					choices: { delta: { content?: string }; finish_reason: string | null }[];
					usage: { completion_tokens: number } | null;
				},
		);
		const text = events.map((event) => event.choices[0]?.delta.content ?? "").join("");
		expect(text).toBe(DEFAULT_SENTENCE);
		expect(events.length).toBeGreaterThan(DEFAULT_SENTENCE.split(" ").length);
		expect(events.at(-2)?.choices[0]?.finish_reason).toBe("stop");
		expect(events.at(-1)?.choices).toEqual([]);
		expect(events.at(-1)?.usage?.completion_tokens).toBeGreaterThan(0);
	});

	test("completes plain text, and streams it", async () => {
		const whole = (await (await engine.post("/v1/completions", { prompt: "x" })).json()) as {
			choices: [{ text: string }];
		};
		expect(whole.choices[0].text).toBe(DEFAULT_SENTENCE);
		const stream = await engine.post("/v1/completions", { prompt: ["x"], stream: true });
		const text = dataOf(await stream.text())
			.slice(0, -1)
			.map((data) => (JSON.parse(data) as { choices: [{ text: string }] }).choices[0].text);
		expect(text.join("")).toBe(DEFAULT_SENTENCE);
	});

	test("stops before a stop text and after max_tokens", async () => {
		const stopped = await chat({ stop: ["was"] });
		expect(stopped.choices[0].message.content.trimEnd()).toBe("Hello from gswarm: this reply");
		expect(stopped.choices[0].finish_reason).toBe("stop");
		const short = await chat({ max_tokens: 2 });
		expect(short.choices[0]).toMatchObject({ message: { content: "Hello from" }, finish_reason: "length" });
		expect((await chat({ max_completion_tokens: 1 })).choices[0].message.content).toBe("Hello");
	});

	test("keeps to a JSON schema", async () => {
		const { choices } = await chat({
			response_format: { type: "json_schema", json_schema: { name: "b", schema: { type: "boolean" } } },
		});
		expect(["true", "false"]).toContain(choices[0].message.content);
	});

	test("gives the same tokens for the same seed and others for another", async () => {
		const sample = async (seed: number) => {
			const body = await chat({ ...longRequest(60), seed, temperature: 2, top_p: 1, top_k: 0, min_p: 0 });
			return body.choices[0].message.content;
		};
		expect(await sample(1)).toBe(await sample(1));
		expect(await sample(1)).not.toBe(await sample(2));
	});

	test("computes a repeated prompt once", async () => {
		await chat({ messages: [{ role: "user", content: "the same long question" }] });
		const { usage } = await chat({ messages: [{ role: "user", content: "the same long question" }] });
		expect(usage.prompt_tokens_details.cached_tokens).toBe(usage.prompt_tokens - 1);
	});

	test("embeds texts as vectors of length 1, as numbers and as base64", async () => {
		const embed = async (body: object) =>
			(await (await engine.post("/v1/embeddings", body)).json()) as {
				data: { index: number; embedding: number[] | string }[];
				usage: { prompt_tokens: number };
			};
		const { data, usage } = await embed({ input: ["one", "two"] });
		expect(data.map((item) => item.index)).toEqual([0, 1]);
		const [vector = []] = data.map((item) => (Array.isArray(item.embedding) ? item.embedding : []));
		expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
		expect(usage.prompt_tokens).toBeGreaterThan(2);
		const encoded = await embed({ input: "one", encoding_format: "base64" });
		const bytes = Buffer.from(String(encoded.data[0]?.embedding), "base64");
		const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
		expect(floats[0]).toBeCloseTo(vector[0] ?? Number.NaN, 6);
	});

	test("lists and shows its model under its alias", async () => {
		const list = (await (await engine.get("/v1/models")).json()) as { data: { id: string; meta: object }[] };
		expect(list.data).toMatchObject([{ id: "acme/tiny", meta: { context_tokens: 1024, file_type: "F32" } }]);
		expect((await engine.get("/v1/models/acme/tiny")).status).toBe(200);
		expect((await engine.get("/v1/models/acme%2Ftiny")).status).toBe(200);
		expect((await engine.get("/v1/models/other")).status).toBe(404);
	});

	test("maps the weights instead of copying them", () => {
		const maps = readFileSync(`/proc/${engine.pid}/maps`, "utf8").split("\n");
		const mapped = maps.filter((line) => line.includes(modelPath));
		expect(mapped.length).toBeGreaterThan(0);
		for (const line of mapped) expect(line).toContain(" r--s ");
	});

	test("tells Prometheus what it did", async () => {
		await chat();
		const text = await (await engine.get("/metrics")).text();
		expect(text).toMatch(/gswarm_engine_requests_total\{route="\/v1\/chat\/completions",status="200"\} \d+/);
		expect(text).toMatch(/gswarm_engine_generated_tokens_total [1-9]/);
		for (const line of text.trimEnd().split("\n")) expect(line).toMatch(/^(# (HELP|TYPE) |)gswarm_engine_/);
	});

	test("is healthy under its instance id and answers 409 under another", async () => {
		expect(await (await engine.get("/health?instance=i-1")).json()).toMatchObject({
			status: "ok",
			instance_id: "i-1",
			model: "acme/tiny",
			pid: engine.pid,
		});
		expect((await engine.get("/health?instance=i-2")).status).toBe(409);
	});
});

describe("input that is wrong", () => {
	test("is refused with 400 naming the field", async () => {
		const cases: [object, string][] = [
			[{}, "messages"],
			[{ messages: [] }, "messages"],
			[{ messages: "hi" }, "messages"],
			[{ messages: [{ content: "hi" }] }, "messages[0].role"],
			[{ messages: [{ role: "user", content: 7 }] }, "messages[0].content"],
			[{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "messages[0].content[0].type"],
			[{ messages: MESSAGES, temperature: "hot" }, "temperature"],
			[{ messages: MESSAGES, temperature: -1 }, "temperature"],
			[{ messages: MESSAGES, top_p: 0 }, "top_p"],
			[{ messages: MESSAGES, max_tokens: 0 }, "max_tokens"],
			[{ messages: MESSAGES, max_tokens: 1.5 }, "max_tokens"],
			[{ messages: MESSAGES, seed: "x" }, "seed"],
			[{ messages: MESSAGES, stop: [""] }, "stop[0]"],
			[{ messages: MESSAGES, stream: "yes" }, "stream"],
			[{ messages: MESSAGES, n: 2 }, "n"],
			[{ messages: MESSAGES, tools: [{}] }, "tools"],
			[{ messages: MESSAGES, logprobs: true }, "logprobs"],
			[{ messages: MESSAGES, response_format: { type: "xml" } }, "response_format"],
		];
		for (const [body, param] of cases) {
			const answer = await refusal("/v1/chat/completions", body);
			expect([param, answer.status, answer.type]).toEqual([param, 400, "invalid_request_error"]);
			expect(answer.param?.startsWith(param)).toBe(true);
			expect(answer.message).toContain(`'${param}`);
		}
		expect(await refusal("/v1/completions", {})).toMatchObject({ status: 400, param: "prompt" });
		expect(await refusal("/v1/completions", { prompt: ["a", "b"] })).toMatchObject({
			status: 400,
			param: "prompt",
		});
		expect(await refusal("/v1/embeddings", { input: [] })).toMatchObject({ status: 400, param: "input" });
	});

	test("that is not a JSON object is refused", async () => {
		for (const body of ["{", "", "[1]", "null", "7", "\u0000"])
			expect((await refusal("/v1/chat/completions", body)).status).toBe(400);
	});

	test("larger than the limit is refused with 413, announced or not", async () => {
		const body = JSON.stringify({ messages: [{ role: "user", content: "x".repeat(9 << 20) }] });
		expect(await refusal("/v1/chat/completions", body)).toMatchObject({
			status: 413,
			code: "body_too_large",
		});
		const unannounced = new ReadableStream({
			start(controller) {
				controller.enqueue(Buffer.from(body));
				controller.close();
			},
		});
		const response = await engine.post("/v1/chat/completions", "", { body: unannounced });
		expect(response.status).toBe(413);
	});

	test("longer than the context is refused as context_length_exceeded", async () => {
		const content = "x ".repeat(3000);
		expect(await refusal("/v1/chat/completions", { messages: [{ role: "user", content }] })).toMatchObject({
			status: 400,
			code: "context_length_exceeded",
			param: "messages",
		});
		expect(await refusal("/v1/embeddings", { input: "x".repeat(9000) })).toMatchObject({
			status: 400,
			code: "context_length_exceeded",
		});
	});

	test("for another model, path, method or host is refused", async () => {
		expect(await refusal("/v1/chat/completions", { model: "b", messages: MESSAGES })).toMatchObject({
			status: 404,
			code: "model_not_found",
		});
		expect((await engine.get("/nope")).status).toBe(404);
		expect((await engine.get("/v1/chat/completions")).status).toBe(405);
		expect((await engine.get("/v1/models", { host: "evil.example" })).status).toBe(403);
	});
});

describe("under load", () => {
	test("an answer fills the context to its end and no further", async () => {
		const { usage, choices } = await chat({ ...longRequest(100_000) });
		expect(choices[0].finish_reason).toBe("length");
		expect(usage.prompt_tokens + usage.completion_tokens).toBe(1024 - 2);
	});

	test("more requests than sequences and queue get 503 with Retry-After, the others their answers", async () => {
		const responses = await Promise.all(
			Array.from({ length: PARALLEL + QUEUE_LIMIT + 2 }, () =>
				engine.post("/v1/chat/completions", longRequest(600)),
			),
		);
		const refused = responses.filter((response) => response.status === 503);
		expect(refused.length).toBe(2);
		for (const response of refused) expect(response.headers.get("retry-after")).toBe("1");
		for (const response of responses.filter((each) => each.status === 200))
			expect(((await response.json()) as ChatBody).usage.completion_tokens).toBe(600);
		expect(await running()).toBe(0);
	});

	test("a stream whose client leaves stops computing", async () => {
		const generated = async () =>
			Number(
				/gswarm_engine_generated_tokens_total (\d+)/.exec(await (await engine.get("/metrics")).text())?.[1],
			);
		const before = await generated();
		const client = new AbortController();
		const response = await engine.post(
			"/v1/chat/completions",
			{ ...longRequest(1000), stream: true },
			{ signal: client.signal },
		);
		const reader = response.body?.getReader();
		await reader?.read();
		expect(await running()).toBe(1);
		client.abort();
		await until("the sequence is free", async () => (await running()) === 0, 5000);
		// Only completed requests are counted: it was given up, not finished quickly.
		expect(await generated()).toBe(before);
	});

	test("a request whose client leaves stops computing, one that waits leaves the queue", async () => {
		const client = new AbortController();
		const ask = () =>
			engine
				.post("/v1/chat/completions", longRequest(1000), { signal: client.signal })
				.then(() => "answered")
				.catch(() => "left");
		const all = [ask(), ask(), ask()];
		await until("two run and one waits", async () => {
			const health = (await (await engine.get("/health")).json()) as Record<string, number>;
			return health.requests_running === 2 && health.requests_waiting === 1;
		});
		client.abort();
		expect(await Promise.all(all)).toEqual(["left", "left", "left"]);
		await until("all is free", async () => {
			const health = (await (await engine.get("/health")).json()) as Record<string, number>;
			return health.requests_running === 0 && health.requests_waiting === 0;
		});
		expect((await chat()).choices[0].message.content).toBe(DEFAULT_SENTENCE);
	});
});
