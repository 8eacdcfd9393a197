import { afterEach, describe, expect, test } from "bun:test";
import {
	type BucketService,
	openSource,
	type Source,
	type SourceContext,
} from "../../src/core/source/source.ts";
import { parseListPage } from "../../src/core/source/bucket-list.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LoopbackS3, type S3Options, startS3 } from "../support/loopback-s3.ts";

const KEYS = { accessKeyId: "AKIATEST", secretAccessKey: "canary/secret+key" };
const running: LoopbackS3[] = [];

function start(options: S3Options = { keys: KEYS }): LoopbackS3 {
	const s3 = startS3(options);
	running.push(s3);
	return s3;
}
afterEach(() => {
	for (const s3 of running.splice(0)) s3.stop();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const service = (s3: LoopbackS3, more: Partial<BucketService> = {}): BucketService => ({
	endpoint: s3.url,
	region: "us-east-1",
	pathStyle: true,
	credentials: KEYS,
	...more,
});
function open(
	uri: string,
	s3: LoopbackS3,
	more: Partial<BucketService> = {},
	context: Partial<SourceContext> & { include?: string[]; exclude?: string[] } = {},
): Source {
	return openSource(uri, {
		outbound: createOutbound({ clock: systemClock, log: silentLog }, { allow: [s3.url] }),
		clock: systemClock,
		buckets: { s3: service(s3, more), gs: service(s3, more) },
		...context,
	});
}
const failure = (work: () => unknown): Promise<Record<string, unknown>> =>
	Promise.try(work).then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
async function readAll(
	source: Source,
	path: string,
	range?: { start: number; end: number },
): Promise<string> {
	const { files } = await source.describe(signal());
	const file = files.find((each) => each.path === path);
	if (file === undefined) throw new Error(`there is no ${path} among ${files.map((f) => f.path).join()}`);
	return await new Response(await source.read(file, range, signal())).text();
}
function tiny(s3: LoopbackS3): void {
	s3.put("models", "llm/tiny/config.json", "{}");
	s3.put("models", "llm/tiny/sub folder/é+(1)!.txt", "hello");
	s3.put("models", "llm/tiny/model.gguf", "0123456789");
	s3.put("models", "llm/tiny/", "");
	s3.put("models", "llm/tiny2/other.txt", "not this one");
	s3.put("models", "llm/single.gguf", "single");
	s3.put("models", "llm/packed.tar.gz", "packed");
}

describe("a prefix", () => {
	test("is a folder: its objects by their paths below it, and nothing that only begins like it", async () => {
		const s3 = start();
		tiny(s3);
		for (const uri of ["s3://models/llm/tiny", "s3://models/llm/tiny/", "gs://models/llm/tiny"]) {
			const found = await open(uri, s3).describe(signal());
			expect(found.files.map(({ path, sizeBytes }) => [path as string, sizeBytes])).toEqual([
				["config.json", 2],
				["model.gguf", 10],
				["sub folder/é+(1)!.txt", 5],
			]);
			expect(found).toMatchObject({ uri, suggestedName: "tiny", totalBytes: 17, archive: undefined });
		}
	});

	test("is listed over all pages", async () => {
		const s3 = start({ keys: KEYS, pageSize: 2 });
		for (let at = 0; at < 7; at++) s3.put("models", `m/${at}.txt`, "x");
		expect((await open("s3://models/m", s3).describe(signal())).files.length).toBe(7);
		expect(s3.requests.length).toBe(4);
	});

	test("that is an object's key is that one object, an archive too", async () => {
		const s3 = start();
		tiny(s3);
		expect(await readAll(open("s3://models/llm/single.gguf", s3), "single.gguf")).toBe("single");
		expect((await open("s3://models/llm/packed.tar.gz", s3).describe(signal())).archive).toBe("tar.gz");
	});

	test.each([
		"s3://models/llm/none",
		"s3://models/llm/single.gguf/",
		"s3://models/llm/tin",
		"s3://models/llm/single",
	])("with nothing behind it (%s) is told as such", async (uri) => {
		const s3 = start();
		tiny(s3);
		const refused = await failure(() => open(uri, s3).describe(signal()));
		expect(refused).toMatchObject({ code: "TASK_FAILED", reason: "not_found" });
	});

	test("is narrowed by include and exclude", async () => {
		const s3 = start();
		tiny(s3);
		const some = open("s3://models/llm/tiny", s3, {}, { include: ["*.json", "*.gguf"], exclude: ["c*"] });
		expect((await some.describe(signal())).files.map(({ path }) => path as string)).toEqual(["model.gguf"]);
		const none = open("s3://models/llm/tiny", s3, {}, { include: ["*.none"] });
		expect(await failure(() => none.describe(signal()))).toMatchObject({ reason: "no_files_match" });
	});

	test.each(["a/../../b", "a\\b", "con", ".gswarm-x", "a//b", "C:x"])(
		"with the key %p below it is refused, nothing of it is read",
		async (key) => {
			const s3 = start();
			s3.put("models", "m/ok.txt", "x");
			s3.put("models", `m/${key}`, "x");
			const refused = await failure(() => open("s3://models/m", s3).describe(signal()));
			expect(refused).toMatchObject({ code: "INVALID_REQUEST", reason: "unsafe_filename" });
		},
	);
});

describe("an object", () => {
	test("is read in ranges of the version that was described", async () => {
		const s3 = start();
		tiny(s3);
		const source = open("s3://models/llm/tiny", s3);
		expect(await readAll(source, "model.gguf", { start: 3, end: 7 })).toBe("3456");
		expect(await readAll(source, "sub folder/é+(1)!.txt")).toBe("hello");
		const described = await source.describe(signal());
		s3.put("models", "llm/tiny/model.gguf", "9876543210");
		const [, model] = described.files;
		if (model === undefined) throw new Error("no file");
		const refused = await failure(() => source.read(model, { start: 0, end: 1 }, signal()));
		expect(refused).toMatchObject({ code: "CONFLICT", reason: "source_changed" });
		// Whoever has many versions gives the one that is named, or none.
		const reads = s3.requests.filter(
			({ path, headers }) => path.endsWith(".gguf") && headers["range"] !== undefined,
		);
		expect(reads.length).toBeGreaterThan(1);
		expect(reads.every(({ headers }) => headers["if-match"] !== undefined)).toBe(true);
		expect((await source.describe(signal())).revision).not.toBe(described.revision);
	});

	test("whose answer has another ETag is refused, whatever the service made of If-Match", async () => {
		const s3 = start();
		tiny(s3);
		s3.set({ changeEtag: true });
		const refused = await failure(() => readAll(open("s3://models/llm/tiny", s3), "model.gguf"));
		expect(refused).toMatchObject({ reason: "source_changed" });
	});
});

describe("the manifest beside an uploaded model", () => {
	const sha256 = (text: string): string => new Bun.CryptoHasher("sha256").update(text).digest("hex");
	const manifest = (files: { path: string; text: string }[]) =>
		JSON.stringify({
			files: files.map(({ path, text }) => ({
				path,
				size_bytes: text.length,
				sha256: sha256(text),
				part_size_bytes: 8388608,
				xxh64: text === "" ? [] : ["0".repeat(16)],
			})),
			total_bytes: files.reduce((sum, { text }) => sum + text.length, 0),
		});
	const uploaded = (s3: LoopbackS3, text: string): void => {
		s3.put("models", "m/a.txt", "aaaa");
		s3.put("models", "m/.gswarm-manifest.json", text);
	};

	test("gives the files their sha256 and is none of them", async () => {
		const s3 = start();
		uploaded(s3, manifest([{ path: "a.txt", text: "aaaa" }]));
		const { files } = await open("s3://models/m", s3).describe(signal());
		expect(files.map(({ path, digest }) => [path as string, digest?.hex])).toEqual([
			["a.txt", sha256("aaaa")],
		]);
	});

	test.each([
		["of another size", manifest([{ path: "a.txt", text: "aaa" }])],
		[
			"with a file that is not there",
			manifest([
				{ path: "a.txt", text: "aaaa" },
				{ path: "b.txt", text: "b" },
			]),
		],
		["without a file that is there", manifest([])],
		["that is none", "{}"],
		["that is no JSON", "no"],
	])("%s is refused", async (_what, text) => {
		const s3 = start();
		uploaded(s3, text);
		const refused = await failure(() => open("s3://models/m", s3).describe(signal()));
		expect(refused).toMatchObject({ code: "TASK_FAILED", reason: "bad_manifest" });
	});
});

describe("credentials", () => {
	test("sign every request; the secret itself never goes anywhere", async () => {
		const s3 = start();
		tiny(s3);
		await readAll(
			open("s3://models/llm/tiny", s3, { credentials: { ...KEYS, sessionToken: "token" } }),
			"model.gguf",
		);
		expect(s3.requests.every(({ status }) => status < 300)).toBe(true);
		expect(s3.requests.every(({ headers }) => headers["x-amz-security-token"] === "token")).toBe(true);
		expect(JSON.stringify(s3.requests)).not.toContain(KEYS.secretAccessKey);
	});

	test.each<[string, Partial<BucketService>, string]>([
		["that are wrong", { credentials: { ...KEYS, secretAccessKey: "x" } }, "auth"],
		["of nobody", { credentials: { ...KEYS, accessKeyId: "x" } }, "auth"],
		["that are missing", { credentials: "anonymous" }, "auth"],
		["of another region", { region: "eu-west-1" }, "wrong_region"],
	])("%s are told, without the service's own text", async (_what, more, reason) => {
		const s3 = start();
		tiny(s3);
		const refused = await failure(() => open("s3://models/llm/tiny", s3, more).describe(signal()));
		expect(refused["reason"]).toBe(reason);
		expect(refused["hint"]).toBeDefined();
		expect(JSON.stringify(refused)).not.toContain("canary");
	});

	test("are not needed for a public bucket that is read anonymously", async () => {
		const s3 = start({});
		tiny(s3);
		expect(await readAll(open("s3://models/llm/tiny", s3, { credentials: "anonymous" }), "config.json")).toBe(
			"{}",
		);
		expect(s3.requests.every(({ headers }) => headers["authorization"] === undefined)).toBe(true);
	});

	test("that the cluster keeps for the endpoint are used where the agent has none", async () => {
		const s3 = start();
		tiny(s3);
		const asked: string[] = [];
		const credentials = (origin: string) => {
			asked.push(origin);
			return Promise.resolve(`${KEYS.accessKeyId}:${KEYS.secretAccessKey}`);
		};
		const source = open("s3://models/llm/tiny", s3, { credentials: undefined }, { credentials });
		expect(await readAll(source, "config.json")).toBe("{}");
		expect(asked).toEqual([s3.url]);
	});

	test("do not follow a redirect", async () => {
		const [s3, other] = [start(), start()];
		s3.set({ redirectTo: `${other.url}/models` });
		const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [s3.url, other.url] });
		const refused = await failure(() => open("s3://models/m", s3, {}, { outbound }).describe(signal()));
		expect(refused).toMatchObject({ code: "NETWORK_ERROR", reason: "wrong_region" });
		expect(other.requests).toEqual([]);
	});
});

describe("what is refused before anything is asked", () => {
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [] });

	test.each(["s3://b1c/k", "gs://b1c/k"])("%s on an agent that has no such service", async (uri) => {
		const refused = await failure(() => openSource(uri, { outbound, clock: systemClock }));
		expect(refused).toMatchObject({ status: 400, reason: "scheme_not_allowed" });
	});

	test.each(["http://169.254.169.254", "http://127.0.0.1:1", "http://10.0.0.1"])(
		"an endpoint at %s that the outbound client does not allow",
		async (endpoint) => {
			const s3 = { endpoint, region: "us-east-1", pathStyle: true, credentials: KEYS };
			const refused = await failure(() =>
				openSource("s3://b1c/k", { outbound, clock: systemClock, buckets: { s3 } }),
			);
			expect(refused).toMatchObject({ code: "FORBIDDEN", reason: "address_blocked" });
		},
	);
});

describe("a list", () => {
	test.each([
		["nothing", ""],
		["another document", "<html></html>"],
		[
			"an object without a size",
			"<ListBucketResult><Contents><Key>a</Key><ETag>x</ETag></Contents></ListBucketResult>",
		],
		["an object that does not end", "<ListBucketResult><Contents><Key>a</Key>"],
		[
			"a key in broken percent signs",
			"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%ff</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>",
		],
		[
			"a size that is no number",
			"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size><ETag>x</ETag></Contents></ListBucketResult>",
		],
		["no place where it goes on", "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"],
		[
			"an ETag that would break a header",
			'<ListBucketResult><Contents><Key>a</Key><Size>1</Size><ETag>"a\r\nb"</ETag></Contents></ListBucketResult>',
		],
	])("of %s is refused", async (_what, text) => {
		expect(await failure(() => parseListPage(text, "b"))).toMatchObject({ reason: "bad_answer" });
	});

	test("of opening tags alone keeps nobody busy", async () => {
		const text = `<ListBucketResult>${"<Contents>".repeat(500_000)}`;
		const started = systemClock.monotonicMs();
		expect(await failure(() => parseListPage(text, "b"))).toMatchObject({ reason: "bad_answer" });
		expect(systemClock.monotonicMs() - started).toBeLessThan(2_000);
	});

	test("without percent signs has entities", () => {
		const text =
			"<ListBucketResult><Contents><Key>a&amp;&#38;&#x3c;b</Key><Size>1</Size><ETag>&quot;x&quot;</ETag></Contents></ListBucketResult>";
		expect(parseListPage(text, "b").objects).toEqual([{ key: "a&&<b", sizeBytes: 1, etag: '"x"' }]);
	});

	test("that never ends is given up", async () => {
		const s3 = start();
		const more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
		s3.set({ listXml: `<ListBucketResult>${more}</ListBucketResult>` });
		const refused = await failure(() => open("s3://models/m", s3).describe(signal()));
		expect(refused).toMatchObject({ reason: "bad_answer", message: expect.stringContaining("no end") });
		expect(s3.requests.length).toBe(2);
	});

	test("with keys that were not asked for is refused", async () => {
		const s3 = start();
		s3.set({
			listXml:
				"<ListBucketResult><Contents><Key>other/a</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>",
		});
		expect(await failure(() => open("s3://models/m", s3).describe(signal()))).toMatchObject({
			reason: "bad_answer",
		});
	});
});

test("Bun's own S3 client is understood by the stand-in, and what it wrote is read by ours", async () => {
	const s3 = start();
	const client = new Bun.S3Client({ ...KEYS, endpoint: s3.url, bucket: "models", region: "us-east-1" });
	await client.write("m/by bun/é.txt", "written by another client");
	expect((await client.list({ prefix: "m/" })).contents?.map(({ key }) => key)).toEqual(["m/by bun/é.txt"]);
	expect(await readAll(open("s3://models/m", s3), "by bun/é.txt")).toBe("written by another client");
	expect(s3.requests.every(({ status }) => status < 300)).toBe(true);
});
