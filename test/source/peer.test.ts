import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerSource } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { canonicalManifest, type Manifest } from "../../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { startByteServer } from "../support/byte-server.ts";
import type { ByteReply } from "../support/byte-server/messages.ts";
import { type FileServer, startFileServer } from "../support/file-server.ts";
import { tempDir } from "../support/temp-dir.ts";

const FILES: Record<string, string> = { "b.bin": "0123456789", "a.json": "{}", "empty.txt": "" };
const MANIFEST: Manifest = {
	files: Object.entries(FILES).map(([path, content]) => ({
		path,
		size_bytes: content.length,
		sha256: sha256Hex(content),
		part_size_bytes: 8 * 1024 * 1024,
		xxh64: content === "" ? [] : [xxh64Hex(Buffer.from(content))],
	})),
	total_bytes: 12,
};
const CONTENT_ID = sha256Hex(canonicalManifest(MANIFEST));
const dir = tempDir();
let node: FileServer;

beforeAll(() => {
	// Canonical order: a.json, b.bin, empty.txt.
	const parts = join(dir.path, "parts", CONTENT_ID);
	mkdirSync(parts, { recursive: true });
	for (const [index, path] of ["a.json", "b.bin", "empty.txt"].entries()) {
		writeFileSync(join(parts, String(index)), FILES[path] ?? "");
	}
	node = startFileServer({ dir: dir.path, authorization: "Bearer canary-grant" });
});
afterAll(() => {
	node.stop();
	dir[Symbol.dispose]();
});

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const open = (baseUrl: string, grant = "canary-grant") =>
	peerSource(
		{ clock: systemClock },
		{
			baseUrl,
			grant,
			manifest: MANIFEST,
			model: parseModelName("acme/tiny"),
			revision: parseRevision("c0ffee"),
			device: "node2:disk",
		},
	);
async function read(source: ReturnType<typeof open>, path: string, range?: { start: number; end: number }) {
	const file = (await source.describe(signal())).files.find((each) => each.path === path);
	if (file === undefined) throw new Error(`no ${path}`);
	return await new Response(await source.read(file, range, signal())).text();
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => error as Record<string, unknown>,
	);

test("small neighbours come in one body, on the grant, and only as many bytes as they have", async () => {
	const asked: string[] = [];
	let body = "{}0123456789";
	using server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch(request) {
			const { pathname, search } = new URL(request.url);
			asked.push(`${pathname}${search} ${request.headers.get("authorization")}`);
			return new Response(body);
		},
	});
	const source = open(`http://127.0.0.1:${server.port}`);
	const { files } = await source.describe(signal());
	const bundle = async () => new Response(await source.readBundle?.(files.slice(0, 2), signal())).text();
	expect(await bundle()).toBe(body);
	expect(asked).toEqual([`/bundles/${CONTENT_ID}?first=0&end=2 Bearer canary-grant`]);
	body = "{}012345678";
	expect(await failure(bundle())).toMatchObject({ reason: "source_changed" });
	const [first, , third] = files;
	if (first === undefined || third === undefined) throw new Error("three files");
	expect(await failure(source.readBundle?.([first, third], signal()) ?? bundle())).toMatchObject({
		message: "a bundle is of neighbours",
	});
});

test("the manifest is the description, with the digests of files and parts", async () => {
	const description = await open(node.url).describe(signal());
	expect(description).toMatchObject({
		uri: "node2:disk/acme/tiny@c0ffee",
		revision: "c0ffee",
		totalBytes: 12,
	});
	expect(description.files.map(({ path }) => path as string)).toEqual(["a.json", "b.bin", "empty.txt"]);
	expect(description.files[1]).toMatchObject({
		sizeBytes: 10,
		digest: { algorithm: "sha256", hex: sha256Hex("0123456789") },
		rangeable: true,
		parts: { partSizeBytes: 8 * 1024 * 1024, xxh64: [xxh64Hex(Buffer.from("0123456789"))] },
	});
});

test("files are read by their place in the canonical manifest, on the grant", async () => {
	const source = open(`${node.url}/`);
	expect(await read(source, "b.bin", { start: 3, end: 6 })).toBe("345");
	expect(await read(source, "b.bin")).toBe("0123456789");
	expect(await read(source, "a.json")).toBe("{}");
	expect(await read(source, "empty.txt")).toBe("");
	expect(node.exchanges[0]).toMatchObject({
		target: `/parts/${CONTENT_ID}/1`,
		range: "bytes=3-5",
		authorization: "Bearer canary-grant",
	});
});

test("a manifest that is not the announced one is refused", () => {
	const input = {
		baseUrl: node.url,
		grant: "x",
		manifest: MANIFEST,
		model: parseModelName("m"),
		revision: parseRevision("r"),
	};
	expect(() => peerSource({ clock: systemClock }, { ...input, contentId: "0".repeat(64) })).toThrow(
		expect.objectContaining({ reason: "wrong_manifest" }),
	);
	peerSource({ clock: systemClock }, { ...input, contentId: CONTENT_ID });
});

test("a manifest with a hostile path is refused", async () => {
	const [file] = MANIFEST.files;
	if (file === undefined) throw new Error("no file");
	const source = peerSource(
		{ clock: systemClock },
		{
			baseUrl: node.url,
			grant: "x",
			manifest: { files: [{ ...file, path: "../../x" }], total_bytes: 10 },
			model: parseModelName("m"),
			revision: parseRevision("r"),
		},
	);
	expect(await failure(source.describe(signal()))).toMatchObject({ reason: "unsafe_filename" });
});

describe("another node that answers", () => {
	test.each([
		["401 for a foreign grant", { status: 401 }, "grant_refused", true],
		["403 for an expired grant", { status: 403 }, "grant_refused", true],
		["404", { status: 404 }, "not_found", false],
		["503", { status: 503 }, "source_unavailable", true],
		["a redirect", { status: 302, headers: { location: "http://127.0.0.1:1/" } }, "source_refused", false],
		["without Content-Range", { status: 206, body: "0123" }, "wrong_range", false],
		["the whole", { status: 200, body: "0123456789" }, "range_ignored", true],
		[
			"another total",
			{ status: 206, headers: { "content-range": "bytes 0-3/11" }, body: "0123" },
			"source_changed",
			false,
		],
	] as [string, ByteReply, string, boolean][])("%s", async (_name, reply, reason, retryable) => {
		const server = startByteServer({ answer: () => reply });
		const error = await failure(read(open(server.url), "b.bin", { start: 0, end: 4 }));
		server.stop();
		expect(error).toMatchObject({ reason, retryable });
		expect(String(error.message)).not.toContain("canary-grant");
	});

	test("nothing at all is a retryable connect_failed", async () => {
		const server = startByteServer({ answer: () => ({ status: 200 }) });
		server.stop();
		expect(await failure(read(open(server.url), "b.bin"))).toMatchObject({
			reason: "connect_failed",
			retryable: true,
		});
	});
});

test("a touch uses the grant for one byte of a file that has any", async () => {
	const before = node.exchanges.length;
	await open(node.url).touch(signal());
	expect(node.exchanges.slice(before)).toMatchObject([
		{ target: `/parts/${CONTENT_ID}/0`, range: "bytes=0-0", authorization: "Bearer canary-grant" },
	]);
	expect(await failure(open(node.url, "another").touch(signal()))).toMatchObject({ reason: "grant_refused" });
});
