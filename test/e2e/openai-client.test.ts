/** Programs that know nothing of gswarm, over TLS: OpenAI's own client on Node, and curl, with what `gswarm env` says. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { TestCluster } from "../support/agents.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { requires } from "../support/requires.ts";

const SENTENCE = "Whoever holds the certificate may ask.";
const REPOSITORY = resolve(import.meta.dir, "../..");
const LIMIT_MS = 60_000;

const cluster = new TestCluster();
let said: Record<string, string>;

beforeAll(async () => {
	cluster.configure("one", `import_folders: ["${cluster.home.path}"]\n`);
	writeGguf(join(cluster.home.path, "tiny.gguf"), { name: "tiny", say: SENTENCE, sizeBytes: 8_000_000 });
	const ports = ["--port", "0", "--node-port", "0", "--peer-port", "0"];
	await cluster.start("one", { args: ["--node", "one", "--tls", ...ports] });
	await cluster.run("one", "model", "download", "tiny", "--source", `file://${cluster.home.path}/tiny.gguf`);
	await cluster.run("one", "model", "serve", "tiny");
	// The token is that of somebody who may use models and nothing else.
	const token = await cluster.run("one", "token", "create", "--role", "inference", "--name", "app");
	const ours = JSON.parse(await cluster.run("one", "env", "--json")) as Record<string, string>;
	said = { ...ours, OPENAI_API_KEY: token.trim() };
}, LIMIT_MS);

afterAll(() => cluster[Symbol.asyncDispose](), LIMIT_MS);

async function run(argv: string[], more: Record<string, string>): Promise<{ code: number; stdout: string }> {
	const { NO_PROXY = "*" } = process.env;
	const child = Bun.spawn(argv, {
		cwd: REPOSITORY,
		env: { PATH: process.env.PATH ?? "", HOME: cluster.home.path, NO_PROXY, ...more },
		stdout: "pipe",
		stderr: "pipe",
	});
	const [stdout, stderr, code] = await Promise.all([
		new Response(child.stdout).text(),
		new Response(child.stderr).text(),
		child.exited,
	]);
	return { code, stdout: stdout + stderr };
}

const CLIENT = `
import OpenAI from "openai";
const client = new OpenAI({ maxRetries: 0 });
const models = [];
for await (const { id } of client.models.list()) models.push(id);
const messages = [{ role: "user", content: "Who may?" }];
const whole = await client.chat.completions.create({ model: "tiny", messages, temperature: 0 });
let streamed = "";
const stream = await client.chat.completions.create({ model: "tiny", messages, temperature: 0, stream: true });
for await (const { choices } of stream) streamed += choices[0]?.delta.content ?? "";
const refused = await client.models.list({ headers: { authorization: "Bearer wrong" } }).catch((error) => error.status);
console.log(JSON.stringify({ models, whole: whole.choices[0].message.content, streamed, refused }));
`;

function environment(names: readonly string[]): Record<string, string> {
	return Object.fromEntries(names.map((name) => [name, said[name] ?? ""]));
}

test(
	"OpenAI's client on Node lists models, asks and streams over TLS, and is refused with a wrong token",
	async () => {
		const { code, stdout } = await run(
			["node", "--input-type=module", "--eval", CLIENT],
			environment(["OPENAI_BASE_URL", "OPENAI_API_KEY", "NODE_EXTRA_CA_CERTS"]),
		);
		expect({ code, answer: code === 0 ? JSON.parse(stdout) : stdout }).toEqual({
			code: 0,
			answer: { models: ["tiny"], whole: SENTENCE, streamed: SENTENCE, refused: 401 },
		});
	},
	LIMIT_MS,
);

test(
	"without the cluster's certificate the same client does not speak at all",
	async () => {
		const { code, stdout } = await run(
			["node", "--input-type=module", "--eval", CLIENT],
			environment(["OPENAI_BASE_URL", "OPENAI_API_KEY"]),
		);
		expect(code).not.toBe(0);
		expect(stdout).toMatch(/UNABLE_TO_VERIFY|SELF_SIGNED|unable to verify|Connection error/i);
		expect(stdout).not.toContain(said["OPENAI_API_KEY"] ?? "?");
	},
	LIMIT_MS,
);

const withCurl = requires("curl", "plain curl over TLS", "curl") ? test : test.skip;

withCurl(
	"curl asks with the certificates of `gswarm env`, and not without them",
	async () => {
		const ask = [
			"curl",
			"--silent",
			"--show-error",
			"--header",
			`Authorization: Bearer ${said["OPENAI_API_KEY"]}`,
			`${said["OPENAI_BASE_URL"]}/models`,
		];
		const trusted = await run(ask, environment(["SSL_CERT_FILE"]));
		expect({ code: trusted.code, ids: modelIds(trusted.stdout) }).toEqual({ code: 0, ids: ["tiny"] });
		// 60: the peer's certificate cannot be authenticated with known CA certificates.
		expect((await run(ask, {})).code).toBe(60);
	},
	LIMIT_MS,
);

function modelIds(text: string): unknown {
	return text.startsWith("{")
		? (JSON.parse(text) as { data: { id: string }[] }).data.map(({ id }) => id)
		: text;
}
