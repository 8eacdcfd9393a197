import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FileServer, startFileServer } from "./file-server.ts";
import { LOOPBACK_CERTIFICATE } from "./loopback-certificate.ts";
import { tempDir } from "./temp-dir.ts";

const dir = tempDir();
let server: FileServer;

beforeAll(() => {
	writeFileSync(join(dir.path, "letters"), "abcdefghij");
	server = startFileServer({ dir: dir.path });
});
afterAll(() => {
	server.stop();
	dir[Symbol.dispose]();
});
afterEach(() => {
	server.set({ sendLength: undefined, acceptRange: undefined, sendEtag: undefined, redirects: undefined });
});

test("ranges are answered as RFC 9110 says", async () => {
	const ask = async (range: string, more: Record<string, string> = {}) => {
		const response = await fetch(`${server.url}/letters`, { headers: { range, ...more } });
		return [response.status, await response.text(), response.headers.get("content-range")];
	};
	expect(await ask("bytes=2-4")).toEqual([206, "cde", "bytes 2-4/10"]);
	expect(await ask("bytes=7-")).toEqual([206, "hij", "bytes 7-9/10"]);
	expect(await ask("bytes=-2")).toEqual([206, "ij", "bytes 8-9/10"]);
	expect(await ask("bytes=10-")).toEqual([416, "", "bytes */10"]);
	expect(await ask("bytes=2-4", { "if-range": '"stale"' })).toEqual([200, "abcdefghij", null]);
	expect(await ask("bytes=0-1,4-5")).toEqual([200, "abcdefghij", null]);
});

test("length, ranges and ETag can be left out", async () => {
	server.set({ sendLength: false, acceptRange: false, sendEtag: false });
	const response = await fetch(`${server.url}/letters`, { headers: { range: "bytes=2-4" } });
	expect(response.status).toBe(200);
	expect(await response.text()).toBe("abcdefghij");
	for (const name of ["content-length", "accept-ranges", "etag"])
		expect(response.headers.get(name)).toBeNull();
});

test("the ETag changes with the file and answers a conditional request", async () => {
	const etag = (await fetch(`${server.url}/letters`)).headers.get("etag") ?? "";
	const same = await fetch(`${server.url}/letters`, { headers: { "if-none-match": etag } });
	expect(same.status).toBe(304);
	writeFileSync(join(dir.path, "changing"), "one");
	const before = (await fetch(`${server.url}/changing`)).headers.get("etag");
	writeFileSync(join(dir.path, "changing"), "three");
	expect((await fetch(`${server.url}/changing`)).headers.get("etag")).not.toBe(before);
});

test("redirects, outages and missing files answer with their status", async () => {
	server.set({
		redirects: { "/old": "/letters" },
		failFirst: { times: 1, status: 503, retryAfterSeconds: 9 },
	});
	expect((await fetch(`${server.url}/letters`)).headers.get("retry-after")).toBe("9");
	expect(await (await fetch(`${server.url}/old`)).text()).toBe("abcdefghij");
	expect((await fetch(`${server.url}/none`)).status).toBe(404);
	expect((await fetch(`${server.url}/letters`, { method: "POST", body: "x" })).status).toBe(400);
});

test("https is trusted by who trusts its certificate and by nobody else", async () => {
	const secure = startFileServer({ dir: dir.path, https: true });
	const tls = { ca: LOOPBACK_CERTIFICATE.cert };
	expect(await (await fetch(`${secure.url}/letters`, { tls })).text()).toBe("abcdefghij");
	const refused = await fetch(`${secure.url}/letters`).catch((error: Error) => error.message);
	expect(refused).toContain("self signed certificate");
	secure.stop();
});
