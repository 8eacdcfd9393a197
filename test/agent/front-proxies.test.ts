// Whose X-Forwarded headers count: those of the proxies that the configuration names, and nobody else's.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createApp } from "../../src/agent/http/app.ts";
import { clientOf } from "../../src/agent/http/client.ts";
import { type AddressRange, parseAddressRange } from "../../src/platform/address-range.ts";
import { HOST, type TestApp, testApp, told } from "./test-app.ts";

const PROXY = "10.0.0.1";
const rangesOf = (...texts: string[]): AddressRange[] =>
	texts.flatMap((text) => {
		const range = parseAddressRange(text);
		return range === undefined ? [] : [range];
	});
const PROXIES = rangesOf(PROXY, "10.0.1.0/24", "fd00::/64");

const request = (headers: Record<string, string>): Request =>
	new Request(`http://${HOST}/`, { headers: { host: HOST, ...headers } });
const addressFor = (forwardedFor: string, connection = PROXY): string =>
	clientOf(request({ "x-forwarded-for": forwardedFor }), connection, PROXIES).address;

describe("the address of a client", () => {
	test("is that of the connection when no proxy is trusted, or the connection is not of one", () => {
		const spoofed = {
			"x-forwarded-for": "1.2.3.4",
			"x-forwarded-proto": "https",
			"x-forwarded-host": "evil.example",
			"x-real-ip": "1.2.3.4",
			forwarded: "for=1.2.3.4;host=evil.example;proto=https",
		};
		for (const [connection, proxies] of [
			["192.0.2.7", PROXIES],
			[PROXY, []],
			["", PROXIES],
			["127.0.0.1", PROXIES],
		] as const) {
			expect(clientOf(request(spoofed), connection, proxies)).toEqual({
				address: connection,
				scheme: "http",
				host: HOST,
				isProxied: false,
			});
		}
	});

	test.each([
		["192.0.2.7", "192.0.2.7"],
		["1.2.3.4, 192.0.2.7", "192.0.2.7"],
		["1.2.3.4,192.0.2.7, 10.0.1.5", "192.0.2.7"],
		["10.0.1.9, 10.0.1.5", "10.0.1.9"],
		["192.0.2.7:4711", "192.0.2.7"],
		["[2001:db8::7]:4711", "2001:db8::7"],
		["2001:DB8:0:0::7", "2001:db8::7"],
		["::ffff:192.0.2.7", "192.0.2.7"],
		["1.2.3.4, fd00::9", "1.2.3.4"],
		["", PROXY],
		["unknown", PROXY],
		["1.2.3.4, unknown", PROXY],
		["1.2.3.4, unknown, 10.0.1.5", "10.0.1.5"],
		["1.2.3.4, ", PROXY],
		["1.2.3.4; drop", PROXY],
		["256.1.1.1", PROXY],
		["localhost", PROXY],
	])("X-Forwarded-For %j of a proxy makes it %s", (header, address) => {
		expect(addressFor(header)).toBe(address);
	});

	test("is found from the right, however much somebody wrote to the left", () => {
		const filler = Array(500).fill("1.1.1.1").join(", ");
		expect(addressFor(`${filler}, 192.0.2.7`)).toBe("192.0.2.7");
		expect(addressFor(`192.0.2.7, ${Array(500).fill("10.0.1.5").join(",")}`)).toBe("10.0.1.5");
	});

	test("whatever a client writes into the header itself, its proxy's entry wins", () => {
		const anything = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.constantFrom(PROXY, "10.0.1.7", ",", ""));
		fc.assert(
			fc.property(fc.array(anything, { maxLength: 5 }), (written) => {
				const text = [...written.map((it) => it.replaceAll(/[^\x20-\x7e]/g, "")), "192.0.2.7"].join(", ");
				expect(addressFor(text)).toBe("192.0.2.7");
			}),
		);
	});
});

describe("behind a proxy", () => {
	let t: TestApp;
	beforeAll(async () => {
		t = await testApp("host", { trustedProxies: [PROXY, "10.0.1.0/24"] });
	});
	afterAll(() => t[Symbol.asyncDispose]());

	const ask = async (
		headers: Record<string, string>,
		{ connection = PROXY, as = "admin" }: { connection?: string; as?: "admin" | undefined } = {},
	): Promise<Response> =>
		t.app(
			new Request(`http://${HOST}/api/v1/nodes`, {
				headers: {
					host: HOST,
					...(as === undefined ? {} : { authorization: `Bearer ${t.bearer(as)}` }),
					...headers,
				},
			}),
			connection,
		);

	test("the name that people use must be one of ours, with whatever port the proxy has", async () => {
		for (const name of ["node1", "node1:443", "localhost", "NODE1", "[::1]:8443"]) {
			expect((await ask({ "x-forwarded-host": name })).status).toBe(200);
			expect((await ask({ host: name })).status).toBe(200);
		}
		for (const name of [
			"evil.example",
			"node1.evil.example",
			"node1, evil.example",
			"evil.example, node1",
			"node1@evil",
			"node1:80:90",
			"",
		]) {
			expect([name, await told(await ask({ "x-forwarded-host": name }))]).toEqual([
				name,
				"403 host_not_allowed",
			]);
		}
		expect(await told(await ask({ host: "evil.example", "x-forwarded-host": "node1" }))).toBe(
			"403 host_not_allowed",
		);
	});

	test("from anybody else the header neither opens nor closes anything", async () => {
		expect((await ask({ "x-forwarded-host": "evil.example" }, { connection: "192.0.2.1" })).status).toBe(200);
		expect(
			await told(await ask({ host: "node1", "x-forwarded-host": HOST }, { connection: "192.0.2.1" })),
		).toBe("403 host_not_allowed");
	});

	test("our own pages have the scheme and name that people see", async () => {
		const seen = { "x-forwarded-host": "node1", "x-forwarded-proto": "https" };
		expect((await ask({ ...seen, origin: "https://node1" })).status).toBe(200);
		for (const origin of [
			"http://node1",
			"https://node1:8000",
			`http://${HOST}`,
			"https://evil.example",
			"null",
		])
			expect([origin, await told(await ask({ ...seen, origin }))]).toEqual([
				origin,
				"403 origin_not_allowed",
			]);
		expect((await ask({ "x-forwarded-proto": "gopher", origin: `http://${HOST}` })).status).toBe(200);
		expect(await told(await ask({ origin: `https://${HOST}` }, { connection: "192.0.2.1" }))).toBe(
			"403 origin_not_allowed",
		);
	});

	test("guesses count for who made them, and not for the proxy", async () => {
		const guess = async (forwardedFor: string, connection = PROXY): Promise<number> =>
			(
				await ask(
					{ authorization: "Bearer guess", "x-forwarded-for": forwardedFor },
					{ connection, as: undefined },
				)
			).status;
		for (let i = 0; i < 20; i++) expect(await guess("192.0.2.50")).toBe(401);
		expect(await guess("192.0.2.50")).toBe(429);
		expect(await guess("1.1.1.1, 192.0.2.50")).toBe(429);
		expect(await guess("192.0.2.51")).toBe(401);
		// Somebody without a proxy does not get another name by saying so.
		for (let i = 0; i < 20; i++) expect(await guess(`192.0.2.${100 + i}`, "198.51.100.1")).toBe(401);
		expect(await guess("192.0.2.200", "198.51.100.1")).toBe(429);
	});

	test("a handler hears the client's address", async () => {
		const heard: string[] = [];
		const handlers = new Proxy(
			{},
			{
				get: () => (call: { address: string }) => {
					heard.push(call.address);
					return { nodes: [], total: 0 };
				},
			},
		);
		const app = createApp("host", handlers as never, {
			identity: t.identity,
			clock: t.clock,
			ids: { short: () => "x", secret: () => "x", fraction: () => 0 },
			allowedHosts: () => new Set([HOST]),
			trustedProxies: [PROXY],
		});
		const authorization = `Bearer ${t.bearer("admin")}`;
		const to = (connection: string): Promise<Response> =>
			app(
				new Request(`http://${HOST}/api/v1/nodes`, {
					headers: { host: HOST, authorization, "x-forwarded-for": "192.0.2.7" },
				}),
				connection,
			);
		await to(PROXY);
		await to("198.51.100.1");
		expect(heard).toEqual(["192.0.2.7", "198.51.100.1"]);
	});

	test("a proxy that is neither an address nor a range stops the start", async () => {
		const dependencies = { ...t, ids: { short: () => "", secret: () => "", fraction: () => 0 } };
		const bad = {
			...dependencies,
			log: undefined,
			allowedHosts: () => new Set<string>(),
			trustedProxies: ["proxy"],
		};
		expect(() =>
			createApp(
				"peer",
				{
					readPart: () => new Response(),
					havePart: () => new Response(),
					readBundle: () => new Response(),
					partTags: () => ({ tags: [] }),
				},
				bad,
			),
		).toThrow("neither an address nor a range");
	});
});
