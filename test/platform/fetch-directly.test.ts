import { afterEach, expect, test } from "bun:test";
import { fetchDirectly } from "../../src/platform/fetch-directly.ts";

const NAMES = ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
const before = NAMES.map((name) => [name, process.env[name]] as const);
afterEach(() => {
	for (const [name, value] of before) {
		if (value === undefined) delete process.env[name];
		else process.env[name] = value;
	}
});

test("a request goes past the proxy of the environment, which Bun's fetch would use", async () => {
	using target = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("target") });
	using proxy = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("proxy") });
	for (const name of ["NO_PROXY", "no_proxy"]) delete process.env[name];
	for (const name of ["HTTP_PROXY", "http_proxy"]) process.env[name] = `http://127.0.0.1:${proxy.port}`;
	const url = `http://127.0.0.1:${target.port}/`;
	expect(await (await fetch(url)).text()).toBe("proxy");
	expect(await (await fetchDirectly(url, {})).text()).toBe("target");
});

test("a compressed body arrives as it was sent", async () => {
	const packed = Bun.gzipSync(Buffer.from("x".repeat(10_000)));
	using server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch: () => new Response(packed, { headers: { "content-encoding": "gzip" } }),
	});
	const response = await fetchDirectly(`http://127.0.0.1:${server.port}/`, {});
	expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array(packed));
});
