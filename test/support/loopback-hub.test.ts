import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeFiller } from "./known-answer-model.ts";
import { type Hub, startHub } from "./loopback-hub.ts";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

const MODEL = "model.safetensors";
const SIZE_BYTES = 6_000_000;
const dir = tempDir();
let hub: Hub;
let model: Buffer;

beforeAll(() => {
	mkdirSync(join(dir.path, "tiny/onnx"), { recursive: true });
	writeFileSync(join(dir.path, "tiny/config.json"), "{}\n");
	writeFileSync(join(dir.path, "tiny/onnx/README.md"), "nothing\n");
	writeFiller(join(dir.path, "tiny", MODEL), SIZE_BYTES);
	model = readFileSync(join(dir.path, "tiny", MODEL));
	const source = { dir: join(dir.path, "tiny") };
	hub = startHub({
		repositories: {
			"acme/tiny": source,
			"acme/gated": { ...source, gated: true },
			"acme/private": { ...source, private: true },
		},
		tokens: { hf_member: ["acme/gated", "acme/private"], hf_stranger: [] },
		rangelessLimitBytes: 5_000_000,
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

test("the tree is paged by links and names the hashes that the bytes have", async () => {
	const entries: { path: string; oid: string; size: number; lfs?: { oid: string } }[] = [];
	let next: string | undefined = `${hub.url}/api/models/acme/tiny/tree/main?recursive=true&limit=2`;
	let pages = 0;
	while (next) {
		const response: Response = await fetch(next);
		entries.push(...((await response.json()) as typeof entries));
		next = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "")?.[1];
		pages += 1;
	}
	expect(pages).toBe(2);
	expect(entries.map(({ path }) => path)).toEqual(["onnx", "config.json", MODEL, "onnx/README.md"]);
	const large = entries.find(({ path }) => path === MODEL);
	expect(large?.size).toBe(SIZE_BYTES);
	expect(large?.lfs?.oid).toBe(new Bun.CryptoHasher("sha256").update(model).digest("hex"));
	const small = entries.find(({ path }) => path === "config.json");
	expect(small?.oid).toBe(new Bun.CryptoHasher("sha1").update("blob 3\0{}\n").digest("hex"));
});

test("a revision is pinned by a commit that stays reachable after the branch has moved", async () => {
	const before = hub.commitOf("acme/tiny");
	const changed = join(dir.path, "changed");
	mkdirSync(changed);
	writeFileSync(join(changed, "config.json"), '{"new":1}\n');
	const after = hub.publish("acme/tiny", changed);
	expect(after).toMatch(/^[0-9a-f]{40}$/);
	const info = await (await fetch(`${hub.url}/api/models/acme/tiny/revision/main`)).json();
	expect(info).toMatchObject({ sha: after });
	expect(await (await fetch(`${hub.url}/acme/tiny/resolve/${before}/config.json`)).text()).toBe("{}\n");
	expect(hub.publish("acme/tiny", join(dir.path, "tiny"))).toBe(before);
});

test("a large file redirects to another origin, which sees no token and answers ranges", async () => {
	const response = await fetch(`${hub.url}/acme/gated/resolve/main/${MODEL}`, {
		headers: { authorization: "Bearer hf_member", range: "bytes=1000-2999" },
	});
	expect(response.status).toBe(206);
	expect(Buffer.from(await response.arrayBuffer()).equals(model.subarray(1000, 3000))).toBe(true);
	expect(hub.log().map(({ server, status, authorization }) => [server, status, authorization])).toEqual([
		["hub", 302, "Bearer hf_member"],
		["cdn", 206, undefined],
	]);
	expect(hub.log()[1]).toMatchObject({ path: MODEL, range: "bytes=1000-2999", bytesSent: 2000 });
});

test("the redirect names commit, size and hash, and the ETag of the CDN is no hash", async () => {
	const redirect = await resolve("acme/tiny");
	expect(redirect.status).toBe(302);
	const sha256 = new Bun.CryptoHasher("sha256").update(model).digest("hex");
	expect(redirect.headers.get("x-linked-etag")).toBe(`"${sha256}"`);
	expect(redirect.headers.get("x-linked-size")).toBe(String(SIZE_BYTES));
	expect(redirect.headers.get("x-repo-commit")).toBe(hub.commitOf("acme/tiny"));
	const head = await fetch(await cdnUrl(), { method: "HEAD" });
	expect(head.headers.get("content-length")).toBe(String(SIZE_BYTES));
	expect(head.headers.get("etag")).not.toContain(sha256);
	expect((await fetch(await cdnUrl())).status).toBe(400);
});

test("missing, private, gated and misspelt things are refused as on the real hub", async () => {
	const ask = async (path: string, token?: string) => {
		const headers = token ? { authorization: `Bearer ${token}` } : {};
		const response = await fetch(hub.url + path, { headers, redirect: "manual" });
		return [response.status, response.headers.get("x-error-code")];
	};
	expect(await ask("/api/models/acme/none")).toEqual([401, null]);
	expect(await ask("/api/models/acme/private")).toEqual([401, null]);
	expect(await ask("/api/models/acme/none", "hf_member")).toEqual([404, "RepoNotFound"]);
	expect(await ask("/api/models/acme/private", "hf_stranger")).toEqual([404, "RepoNotFound"]);
	expect(await ask("/api/models/acme/private", "hf_member")).toEqual([200, null]);
	expect(await ask("/api/models/acme/tiny", "hf_wrong")).toEqual([401, null]);
	expect(await ask("/api/models/acme/tiny/revision/v9")).toEqual([404, "RevisionNotFound"]);
	expect(await ask("/acme/tiny/resolve/main/none.json")).toEqual([404, "EntryNotFound"]);
	expect(await ask("/acme/gated/resolve/main/config.json")).toEqual([401, "GatedRepo"]);
	expect(await ask("/acme/gated/resolve/main/config.json", "hf_stranger")).toEqual([403, "GatedRepo"]);
	expect(await ask("/acme/gated/resolve/main/config.json", "hf_member")).toEqual([200, null]);
	expect(await ask("/acme/tiny/resolve/main/config.json")).toEqual([307, null]);
});

test("a cut connection delivers exactly the bytes before the cut", async () => {
	hub.set({ cutAfterBytes: 1_234_567 });
	const received = await receive(await cdnUrl(), "bytes=0-5999999");
	expect(received.failed).toBe(true);
	expect(hub.log().at(-1)?.bytesSent).toBe(1_234_567);
	expect(received.bytes.equals(model.subarray(0, received.bytes.length))).toBe(true);
	hub.set({ cutAfterBytes: undefined });
	expect((await receive(await cdnUrl(), "bytes=0-5999999")).bytes.equals(model)).toBe(true);
});

test("a flipped byte is wrong so many times and right afterwards", async () => {
	hub.set({ flipByte: { path: MODEL, offset: 3_000_000, times: 1 } });
	const url = await cdnUrl();
	const wrong = (await receive(url, "bytes=2999999-3000001")).bytes;
	expect([...wrong]).toEqual(
		[...model.subarray(2_999_999, 3_000_002)].map((byte, at) => (at === 1 ? byte ^ 1 : byte)),
	);
	expect(
		(await receive(url, "bytes=2999999-3000001")).bytes.equals(model.subarray(2_999_999, 3_000_002)),
	).toBe(true);
});

test("range, length, ETag and encoding lie on demand", async () => {
	const ask = async () => fetch(await cdnUrl(), { headers: { range: "bytes=10-19" }, decompress: false });
	const etag = (await ask()).headers.get("etag");
	hub.set({ ignoreRange: true });
	const whole = await ask();
	expect([whole.status, (await whole.arrayBuffer()).byteLength]).toEqual([200, SIZE_BYTES]);
	hub.set({ ignoreRange: false, wrongContentRange: true });
	expect((await ask()).headers.get("content-range")).toBe(`bytes 11-20/${SIZE_BYTES}`);
	hub.set({ wrongContentRange: false, changeEtag: true });
	expect((await ask()).headers.get("etag")).not.toBe(etag);
	hub.set({ changeEtag: false, truncateFile: { path: MODEL, sizeBytes: 15 } });
	expect((await ask()).headers.get("content-range")).toBe("bytes 10-14/15");
	hub.set({ truncateFile: undefined, gzipEncoding: true });
	expect((await ask()).headers.get("content-encoding")).toBe("gzip");
});

test("rate limits, outages and expired addresses pass", async () => {
	hub.set({ status429Times: 1, status503Times: 1, retryAfterSeconds: 87 });
	const limited = await resolve("acme/tiny");
	expect([limited.status, limited.headers.get("retry-after")]).toEqual([429, "87"]);
	expect(limited.headers.get("ratelimit")).toBe('"resolvers";r=0;t=87');
	expect((await resolve("acme/tiny")).status).toBe(503);
	const old = await cdnUrl();
	hub.expireSignedUrls();
	expect((await fetch(old, { headers: { range: "bytes=0-0" } })).status).toBe(403);
	expect((await fetch(await cdnUrl(), { headers: { range: "bytes=0-0" } })).status).toBe(206);
});

test("a stalled connection stays open without a byte more, and a capped one keeps its rate", async () => {
	hub.set({ stallAfterBytes: 100_000 });
	const abort = new AbortController();
	const stalled = fetch(await cdnUrl(), { headers: { range: "bytes=0-999999" }, signal: abort.signal })
		.then((response) => response.arrayBuffer())
		.catch((error: Error) => error.name);
	await until("the CDN has sent all it will", () => hub.log().at(-1)?.bytesSent === 100_000);
	abort.abort();
	expect(await stalled).toBe("AbortError");
	hub.set({ stallAfterBytes: undefined, rateBytesPerSecond: 5_000_000 });
	const started = performance.now();
	await receive(await cdnUrl(), "bytes=0-999999");
	expect(performance.now() - started).toBeGreaterThan(150);
});

async function resolve(id: string): Promise<Response> {
	return fetch(`${hub.url}/${id}/resolve/main/${MODEL}`, { redirect: "manual" });
}

async function cdnUrl(): Promise<string> {
	return (await resolve("acme/tiny")).headers.get("location") ?? "";
}

async function receive(url: string, range: string): Promise<{ bytes: Buffer; failed: boolean }> {
	const response = await fetch(url, { headers: { range } });
	const blocks: Uint8Array[] = [];
	try {
		for await (const block of response.body ?? []) blocks.push(block);
		return { bytes: Buffer.concat(blocks), failed: false };
	} catch {
		return { bytes: Buffer.concat(blocks), failed: true };
	}
}
