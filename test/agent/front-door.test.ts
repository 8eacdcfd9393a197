// What every listener's door does with a request before and after its route.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { z } from "zod";
import { createAttempts } from "../../src/agent/http/attempts.ts";
import { allowedHosts } from "../../src/agent/http/browser-guard.ts";
import { createDoor } from "../../src/agent/http/door.ts";
import { createFrontApp } from "../../src/agent/http/front.ts";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { systemIds } from "../../src/platform/ids.ts";
import {
	MAX_COUNTED_ADDRESSES,
	MAX_JOINS,
	MAX_OPEN_JSON_BYTES,
	MAX_QUERY_PARAMETERS,
	MAX_URL_BYTES,
} from "../../src/platform/limits.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { HOST, type TestApp, errorOf, testApp, told } from "./test-app.ts";

let t: TestApp;
beforeAll(async () => {
	t = await testApp("host");
});
afterAll(() => t[Symbol.asyncDispose]());

const json = { "content-type": "application/json" };
const joinBody = {
	node: "node9",
	secret: "k3v9x2ma.aaaa",
	certificate_request: "x",
	protocol_version: 1,
	version: "1",
};

describe("headers of every answer", () => {
	const WANTED = {
		"x-content-type-options": "nosniff",
		"referrer-policy": "no-referrer",
		"cross-origin-resource-policy": "same-origin",
		"x-frame-options": "DENY",
		"content-security-policy": "default-src 'none'; frame-ancestors 'none'",
		"cache-control": "no-store",
	};
	const UNWANTED = /^(access-control-.*|server|x-powered-by|strict-transport-security)$/;
	const check = (answer: Response): void => {
		const headers = Object.fromEntries(answer.headers);
		expect(headers).toMatchObject(WANTED);
		expect(Object.keys(headers).filter((name) => UNWANTED.test(name))).toEqual([]);
		expect(headers["x-request-id"]).toBeString();
	};

	test("good ones, of each kind", async () => {
		for (const [method, path] of [
			["GET", "/api/v1/health"],
			["GET", "/api/v1/nodes"],
			["HEAD", "/api/v1/nodes"],
			["GET", "/v1/models"],
			["GET", "/api/v1/services/svc-a/logs"],
		] as const) {
			const answer = await t.ask(method, path);
			expect([path, answer.status]).toEqual([path, 200]);
			check(answer);
		}
	});

	test("refusals, of each step", async () => {
		for (const [status, method, path, ask] of [
			[403, "GET", "/api/v1/nodes", { headers: { host: "evil.example" } }],
			[403, "GET", "/api/v1/nodes", { headers: { origin: "https://evil.example" } }],
			[401, "GET", "/api/v1/nodes", { as: undefined }],
			[403, "POST", "/api/v1/models", { as: "viewer" }],
			[400, "GET", "/api/v1/models/a..b", {}],
			[400, "POST", "/api/v1/models", { body: "{", headers: json }],
			[404, "GET", "/nothing", {}],
			[405, "PUT", "/api/v1/models", {}],
			[415, "POST", "/api/v1/models", { body: "{}", headers: { "content-encoding": "gzip" } }],
			[404, "GET", "/v1/nothing", {}],
			[401, "POST", "/v1/chat/completions", { as: undefined, body: "{}" }],
		] as const) {
			const answer = await t.ask(method, path, ask);
			expect([path, answer.status]).toEqual([path, status]);
			check(answer);
		}
	});

	test("failures of ours, and streams", async () => {
		await using bad = await testApp("host", {
			handle: ({ id }) => {
				if (id === "listNodes") throw new TypeError("no");
				return new Response(new ReadableStream({ pull: (c) => c.close() }), {
					headers: { "content-type": "text/event-stream" },
				});
			},
		});
		const failed = await bad.ask("GET", "/api/v1/nodes");
		expect(failed.status).toBe(500);
		check(failed);
		const stream = await bad.ask("POST", "/v1/chat/completions", { body: { model: "a" } });
		check(stream);
		await stream.text();
	});

	test("a handler may say how long an answer is good, and a page what it may load, but nothing of CORS", async () => {
		await using own = await testApp("host", {
			handle: () =>
				new Response("page", {
					headers: {
						"cache-control": "max-age=60",
						"content-security-policy": "default-src 'self'",
						"access-control-allow-origin": "*",
						"access-control-allow-credentials": "true",
						"x-frame-options": "ALLOWALL",
						server: "engine/1.2",
						"x-powered-by": "engine",
					},
				}),
		});
		const { headers } = await own.ask("GET", "/v1/models");
		expect(headers.get("cache-control")).toBe("max-age=60");
		expect(headers.get("content-security-policy")).toBe("default-src 'self'");
		expect(headers.get("x-frame-options")).toBe("DENY");
		expect([...headers.keys()].filter((name) => UNWANTED.test(name))).toEqual([]);
	});

	test("of a service's own port too", async () => {
		const front = createFrontApp(
			() => Promise.resolve(new Response("{}", { headers: { server: "engine" } })),
			{
				identity: t.identity,
				clock: t.clock,
				ids: systemIds,
				allowedHosts: () => allowedHosts([], 8000),
			},
		);
		for (const headers of [{ authorization: `Bearer ${t.bearer("user")}` }, {}]) {
			check(
				await front(new Request(`http://${HOST}/v1/models`, { headers: { host: HOST, ...headers } }), "::1"),
			);
		}
	});
});

describe("limits before anything is looked at", () => {
	test("an address of 16 kB is read, a longer one is refused", async () => {
		const path = (size: number): string => {
			const start = `http://${HOST}/api/v1/nodes?a=`;
			return `/api/v1/nodes?a=${"x".repeat(size - start.length)}`;
		};
		expect(await told(await t.ask("GET", path(MAX_URL_BYTES)))).toBe("400 unknown_field a");
		for (const as of ["admin", undefined] as const)
			expect(await told(await t.ask("GET", path(MAX_URL_BYTES + 1), { as }))).toBe("414 url_too_long");
	});

	test("a query has at most 64 parameters", async () => {
		const query = (count: number): string => Array.from({ length: count }, (_, i) => `p${i}=1`).join("&");
		const ask = (count: number): Promise<Response> => t.ask("GET", `/api/v1/models?${query(count)}`);
		expect(await told(await ask(MAX_QUERY_PARAMETERS))).toBe("400 unknown_field p0");
		expect(await told(await ask(MAX_QUERY_PARAMETERS + 1))).toBe("400 too_many_parameters");
	});

	test("who has no token may send 64 kB and no more", async () => {
		const body = (size: number): string => {
			const frame = JSON.stringify({ ...joinBody, more: "" });
			return frame.replace('""', `"${"x".repeat(size - frame.length)}"`);
		};
		const join = (size: number): Promise<Response> =>
			t.ask("POST", "/api/v1/join", { as: undefined, body: body(size), headers: json });
		expect((await join(MAX_OPEN_JSON_BYTES)).status).toBe(200);
		expect(await told(await join(MAX_OPEN_JSON_BYTES + 1))).toBe("413 body_too_large");
	});
});

describe("bodies", () => {
	test("a route that takes none refuses one, whatever the method", async () => {
		const routes = (Object.values(contract) as Route[]).filter(
			(route) =>
				route.on.includes("host") &&
				route.body === undefined &&
				!route.path.startsWith("/v1/") &&
				// It is sent bytes, not JSON.
				route !== contract.sendPiece,
		);
		const answers: Record<string, string> = {};
		const wanted: Record<string, string> = {};
		for (const { method, path, role } of routes.filter((route) => route.method !== "GET")) {
			const filled = path
				.replaceAll("{task_id}", "copy-tiny-1")
				.replaceAll("{service_id}", "svc-tiny")
				.replaceAll("{device}", "node1:disk")
				.replaceAll(/\{\w+\}/g, "tiny");
			const as = role === "node" || role === "host" ? role : "admin";
			const needed = path === "/api/v1/repairs/{task_id}" ? "?source=node1" : "";
			answers[`${method} ${path}`] = await told(await t.ask(method, filled + needed, { as, body: {} }));
			wanted[`${method} ${path}`] = "400 body_not_expected";
		}
		expect(Object.keys(wanted).length).toBeGreaterThan(4);
		expect(answers).toEqual(wanted);
		// One that is announced counts, and an empty one does not.
		for (const [headers, answer] of [
			[{ "content-length": "2" }, "400 body_not_expected"],
			[{ "transfer-encoding": "chunked" }, "400 body_not_expected"],
			[{ "content-length": "0" }, "200"],
		] as const)
			expect(await told(await t.ask("GET", "/api/v1/nodes", { headers }))).toBe(answer);
	});

	test("what is compressed is refused on the gateway's routes too, before an engine sees it", async () => {
		t.handled.length = 0;
		for (const encoding of ["gzip", "br", "deflate", "zstd", "identity, gzip"]) {
			const answer = await t.ask("POST", "/v1/chat/completions", {
				body: { model: "a" },
				headers: { "content-encoding": encoding },
			});
			expect([encoding, answer.status]).toEqual([encoding, 415]);
		}
		expect(t.handled).toEqual([]);
	});

	test("one that drips is 408, and its connection ends", async () => {
		await using slow = await testApp("host");
		const body = new ReadableStream<Uint8Array>({ start: (c) => c.enqueue(new TextEncoder().encode("{")) });
		const answer = slow.app(
			new Request(`http://${HOST}/api/v1/models`, {
				method: "POST",
				headers: { host: HOST, authorization: `Bearer ${slow.bearer("admin")}`, ...json },
				body,
			}),
			"127.0.0.1",
		);
		await slow.clock.advance(32_000);
		const refused = await answer;
		expect(refused.headers.get("connection")).toBe("close");
		expect(await told(refused)).toBe("408 slow_body");
	});

	test("a key that is there twice is named", async () => {
		const body = '{"model_name":"a","metadata":{"x":1,"x":2}}';
		expect(await told(await t.ask("POST", "/api/v1/models", { body, headers: json }))).toBe(
			"400 duplicate_key x",
		);
	});
});

describe("numbers of a query", () => {
	test.each([
		"0x10",
		"1e2",
		"%205",
		"5%20",
		"+5",
		"%2B5",
		"5.0",
		"05",
		"0b1",
		"0o7",
		"1_0",
		"٣",
		"Infinity",
		"NaN",
		"",
		"-0",
		"5,5",
	])("page=%s is none", async (text) => {
		expect(await told(await t.ask("GET", `/api/v1/models?page=${text}`))).toBe("400 bad_field page");
	});

	test("no route reads one in another way", () => {
		const numbers = Object.values(contract as Record<string, Route>).flatMap(({ path, query }) =>
			Object.entries(query?.shape ?? {})
				.filter(([, field]) => z.safeParse(field, "10").data === 10)
				.map(([key, field]) => [`${path} ${key}`, z.safeParse(field, "0x10").success] as const),
		);
		expect(numbers.length).toBeGreaterThan(8);
		expect(numbers.filter(([, isTaken]) => isTaken)).toEqual([]);
	});

	test("seconds may have a fraction, but no exponent", async () => {
		const since = async (text: string): Promise<string> =>
			told(await t.ask("GET", `/api/v1/queue/history?since=${text}`));
		for (const good of ["0", "1795442712", "1795442712.25"]) expect(await since(good)).toBe("200");
		for (const bad of ["1e9", "0x1", "1.", ".5", "-1", "1795442712.1234567890"])
			expect(await since(bad)).toBe("400 bad_field since");
	});
});

describe("joins", () => {
	const join = (app: TestApp, address: string): Promise<Response> =>
		app.app(
			new Request(`http://${HOST}/api/v1/join`, {
				method: "POST",
				headers: { host: HOST, ...json },
				body: JSON.stringify(joinBody),
			}),
			address,
		);

	test("ten that fail within a minute are enough for an address, and its body is not read any more", async () => {
		await using refusing = await testApp("host", {
			handle: (echo) => {
				if (echo.id !== "join") return echo;
				throw new GswarmError("UNAUTHORIZED", "No.", { reason: "join_refused" });
			},
		});
		for (let i = 0; i < MAX_JOINS; i++) expect((await join(refusing, "10.0.0.9")).status).toBe(401);
		refusing.handled.length = 0;
		const refused = await join(refusing, "10.0.0.9");
		expect(Number(refused.headers.get("retry-after"))).toBeWithin(1, 61);
		expect(await told(refused)).toBe("429 too_many_joins");
		expect(refusing.handled).toEqual([]);
		expect((await join(refusing, "10.0.0.8")).status).toBe(401);
		expect((await refusing.ask("GET", "/api/v1/nodes")).status).toBe(200);
		await refusing.clock.advance(60_000);
		expect((await join(refusing, "10.0.0.9")).status).toBe(401);
	});

	test("those that are let in, or wait to be approved, do not count", async () => {
		for (let i = 0; i < 3 * MAX_JOINS; i++) expect((await join(t, "10.0.0.7")).status).toBe(200);
	});

	test("those under way count", async () => {
		const gate = Promise.withResolvers<void>();
		await using waiting = await testApp("host", { handle: (echo) => gate.promise.then(() => echo) });
		const answers = Array.from({ length: MAX_JOINS + 5 }, () => join(waiting, "10.0.0.9"));
		gate.resolve();
		const statuses = (await Promise.all(answers)).map(({ status }) => status);
		expect(statuses.filter((status) => status === 200)).toHaveLength(MAX_JOINS);
		expect(statuses.filter((status) => status === 429)).toHaveLength(5);
	});
});

describe("counting addresses", () => {
	const address6 = (network: number, host: number): string =>
		`2001:db8:0:${network.toString(16)}::${host.toString(16)}`;

	test("a /64 is one address, in whatever spelling, and a /64 beside it is another", () => {
		const attempts = createAttempts({ clock: new FakeClock() });
		for (let i = 0; i < 20; i++) expect(attempts.failedLogin(address6(1, i))).toBeUndefined();
		expect(attempts.failedLogin(address6(1, 99))).toMatchObject({ status: 429 });
		expect(attempts.failedLogin("2001:0DB8:0000:0001:ffff::1")).toMatchObject({ status: 429 });
		expect(attempts.failedLogin(address6(2, 1))).toBeUndefined();
	});

	test("no number of addresses fills the memory, and a guesser is not forgotten for them while it goes on", () => {
		const attempts = createAttempts({ clock: new FakeClock() });
		for (const address of ["10.0.0.1", "10.0.0.2"])
			for (let i = 0; i < 21; i++) attempts.failedLogin(address);
		for (let i = 0; i <= MAX_COUNTED_ADDRESSES; i++) {
			attempts.failedLogin(address6(i, 1));
			if (i % 1000 === 0) expect(attempts.failedLogin("10.0.0.1")).toMatchObject({ status: 429 });
		}
		expect(attempts.failedLogin("10.0.0.1")).toMatchObject({ status: 429 });
		// Who has been silent for all of these is not kept.
		expect(attempts.failedLogin("10.0.0.2")).toBeUndefined();
	});

	test("all listeners of an agent count together", async () => {
		const attempts = createAttempts({ clock: t.clock });
		const doors = ["host", "node", "service"].map((listener) =>
			createDoor(
				{
					identity: t.identity,
					clock: t.clock,
					ids: systemIds,
					allowedHosts: () => allowedHosts([], 8000),
					attempts,
				},
				{
					listener,
					isOpenAi: () => false,
					enter: (_request, { bearer }) => {
						throw t.identity.refusal(bearer);
					},
				},
			),
		);
		const statuses: number[] = [];
		for (let i = 0; i < 24; i++) {
			const request = new Request(`http://${HOST}/`, {
				headers: { host: HOST, authorization: "Bearer guess" },
			});
			const answer = await doors[i % doors.length]?.(request, "10.9.9.9");
			statuses.push(answer?.status ?? 0);
		}
		expect(statuses).toEqual([...Array<number>(20).fill(401), ...Array<number>(4).fill(429)]);
	});
});

test("a secret that somebody pasted into an address comes back in no answer and no line of the log", async () => {
	const token = t.bearer("admin");
	t.log.length = 0;
	for (const path of [
		`/api/v1/${token}`,
		`/api/v1/nodes?token=${token}`,
		`/v1/${token}`,
		`/api/v1/models/..${token}`,
	]) {
		const answer = await t.ask("GET", path, { headers: { "x-request-id": token.slice(0, 64) } });
		expect(answer.ok).toBe(false);
		expect(answer.headers.get("x-request-id")).toStartWith("req-");
		expect(await answer.text()).not.toContain(token.slice(19, 51));
	}
	const secret = token.slice(19, 51);
	expect(JSON.stringify(t.log)).not.toContain(secret);
});

test("what is behind the door is not reached by who does not belong, and the reason is told in the order of the checks", async () => {
	const wrong = {
		host: "evil.example",
		origin: "https://evil.example",
		authorization: "Bearer nobody",
		...json,
	};
	const body = "{";
	const steps: [drop: string, answer: string][] = [
		["", "403 host_not_allowed"],
		["host", "403 origin_not_allowed"],
		["origin", "401 no_valid_token"],
	];
	const headers: Record<string, string | undefined> = { ...wrong };
	for (const [drop, answer] of steps) {
		if (drop === "host") headers["host"] = HOST;
		else if (drop !== "") delete headers[drop];
		expect(await told(await t.ask("POST", "/api/v1/models", { as: undefined, headers, body }))).toBe(answer);
	}
	delete headers["authorization"];
	expect(await told(await t.ask("POST", "/api/v1/models", { as: "viewer", headers, body }))).toBe(
		"403 role_not_allowed",
	);
	expect(await told(await t.ask("POST", "/api/v1/models", { headers, body }))).toBe("400 bad_json");
	expect(await errorOf(await t.ask("POST", "/api/v1/models?x=1", { headers, body }))).toMatchObject({
		details: { reason: "unknown_field" },
	});
});
