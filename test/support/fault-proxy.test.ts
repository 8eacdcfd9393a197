import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type FaultProxy, type ProxyFaults, startFaultProxy } from "./fault-proxy.ts";
import { type FileServer, startFileServer } from "./file-server.ts";
import { writeFiller } from "./known-answer-model.ts";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

const SIZE_BYTES = 3_000_000;
const dir = tempDir();
let server: FileServer;
let content: Buffer;

beforeAll(() => {
	writeFiller(join(dir.path, "filler"), SIZE_BYTES);
	content = readFileSync(join(dir.path, "filler"));
	server = startFileServer({ dir: dir.path });
});
afterAll(() => {
	server.stop();
	dir[Symbol.dispose]();
});

test("without faults every byte passes", async () => {
	const { body, proxy } = await fetchThrough({});
	expect(body?.equals(content)).toBe(true);
	expect(proxy.connections()).toBe(1);
	expect(proxy.bytesToClients()).toBeGreaterThan(SIZE_BYTES);
});

test("a cut ends the connection after the bytes before it", async () => {
	const { body, proxy } = await fetchThrough({ cutAfterBytes: 1_000_000 });
	expect(body).toBeUndefined();
	expect(proxy.bytesToClients()).toBe(1_000_000);
});

test("one byte arrives changed, as often as asked", async () => {
	const proxy = await startFaultProxy(server.port, { flipAt: { offset: 2_000_000, times: 1 } });
	const wrong = await get(proxy);
	expect(wrong?.equals(content)).toBe(false);
	const differing = wrong?.reduce((count, byte, at) => count + (byte === content[at] ? 0 : 1), 0);
	expect(differing).toBe(1);
	expect((await get(proxy))?.equals(content)).toBe(true);
	proxy.stop();
});

test("latency delays and a rate stretches a transfer", async () => {
	const { ms: late } = await fetchThrough({ latencyMs: 50 });
	expect(late).toBeGreaterThan(95);
	const { ms: slow, body } = await fetchThrough({ rateBytesPerSecond: 15_000_000 });
	expect(slow).toBeGreaterThan(150);
	expect(body?.equals(content)).toBe(true);
});

test("a stalled proxy passes nothing until it is lifted or every connection is cut", async () => {
	const proxy = await startFaultProxy(server.port, { stall: true });
	const cut = get(proxy);
	await until("the connection is there", () => proxy.connections() === 1);
	expect(proxy.bytesToClients()).toBe(0);
	proxy.cutAll();
	expect(await cut).toBeUndefined();
	const lifted = get(proxy);
	await until("the second connection is there", () => proxy.connections() >= 2);
	proxy.set({ stall: undefined });
	expect((await lifted)?.equals(content)).toBe(true);
	proxy.set({ refuse: true });
	expect(await get(proxy)).toBeUndefined();
	proxy.stop();
});

async function fetchThrough(faults: ProxyFaults) {
	const proxy = await startFaultProxy(server.port, faults);
	const started = performance.now();
	const body = await get(proxy);
	const ms = performance.now() - started;
	proxy.stop();
	return { proxy, body, ms };
}

async function get(proxy: FaultProxy): Promise<Buffer | undefined> {
	try {
		const response = await fetch(`${proxy.url}/filler`, { keepalive: false });
		return Buffer.from(await response.arrayBuffer());
	} catch {
		return undefined;
	}
}
