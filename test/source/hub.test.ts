import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSource, type Source, type SourceOptions } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { startByteServer } from "../support/byte-server.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { writeFiller } from "../support/known-answer-model.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MODEL = "model.safetensors";
const SIZE_BYTES = 3_000_000;
const dir = tempDir();
let hub: Hub;
let model: Buffer;

beforeAll(() => {
	for (const folder of ["tiny/sub folder", "next", "gguf"])
		mkdirSync(join(dir.path, folder), { recursive: true });
	writeFiller(join(dir.path, "tiny", MODEL), SIZE_BYTES);
	writeFileSync(join(dir.path, "tiny/config.json"), "{}\n");
	writeFileSync(join(dir.path, "tiny/empty.txt"), "");
	writeFileSync(join(dir.path, "tiny/pytorch_model.bin"), "old weights");
	writeFileSync(join(dir.path, "tiny/sub folder/é #1.txt"), "hello");
	writeFileSync(join(dir.path, "next/config.json"), '{"new":1}\n');
	writeFileSync(join(dir.path, "gguf/tiny-Q4_0.gguf"), "4444");
	writeFileSync(join(dir.path, "gguf/tiny-Q8_0.gguf"), "88888888");
	writeFileSync(join(dir.path, "gguf/README.md"), "read me");
	model = readFileSync(join(dir.path, "tiny", MODEL));
	const source = { dir: join(dir.path, "tiny") };
	hub = startHub({
		repositories: {
			"acme/tiny": { ...source, revisions: { next: join(dir.path, "next") } },
			"acme/gguf": { dir: join(dir.path, "gguf") },
			"acme/gated": { ...source, gated: true },
			"acme/private": { ...source, private: true },
		},
		tokens: { hf_member: ["acme/gated", "acme/private"], hf_stranger: [] },
		pageSize: 2,
	});
});
afterAll(() => {
	hub.stop();
	dir[Symbol.dispose]();
});
afterEach(() => {
	hub.clearFaults();
	hub.clearLog();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
function open(
	uri: string,
	options: SourceOptions & { token?: string; endpoint?: string; allow?: string[] } = {},
): Source {
	const { token, endpoint = hub.url, allow = [], ...more } = options;
	return openSource(uri, {
		outbound: createOutbound(
			{ clock: systemClock, log: silentLog },
			{ allow: [hub.url, hub.cdnUrl, ...allow] },
		),
		clock: systemClock,
		hub: { endpoint, token },
		...more,
	});
}
async function readAll(
	source: Source,
	path: string,
	range?: { start: number; end: number },
): Promise<Buffer> {
	const description = await source.describe(signal());
	const file = description.files.find((each) => each.path === path);
	if (file === undefined) throw new Error(`the description has no ${path}`);
	return Buffer.from(await new Response(await source.read(file, range, signal())).arrayBuffer());
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => error as Record<string, unknown>,
	);

describe("a description", () => {
	test("pins the commit and has every file of every page with size and digest", async () => {
		const commit = hub.commitOf("acme/tiny");
		const found = await open("acme/tiny").describe(signal());
		expect(found).toMatchObject({
			uri: `hf:acme/tiny@${commit}`,
			revision: commit,
			suggestedName: "acme/tiny",
			totalBytes: SIZE_BYTES + 3 + 5,
			archive: undefined,
		});
		expect(
			found.files.map(({ path, sizeBytes, digest, rangeable }) => [path, sizeBytes, digest, rangeable]),
		).toEqual([
			["config.json", 3, { algorithm: "git-sha1", hex: "0967ef424bce6791893e9a57bb952f80fd536e93" }, true],
			["empty.txt", 0, { algorithm: "git-sha1", hex: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" }, true],
			[
				MODEL,
				SIZE_BYTES,
				{ algorithm: "sha256", hex: new Bun.CryptoHasher("sha256").update(model).digest("hex") },
				true,
			],
			["sub folder/é #1.txt", 5, expect.objectContaining({ algorithm: "git-sha1" }), true],
		]);
		expect(found.sourceId).toMatch(/^[0-9a-f]{64}$/);
	});

	test("is the same for the same files and another for other ones", async () => {
		const [one, two, other] = await Promise.all(
			["acme/tiny", `acme/tiny@${hub.commitOf("acme/tiny")}`, "acme/tiny@next"].map((uri) =>
				open(uri).describe(signal()),
			),
		);
		expect(two).toEqual(one as NonNullable<typeof one>);
		expect(other?.sourceId).not.toBe(one?.sourceId as string);
		expect(other?.revision).toBe(hub.commitOf("acme/tiny", "next") as never);
	});

	test("of a choice of files has a revision of its own, of the default choice it has the commit", async () => {
		const commit = hub.commitOf("acme/tiny");
		const revision = async (uri: string, options: SourceOptions = {}) =>
			(await open(uri, options).describe(signal())).revision as string;
		expect(await revision("acme/tiny", { exclude: ["nothing"] })).toBe(commit);
		expect(await revision("acme/tiny", { include: ["config.json"] })).toMatch(`${commit}.`);
		expect(await revision("acme/tiny", { allFiles: true })).toMatch(`${commit}.`);
		expect(await revision("acme/gguf:q4_0")).toBe(`${hub.commitOf("acme/gguf")}.Q4_0`);
	});

	test("of a GGUF repository needs a choice among its quantisations", async () => {
		expect(await failure(open("acme/gguf").describe(signal()))).toMatchObject({
			status: 400,
			reason: "ambiguous_quantisation",
		});
		const { files } = await open("acme/gguf:Q8_0").describe(signal());
		expect(files.map(({ path }) => path as string)).toEqual(["README.md", "tiny-Q8_0.gguf"]);
	});

	test("of a page's URL is that of the repository, of a file's page that of the file", async () => {
		expect((await open(`${hub.url}/acme/tiny/tree/next`).describe(signal())).revision).toBe(
			hub.commitOf("acme/tiny", "next") as never,
		);
		const { files } = await open(`${hub.url}/acme/tiny/blob/main/pytorch_model.bin`).describe(signal());
		expect(files.map(({ path }) => path as string)).toEqual(["pytorch_model.bin"]);
	});
});

describe("reading", () => {
	test("gives exactly the range, each asked as a range, of large and of small files", async () => {
		const source = open("acme/tiny");
		expect(
			(await readAll(source, MODEL, { start: 1000, end: 2000 })).equals(model.subarray(1000, 2000)),
		).toBe(true);
		expect((await readAll(source, MODEL)).equals(model)).toBe(true);
		expect((await readAll(source, "config.json")).toString()).toBe("{}\n");
		expect((await readAll(source, "config.json", { start: 1, end: 2 })).toString()).toBe("}");
		expect((await readAll(source, "sub folder/é #1.txt")).toString()).toBe("hello");
		expect((await readAll(source, "empty.txt")).length).toBe(0);
		const bodies = hub.log().filter(({ target }) => !target.startsWith("/api/models/"));
		expect(bodies.every(({ range }) => range !== undefined)).toBe(true);
		expect(bodies.every(({ headers }) => headers["accept-encoding"] === "identity")).toBe(true);
	});

	test("asks the hub once for a file's place, though many streams begin at the same time", async () => {
		const source = open("acme/tiny");
		const { files } = await source.describe(signal());
		const file = files.find(({ path }) => path === MODEL);
		if (file === undefined) throw new Error("no model");
		const part = SIZE_BYTES / 10;
		const parts = await Promise.all(
			Array.from({ length: 10 }, async (_, index) => {
				const body = await source.read(file, { start: index * part, end: (index + 1) * part }, signal());
				return Buffer.from(await new Response(body).arrayBuffer());
			}),
		);
		expect(Buffer.concat(parts).equals(model)).toBe(true);
		expect(hub.log().filter(({ target }) => target.includes("/resolve/")).length).toBe(1);
	});

	test("asks again when the signed address has expired", async () => {
		const source = open("acme/tiny");
		await readAll(source, MODEL, { start: 0, end: 10 });
		const { files } = await source.describe(signal());
		const file = files.find(({ path }) => path === MODEL);
		if (file === undefined) throw new Error("no model");
		await new Response(await source.read(file, { start: 0, end: 10 }, signal())).arrayBuffer();
		hub.expireSignedUrls();
		hub.clearLog();
		const body = await source.read(file, { start: 10, end: 20 }, signal());
		expect(Buffer.from(await new Response(body).arrayBuffer()).equals(model.subarray(10, 20))).toBe(true);
		expect(hub.log().map(({ server, status }) => [server, status])).toEqual([
			["cdn", 403],
			["hub", 302],
			["cdn", 206],
		]);
	});

	test("sends the token to the hub and never to the CDN", async () => {
		const source = open("acme/gated", { token: "hf_member" });
		expect((await readAll(source, MODEL, { start: 0, end: 4 })).length).toBe(4);
		expect((await readAll(source, "config.json")).length).toBe(3);
		const log = hub.log();
		expect(
			new Set(log.filter(({ server }) => server === "hub").map(({ authorization }) => authorization)),
		).toEqual(new Set(["Bearer hf_member"]));
		expect(JSON.stringify(log.filter(({ server }) => server === "cdn"))).not.toContain("hf_member");
	});

	test.each([
		["ignoreRange", { ignoreRange: true }, { reason: "range_ignored", retryable: true }],
		["wrongContentRange", { wrongContentRange: true }, { reason: "wrong_range", retryable: false }],
		["gzipEncoding", { gzipEncoding: true }, { reason: "content_encoding" }],
		["truncateFile", { truncateFile: { path: MODEL, sizeBytes: 2000 } }, { reason: "source_changed" }],
		[
			"truncateFile below the range",
			{ truncateFile: { path: MODEL, sizeBytes: 50 } },
			{ reason: "source_changed" },
		],
	])("refuses what does not fit: %s", async (_name, faults, error) => {
		hub.set(faults);
		expect(await failure(readAll(open("acme/tiny"), MODEL, { start: 100, end: 200 }))).toMatchObject(error);
	});

	test("takes a 200 for a whole file, which is what was asked", async () => {
		hub.set({ ignoreRange: true });
		expect((await readAll(open("acme/tiny"), MODEL)).equals(model)).toBe(true);
	});

	test("notices that the file's ETag changed, and starts anew after that", async () => {
		const source = open("acme/tiny");
		const { files } = await source.describe(signal());
		const file = files.find(({ path }) => path === MODEL);
		if (file === undefined) throw new Error("no model");
		const read = () => source.read(file, { start: 0, end: 4 }, signal()).then((body) => body.cancel());
		await read();
		hub.set({ changeEtag: true });
		expect(await failure(read())).toMatchObject({
			code: "CONFLICT",
			reason: "source_changed",
			retryable: false,
		});
		hub.set({ changeEtag: undefined });
		await failure(read());
		await read();
	});

	test("is not led inside by a redirect of the hub", async () => {
		hub.set({ redirectTo: "http://127.0.0.1:1/secret" });
		expect(await failure(readAll(open("acme/tiny"), MODEL))).toMatchObject({
			status: 502,
			reason: "redirect_blocked",
		});
	});
});

describe("what the hub refuses", () => {
	test.each([
		["acme/nothing", undefined, "auth", "does not exist or is private"],
		["acme/nothing", "hf_stranger", "not_found", "no model acme/nothing"],
		["acme/private", undefined, "auth", "does not exist or is private"],
		["acme/private", "hf_stranger", "not_found", "the token may not see it"],
		["acme/tiny", "hf_wrong", "auth", "did not accept the token"],
		["acme/tiny@nothing", undefined, "revision_not_found", 'no revision "nothing"'],
	])("%s with token %s is %s, not to be retried", async (uri, token, reason, message) => {
		const error = await failure(open(uri, token === undefined ? {} : { token }).describe(signal()));
		expect(error).toMatchObject({
			code: "TASK_FAILED",
			reason,
			retryable: false,
			message: expect.stringContaining(message),
			hint: expect.any(String),
		});
		expect(JSON.stringify([error.message, error.details, error.hint])).not.toContain(token ?? "no token");
	});

	test.each([
		[undefined, "then store your token: `gswarm secret set hf --origin http://127.0.0.1"],
		["hf_stranger", "Accept the licence"],
	])("a gated model with token %s says what to do", async (token, hint) => {
		const source = open("acme/gated", token === undefined ? {} : { token });
		expect(await failure(readAll(source, MODEL))).toMatchObject({
			code: "TASK_FAILED",
			reason: "gated",
			retryable: false,
			hint: expect.stringContaining(hint),
		});
	});

	test("a rate limit is retryable and says how long", async () => {
		hub.set({ status429Times: 1, retryAfterSeconds: 87 });
		expect(await failure(open("acme/tiny").describe(signal()))).toMatchObject({
			code: "NETWORK_ERROR",
			reason: "rate_limited",
			retryable: true,
			retryAfterS: 87,
		});
		hub.set({ status503Times: 1, retryAfterSeconds: 3 });
		expect(await failure(open("acme/tiny").describe(signal()))).toMatchObject({
			code: "NETWORK_ERROR",
			reason: "source_unavailable",
			retryable: true,
			retryAfterS: 3,
		});
	});
});

describe("a hub that lies", () => {
	const COMMIT = "a".repeat(40);
	const oid = "b".repeat(40);
	/** A hub whose tree is this; every other answer is that of a proper hub. */
	function lie(
		tree: unknown,
		{ info, headers = {} }: { info?: unknown; headers?: Record<string, string> } = {},
	) {
		return startByteServer({
			answer: ({ target }) =>
				target.includes("/revision/")
					? { status: 200, body: JSON.stringify(info ?? { sha: COMMIT }) }
					: target.includes("/tree/")
						? { status: 200, headers, body: typeof tree === "string" ? tree : JSON.stringify(tree) }
						: { status: 200, body: "canary" },
		});
	}
	async function described(server: ReturnType<typeof lie>, uri = "acme/tiny", options: SourceOptions = {}) {
		try {
			return await failure(
				open(uri, { endpoint: server.url, allow: [server.url], ...options }).describe(signal()),
			);
		} finally {
			server.stop();
		}
	}
	const file = (path: string) => ({ type: "file", path, size: 1, oid });

	test.each([
		"../../.bashrc",
		"/abs",
		"C:\\x",
		"\\\\srv\\x",
		"a/../../b",
		"x".repeat(300),
		".gswarm-manifest.json",
		"con",
		"a//b",
		"a\u0000b",
		"",
		"a:b",
	])("about the file name %j fails whole with unsafe_filename", async (path) => {
		const error = await described(lie([file("config.json"), file(path)]));
		expect(error).toMatchObject({
			code: "INVALID_REQUEST",
			status: 400,
			reason: "unsafe_filename",
			retryable: false,
		});
	});

	test("about a name that tries to get out fails even if that file would be left out", async () => {
		const server = lie([file("model.safetensors"), file("../../x.bin")]);
		expect(await described(server, "acme/tiny", { exclude: ["*.bin"] })).toMatchObject({
			reason: "unsafe_filename",
		});
	});

	test("a name that is only unusual can be left out", async () => {
		const server = lie([file("model.safetensors"), file("img/10:00.png")]);
		expect(await described(server, "acme/tiny", { exclude: ["img/*"] })).toMatchObject({
			reason: "nothing failed",
		});
	});

	test.each([
		["one name twice", [file("a"), file("a")]],
		["names that differ in capitals", [file("A.txt"), file("a.txt")]],
		["a file that is a folder too", [file("a"), file("a/b")]],
	])("about %s is refused", async (_name, tree) => {
		expect(await described(lie(tree))).toMatchObject({ reason: "unsafe_filename" });
	});

	test("about sizes that fit nowhere is refused before anything is fetched", async () => {
		expect(await described(lie([{ ...file("a"), size: 1e18 }]))).toMatchObject({
			code: "RESOURCE_UNAVAILABLE",
			status: 507,
			reason: "too_large",
		});
	});

	test.each([
		["no JSON", "<html>"],
		["a list of something else", [1, 2]],
		["an object", { error: "x" }],
		["a negative size", [{ ...file("a"), size: -1 }]],
	])("with %s is bad_answer", async (_name, tree) => {
		expect(await described(lie(tree))).toMatchObject({
			code: "NETWORK_ERROR",
			reason: "bad_answer",
			retryable: false,
		});
	});

	test("with no files says so", async () => {
		expect(await described(lie([]))).toMatchObject({ status: 400, reason: "no_files_match" });
	});

	test("about its commit is bad_answer", async () => {
		expect(await described(lie([file("a")], { info: { sha: "../../x" } }))).toMatchObject({
			reason: "bad_answer",
		});
		expect(await described(lie([file("a")]), `acme/tiny@${"c".repeat(40)}`)).toMatchObject({
			reason: "bad_answer",
		});
	});

	test("whose list goes on elsewhere, or for ever, is not followed", async () => {
		const away = lie([file("a")], { headers: { link: '<http://127.0.0.1:1/next>; rel="next"' } });
		expect(await described(away)).toMatchObject({ reason: "bad_answer" });
		const self = lie([file("a")], { headers: { link: '<?recursive=true>; rel="next"' } });
		expect(await described(self)).toMatchObject({ reason: "bad_answer" });
		expect(self.exchanges.length).toBe(2);
	});

	test("whose list has always one page more is left after a thousand", async () => {
		let pages = 0;
		const endless = lie([], {
			headers: {
				get link() {
					return `<?page=${pages++}>; rel="next"`;
				},
			},
		});
		expect(await described(endless)).toMatchObject({ reason: "bad_answer" });
		expect(pages).toBe(1000);
	});

	test("that falls silent in the middle of its list is a retryable timeout, by the clock", async () => {
		const clock = new FakeClock();
		const proxy = await startFaultProxy(Number(new URL(hub.url).port), { stall: true });
		const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [proxy.url] });
		const source = openSource("acme/tiny", { outbound, clock, hub: { endpoint: proxy.url } });
		const failed = failure(source.describe(signal()));
		await until("the hub is asked", () => proxy.connections() === 1 && clock.sleeping === 1);
		await clock.advance(60_000);
		expect(await failed).toMatchObject({ code: "NETWORK_ERROR", reason: "timeout", retryable: true });
		proxy.stop();
	});

	test("whose list is cut off is a retryable reset", async () => {
		const server = startByteServer({
			answer: ({ target }) => ({
				status: 200,
				headers: target.includes("/tree/") ? { "content-length": "1000", connection: "close" } : {},
				sendLength: !target.includes("/tree/"),
				body: target.includes("/tree/") ? "[" : JSON.stringify({ sha: COMMIT }),
			}),
		});
		expect(await described(server)).toMatchObject({
			code: "NETWORK_ERROR",
			reason: "reset",
			retryable: true,
		});
	});

	test("with a list larger than the limit is cut off", async () => {
		const server = lie(`[${'"x",'.repeat(3_000_000)}"x"]`);
		expect(await described(server)).toMatchObject({
			reason: "bad_answer",
			message: expect.stringContaining("more than"),
		});
	});
});
