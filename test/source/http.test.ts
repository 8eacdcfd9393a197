import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
	openSource,
	type Source,
	type SourceDescription,
	type SourceFile,
} from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { startByteServer } from "../support/byte-server.ts";
import type { ByteReply } from "../support/byte-server/messages.ts";
import { type FileServer, startFileServer } from "../support/file-server.ts";
import { tempDir } from "../support/temp-dir.ts";

const CONTENT = Buffer.from("0123456789".repeat(1000));
const SHA256 = new Bun.CryptoHasher("sha256").update(CONTENT).digest("hex");
const dir = tempDir();
let server: FileServer;

beforeAll(() => {
	writeFileSync(join(dir.path, "tiny.gguf"), CONTENT);
	writeFileSync(join(dir.path, "tiny.tar.gz"), CONTENT);
	writeFileSync(join(dir.path, "empty.bin"), "");
	server = startFileServer({ dir: dir.path });
});
afterAll(() => {
	server.stop();
	dir[Symbol.dispose]();
});
afterEach(() => {
	server.set({
		sendLength: undefined,
		acceptRange: undefined,
		sendEtag: undefined,
		redirects: undefined,
		failFirst: undefined,
		headers: undefined,
	});
	server.exchanges.length = 0;
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
function open(url: string, options: { allowUnknownLength?: boolean } = {}): Source {
	const { origin } = new URL(url);
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [origin] });
	return openSource(url, { outbound, clock: systemClock, ...options });
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => error as Record<string, unknown>,
	);
function onlyFile({ files }: SourceDescription): SourceFile {
	const [file] = files;
	if (file === undefined || files.length > 1) throw new Error(`${files.length} files`);
	return file;
}
async function read(source: Source, range?: { start: number; end: number }): Promise<Buffer> {
	const file = onlyFile(await source.describe(signal()));
	return Buffer.from(await new Response(await source.read(file, range, signal())).arrayBuffer());
}
/** A server that answers what the test says, and the source of a file on it. */
async function against<T>(
	answer: ByteReply | ((range: string | undefined) => ByteReply),
	work: (url: string) => Promise<T>,
) {
	const fake = startByteServer({
		answer: ({ headers }) => (typeof answer === "function" ? answer(headers.get("range")) : answer),
	});
	try {
		return await work(`${fake.url}/x.bin`);
	} finally {
		fake.stop();
	}
}

describe("a description", () => {
	test("has size, name, and a revision made of the strong ETag", async () => {
		const description = await open(`${server.url}/tiny.gguf?sig=canary`).describe(signal());
		expect(description).toMatchObject({
			uri: `${server.url}/tiny.gguf`,
			suggestedName: "tiny",
			totalBytes: CONTENT.length,
			archive: undefined,
		});
		expect(description.revision).toMatch(/^etag-[0-9a-f]{40}$/);
		expect(onlyFile(description)).toEqual({
			path: "tiny.gguf" as SourceFile["path"],
			sizeBytes: CONTENT.length,
			digest: undefined,
			rangeable: true,
			parts: undefined,
		});
	});

	test("has the digest that the person claims, which is its revision too", async () => {
		const description = await open(`${server.url}/tiny.gguf#sha256=${SHA256}`).describe(signal());
		expect(description.revision as string).toBe(`sha256-${SHA256}`);
		expect(onlyFile(description).digest).toEqual({ algorithm: "sha256", hex: SHA256 });
	});

	test("flags an archive", async () => {
		expect((await open(`${server.url}/tiny.tar.gz`).describe(signal())).archive).toBe("tar.gz");
	});

	test("changes its revision with the file, by ETag or by date", async () => {
		const revision = async () =>
			(await open(`${server.url}/tiny.gguf`).describe(signal())).revision as string;
		const before = await revision();
		expect(await revision()).toBe(before);
		server.set({ sendEtag: false });
		const dated = await revision();
		expect(dated).toStartWith("modified-");
		utimesSync(join(dir.path, "tiny.gguf"), new Date(), new Date(Date.UTC(2020, 1, 1)));
		expect(await revision()).not.toBe(dated);
		server.set({ sendEtag: true });
		expect(await revision()).not.toBe(before);
	});

	test("of a server without ranges is of one stream", async () => {
		server.set({ acceptRange: false });
		const source = open(`${server.url}/tiny.gguf`);
		expect(onlyFile(await source.describe(signal()))).toMatchObject({
			rangeable: false,
			sizeBytes: CONTENT.length,
		});
		expect((await read(source)).equals(CONTENT)).toBe(true);
		expect(await failure(read(source, { start: 1, end: 2 }))).toMatchObject({
			message: expect.stringContaining("whole"),
		});
	});

	test("of a file without ETag and date is of one stream, because nothing tells its versions apart", async () => {
		const total = { "content-range": "bytes 0-0/10" };
		await against({ status: 206, headers: total, body: "0" }, async (url) => {
			expect(onlyFile(await open(url).describe(signal())).rangeable).toBe(false);
			expect(onlyFile(await open(`${url}#sha256=${SHA256}`).describe(signal())).rangeable).toBe(true);
		});
	});

	test("of an empty file says so", async () => {
		const source = open(`${server.url}/empty.bin`);
		expect(onlyFile(await source.describe(signal())).sizeBytes).toBe(0);
		expect((await read(source)).length).toBe(0);
	});

	test("without length and digest is unknown_length, unless that is allowed or a digest is claimed", async () => {
		server.set({ sendLength: false, acceptRange: false });
		const url = `${server.url}/tiny.gguf`;
		expect(await failure(open(url).describe(signal()))).toMatchObject({
			code: "NETWORK_ERROR",
			reason: "unknown_length",
			retryable: false,
		});
		expect(
			onlyFile(await open(url, { allowUnknownLength: true }).describe(signal())).sizeBytes,
		).toBeUndefined();
		const claimed = open(`${url}#sha256=${SHA256}`);
		expect(onlyFile(await claimed.describe(signal()))).toMatchObject({
			sizeBytes: undefined,
			rangeable: false,
		});
		expect((await read(claimed)).equals(CONTENT)).toBe(true);
	});

	test("of a size that fits nowhere is too_large", async () => {
		const headers = { "content-range": "bytes 0-0/1000000000000000000", etag: '"x"' };
		await against({ status: 206, headers, body: "0" }, async (url) => {
			expect(await failure(open(url).describe(signal()))).toMatchObject({
				code: "RESOURCE_UNAVAILABLE",
				status: 507,
				reason: "too_large",
			});
		});
	});

	test.each(["/", "/..%2f..%2fetc%2fpasswd", "/con", "/a%00b", "/.gswarm-x"])(
		"of a URL that ends with %s is unsafe_filename",
		async (path) => {
			await against({ status: 200, body: "x" }, async (url) => {
				expect(await failure(open(`${new URL(url).origin}${path}`).describe(signal()))).toMatchObject({
					status: 400,
					reason: "unsafe_filename",
				});
			});
		},
	);

	test.each([
		[401, "TASK_FAILED", "auth", false],
		[403, "TASK_FAILED", "auth", false],
		[404, "TASK_FAILED", "not_found", false],
		[410, "TASK_FAILED", "not_found", false],
		[418, "TASK_FAILED", "source_refused", false],
		[408, "NETWORK_ERROR", "source_unavailable", true],
		[429, "NETWORK_ERROR", "rate_limited", true],
		[500, "NETWORK_ERROR", "source_unavailable", true],
		[503, "NETWORK_ERROR", "source_unavailable", true],
	])("of an answer %d is %s %s", async (status, code, reason, retryable) => {
		server.set({ failFirst: { times: 1, status, retryAfterSeconds: 7 } });
		const error = await failure(open(`${server.url}/tiny.gguf`).describe(signal()));
		expect(error).toMatchObject({ code, reason, retryable });
		if (retryable) expect(error.retryAfterS).toBe(7);
	});
});

describe("reading", () => {
	test("gives exactly the range and sends the strong ETag as its condition", async () => {
		expect((await read(open(`${server.url}/tiny.gguf`), { start: 3, end: 13 })).toString()).toBe(
			"3456789012",
		);
		const [, ranged] = server.exchanges;
		expect(ranged).toMatchObject({ range: "bytes=3-12", status: 206 });
		expect(ranged?.headers["if-range"]).toMatch(/^"/);
	});

	test("follows redirects each time, under the guard", async () => {
		server.set({ redirects: { "/moved.gguf": "/tiny.gguf" } });
		expect((await read(open(`${server.url}/moved.gguf`), { start: 0, end: 4 })).toString()).toBe("0123");
		server.set({ redirects: { "/moved.gguf": "http://127.0.0.1:1/" } });
		expect(await failure(read(open(`${server.url}/moved.gguf`)))).toMatchObject({
			reason: "redirect_blocked",
		});
	});

	test("of a file that changed is source_changed, by If-Range, by ETag and by size", async () => {
		const path = join(dir.path, "changing.bin");
		for (const next of ["abcdefghij", "abc"]) {
			writeFileSync(path, "0123456789");
			const source = open(`${server.url}/changing.bin`);
			const file = onlyFile(await source.describe(signal()));
			writeFileSync(path, next);
			utimesSync(path, new Date(), new Date(Date.UTC(2021, 1, 1)));
			expect(await failure(source.read(file, { start: 4, end: 8 }, signal()))).toMatchObject({
				code: "CONFLICT",
				reason: "source_changed",
			});
			server.set({ sendEtag: false });
			const dated = await source.read(file, { start: 1, end: 2 }, signal()).then(
				() => "nothing failed",
				(error: { reason: string }) => error.reason,
			);
			expect(dated).toBe("source_changed");
			server.set({ sendEtag: undefined });
		}
	});

	const described = (range: string | undefined): ByteReply | undefined =>
		range === "bytes=0-0"
			? { status: 206, headers: { "content-range": "bytes 0-0/10", etag: '"1"' }, body: "0" }
			: undefined;
	test.each([
		["a 206 without Content-Range", { status: 206, body: "2345" }, "wrong_range"],
		[
			"another range",
			{ status: 206, headers: { "content-range": "bytes 3-6/10" }, body: "3456" },
			"wrong_range",
		],
		[
			"a longer range",
			{ status: 206, headers: { "content-range": "bytes 1-5/10" }, body: "12345" },
			"wrong_range",
		],
		[
			"a shorter range",
			{ status: 206, headers: { "content-range": "bytes 2-4/10" }, body: "234" },
			"wrong_range",
		],
		[
			"a Content-Range that is none",
			{ status: 206, headers: { "content-range": "bytes 5-2/10" }, body: "2345" },
			"wrong_range",
		],
		[
			"another total",
			{ status: 206, headers: { "content-range": "bytes 2-5/11" }, body: "2345" },
			"source_changed",
		],
		[
			"another ETag",
			{ status: 206, headers: { "content-range": "bytes 2-5/10", etag: '"2"' }, body: "2345" },
			"source_changed",
		],
		[
			"several ranges",
			{ status: 206, headers: { "content-type": "multipart/byteranges; boundary=x" }, body: "--x" },
			"wrong_range",
		],
		[
			"a compressed body",
			{ status: 206, headers: { "content-range": "bytes 2-5/10", "content-encoding": "gzip" }, body: "2345" },
			"content_encoding",
		],
		["the whole file", { status: 200, body: "0123456789" }, "range_ignored"],
		["a whole file of another size", { status: 200, body: "012" }, "source_changed"],
		["416", { status: 416, headers: { "content-range": "bytes */2" } }, "source_changed"],
		["404", { status: 404 }, "not_found"],
	] as [string, ByteReply, string][])("answered with %s is %s", async (_name, reply, reason) => {
		await against(
			(range) => described(range) ?? reply,
			async (url) => {
				expect(await failure(read(open(url), { start: 2, end: 6 }))).toMatchObject({ reason });
			},
		);
	});
});

test("a 401 that names a place for tokens makes us ask nobody there", async () => {
	const realm = `Bearer realm="${server.url}/token",service="x"`;
	await against({ status: 401, headers: { "www-authenticate": realm } }, async (url) => {
		expect(await failure(open(url).describe(signal()))).toMatchObject({ reason: "auth", retryable: false });
	});
	expect(server.exchanges).toEqual([]);
});

test("a URL that leads inside is refused before there is a source", () => {
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [] });
	for (const url of ["http://127.0.0.1/x.gguf", "http://169.254.169.254/x", "http://localhost./x"]) {
		expect(() => openSource(url, { outbound, clock: systemClock })).toThrow(
			expect.objectContaining({ status: 403, reason: "address_blocked" }),
		);
	}
});
