import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createApp, type Handlers } from "../../src/agent/http/app.ts";
import { allowedHosts } from "../../src/agent/http/browser-guard.ts";
import { createFrontApp } from "../../src/agent/http/front.ts";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { allows, type CallerRole } from "../../src/core/identity/identity.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { LISTENERS, OPEN, pathOf, routesOf } from "../support/contract-routes.ts";
import { errorOf, HOST, ROLES, type TestApp, testApp, told } from "./test-app.ts";

describe.each([...LISTENERS])("the %s listener", (listener) => {
	let t: TestApp;
	beforeAll(async () => {
		t = await testApp(listener);
	});
	afterAll(() => t[Symbol.asyncDispose]());

	test("without a token every route that is not open answers 401, and no handler runs", async () => {
		const answers: Record<string, string> = {};
		const expected: Record<string, string> = {};
		for (const [id, route] of routesOf(listener)) {
			if (OPEN.includes(route.role)) continue;
			t.handled.length = 0;
			const answer = await t.ask(route.method, pathOf(route), { as: undefined });
			answers[id] = `${answer.status} ${answer.headers.get("www-authenticate")} ${t.handled.join()}`;
			expected[id] = "401 Bearer ";
		}
		expect(answers).toEqual(expected);
	});

	test("each role may call exactly the routes that its role in the contract allows", async () => {
		const answers: Record<string, string> = {};
		const expected: Record<string, string> = {};
		for (const [id, route] of routesOf(listener)) {
			for (const role of ROLES) {
				t.handled.length = 0;
				const answer = await t.ask(route.method, pathOf(route), { as: role });
				const entered = OPEN.includes(route.role) || allows(role, route.role);
				const key = `${id} as ${role}`;
				expected[key] = entered ? "entered" : "403 role_not_allowed, not handled";
				// Who is let in meets the schema next: a body that is missing is the caller's mistake, not his role's.
				const isIn = answer.status !== 401 && answer.status !== 403;
				if (isIn) answers[key] = "entered";
				else if (route.path.startsWith("/v1/")) {
					const { error } = (await answer.json()) as { error: { code: string } };
					answers[key] =
						`${answer.status} ${error.code}, ${t.handled.length > 0 ? "handled" : "not handled"}`;
				} else answers[key] = `${await told(answer)}, ${t.handled.length > 0 ? "handled" : "not handled"}`;
			}
		}
		expect(answers).toEqual(expected);
	});

	test("unknown routes and methods do not tell anybody without a token whether they exist", async () => {
		for (const [method, path] of [
			["GET", "/"],
			["GET", "/api/v1/nothing"],
			["POST", "/api/v2/models"],
			["GET", "/admin"],
			["PATCH", "/api/v1/models"],
			["DELETE", "/api/v1/health"],
			["OPTIONS", "/api/v1/models"],
			["GET", "/v1/nothing"],
			["GET", "/api/v1/models/%2e%2e%2fetc"],
		] as const) {
			for (const headers of [{}, { authorization: "Bearer nonsense" }, { authorization: "Basic YTpi" }]) {
				const answer = await t.ask(method, path, {
					as: undefined,
					headers,
				});
				expect([method, path, answer.status]).toEqual([method, path, 401]);
				expect(answer.headers.get("www-authenticate")).toBe("Bearer");
			}
		}
	});
});

test("the contract's roles are all known, so that no route is open by a slip of the pen", () => {
	const roles = new Set((Object.values(contract) as Route[]).map((route) => route.role));
	for (const role of roles) {
		const someone = ROLES.filter((have) => allows(have, role));
		if (role === "public") expect(someone).toEqual([...ROLES]);
		else if (OPEN.includes(role)) expect(someone).toEqual([]);
		else expect(someone.length).toBeGreaterThan(0);
	}
	const open = (Object.entries(contract) as [string, Route][]).filter(([, route]) =>
		OPEN.includes(route.role),
	);
	expect(open.map(([id, route]) => `${id} ${route.role}`)).toEqual([
		"health public",
		"authority public",
		"join join",
		"readPart grant",
		"partTags grant",
		"readBundle grant",
		"havePart grant",
	]);
});

test("a route without a handler, or a parameter without a validator, stops the agent from starting", async () => {
	await using t = await testApp("host");
	const dependencies = { ...t, ids: systemIds, allowedHosts: () => allowedHosts([], 8000) };
	expect(() => createApp("host", {} as Handlers<"host">, dependencies as never)).toThrow(
		"no handler for health",
	);
});

test("a token that does not count is nobody: wrong, mistyped, of another kind, in the address", async () => {
	await using t = await testApp("host");
	const good = t.bearer("admin");
	const wrong = [
		`Bearer ${good.slice(0, -1)}`,
		`Bearer ${good} `,
		`Bearer  ${good}`,
		`Bearer ${good}, Bearer ${good}`,
		`Basic ${good}`,
		good,
		"Bearer ",
		"Bearer",
		`Bearer ${good.replace("gsw_admin", "gsw_node")}`,
		`Bearer ${t.bearer("host").slice(0, -4)}`,
		`Bearer ${"x".repeat(5000)}`,
	];
	for (const authorization of wrong) {
		await t.clock.advance(61_000);
		const answer = await t.ask("GET", "/api/v1/nodes", { as: undefined, headers: { authorization } });
		expect([authorization, answer.status === 401 || authorization === `Bearer ${good} `]).toEqual([
			authorization,
			true,
		]);
	}
	const inAddress = `/api/v1/nodes?token=${good}&access_token=${good}`;
	expect((await t.ask("GET", inAddress, { as: undefined })).status).toBe(401);
	expect(JSON.stringify(t.log)).not.toContain(good);
	const lower = { authorization: `bearer ${good}` };
	expect((await t.ask("GET", "/api/v1/nodes", { as: undefined, headers: lower })).status).toBe(200);
});

test("liveness is for everybody, without a word more", async () => {
	await using t = await testApp("host");
	expect((await t.ask("GET", "/api/v1/health", { as: undefined })).status).toBe(200);
	expect((await t.ask("GET", "/api/v1/health?cache=buster", { as: undefined })).status).toBe(200);
});

test("after twenty wrong tokens in a minute an address hears 429, and who has a right one does not", async () => {
	await using t = await testApp("host");
	const guess = (address: string) =>
		t.app(
			new Request(`http://${HOST}/api/v1/nodes`, { headers: { host: HOST, authorization: "Bearer guess" } }),
			address,
		);
	const statuses: number[] = [];
	for (let i = 0; i < 22; i++) statuses.push((await guess("10.0.0.9")).status);
	expect(statuses).toEqual([...Array<number>(20).fill(401), 429, 429]);
	const refused = await guess("10.0.0.9");
	expect(Number(refused.headers.get("retry-after"))).toBeWithin(1, 61);
	expect(await told(refused)).toBe("429 too_many_failures");
	expect((await guess("10.0.0.8")).status).toBe(401);
	expect((await t.ask("GET", "/api/v1/nodes")).status).toBe(200);
	await t.clock.advance(60_000);
	expect((await guess("10.0.0.9")).status).toBe(401);
});

test("asking without any token is no guess", async () => {
	await using t = await testApp("host");
	for (let i = 0; i < 30; i++)
		expect((await t.ask("GET", "/api/v1/nodes", { as: undefined })).status).toBe(401);
});

describe("a web page", () => {
	let t: TestApp;
	beforeAll(async () => {
		t = await testApp("host");
	});
	afterAll(() => t[Symbol.asyncDispose]());

	test.each([
		"evil.example",
		"evil.example:8000",
		"127.0.0.1.evil.com:8000",
		"127.0.0.1:8001",
		"127.0.0.1",
		"0.0.0.0:8000",
		"a@127.0.0.1:8000",
		"127.0.0.1:8000, 127.0.0.1:8000",
		"127.0.0.1:8000.",
		"[::ffff:127.0.0.1]:8000",
		"2130706433:8000",
		"node2:8000",
		"",
	])("that calls us %j is refused before its token is looked at", async (host) => {
		for (const as of ["admin", undefined] as const) {
			const answer = await t.ask("GET", "/api/v1/health", { as, headers: { host } });
			expect(await told(answer)).toBe("403 host_not_allowed");
		}
	});

	test.each(["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000", "node1:8000"])(
		"our own name %s is accepted",
		async (host) => {
			expect((await t.ask("GET", "/api/v1/nodes", { headers: { host } })).status).toBe(200);
		},
	);

	test.each([
		{ origin: "https://evil.example" },
		{ origin: "null" },
		{ origin: "http://127.0.0.1:8001" },
		{ origin: "http://localhost:8000" },
		{ origin: "http://127.0.0.1:8000.evil.com" },
		{ origin: "" },
		{ "sec-fetch-site": "cross-site" },
		{ "sec-fetch-site": "same-site" },
		{ "sec-fetch-site": "Cross-Site" },
		{ origin: `http://${HOST}`, "sec-fetch-site": "cross-site" },
	])("of another site, %j, is refused for every method, and gets no leave to read", async (headers) => {
		for (const method of ["GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"]) {
			const answer = await t.ask(method, "/api/v1/models/tiny", {
				headers,
			});
			expect([method, answer.status]).toEqual([method, 403]);
			expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
		}
		expect(await told(await t.ask("GET", "/api/v1/health", { headers }))).toBe("403 origin_not_allowed");
	});

	test.each([
		{ origin: `http://${HOST}` },
		{ origin: `http://${HOST}`, "sec-fetch-site": "same-origin" },
		{ "sec-fetch-site": "none" },
	])("of ours, %j, may ask", async (headers) => {
		expect((await t.ask("GET", "/api/v1/nodes", { headers })).status).toBe(200);
	});
});

test("on the ports of HTTP and HTTPS, which clients leave out, the name alone is enough; on any other it is not", () => {
	expect(allowedHosts(["node1"], 80).has("node1")).toBe(true);
	expect(allowedHosts(["node1"], 443).has("node1")).toBe(true);
	expect(allowedHosts(["node1"], 443).has("node1:443")).toBe(true);
	expect(allowedHosts(["node1"], 443).has("node1:80")).toBe(false);
	expect(allowedHosts(["node1"], 80).has("node1:80")).toBe(true);
	expect(allowedHosts(["node1"], 8000).has("node1")).toBe(false);
	expect(allowedHosts(["Node1"], 8000).has("node1:8000")).toBe(true);
});

test("a service's own port checks the same, and speaks OpenAI's language", async () => {
	await using t = await testApp("node");
	const asked: string[] = [];
	const front = createFrontApp(
		(request) => {
			asked.push(request.url);
			return Promise.resolve(new Response("answer"));
		},
		{ identity: t.identity, clock: t.clock, ids: systemIds, allowedHosts: () => allowedHosts([], 8000) },
	);
	const ask = async (role: CallerRole | undefined, headers: Record<string, string> = {}): Promise<string> => {
		const all = new Headers({ host: HOST, ...headers });
		if (role !== undefined) all.set("authorization", `Bearer ${t.bearer(role)}`);
		const answer = await front(new Request(`http://${HOST}/v1/models`, { headers: all }), "127.0.0.1");
		if (answer.ok) return answer.text();
		const { error } = (await answer.json()) as { error: { type: string; code: string } };
		return `${answer.status} ${error.type} ${error.code}`;
	};
	expect(await ask(undefined)).toBe("401 authentication_error no_valid_token");
	expect(await ask("viewer")).toBe("403 permission_error role_not_allowed");
	expect(await ask("node")).toBe("403 permission_error role_not_allowed");
	expect(await ask("user", { host: "evil.example" })).toBe("403 permission_error host_not_allowed");
	expect(await ask("user", { origin: "https://evil.example" })).toBe(
		"403 permission_error origin_not_allowed",
	);
	expect(asked).toEqual([]);
	for (const role of ["inference", "user", "operator", "admin", "host"] as const)
		expect(await ask(role)).toBe("answer");
});

test("errors of a handler's forbidden steps keep the design's form", async () => {
	await using t = await testApp("host");
	const error = await errorOf(
		await t.ask("POST", "/api/v1/tokens", { as: "operator", body: { kind: "join" } }),
	);
	expect(error).toMatchObject({ code: "FORBIDDEN", details: { role: "operator", needed: "admin" } });
});
