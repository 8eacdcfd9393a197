/**
 * Who gets in where: every address of the contract × every method × every role × every listener. What is expected
 * stands in a table of its own below, not in the code that decides.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Listener, Role, Route } from "../../src/api/route.ts";
import type { CallerRole } from "../../src/core/identity/identity.ts";
import { errorOf, ROLES, type TestApp, testApp } from "../agent/test-app.ts";
import { LISTENERS, pathOf, routesOf } from "../support/contract-routes.ts";

const PEOPLE = ["viewer", "inference", "user", "operator", "admin"];

/** Which callers may call a route of each role. `reader` is a person on a node that is cut off from its host. */
const MAY: Readonly<Record<string, readonly string[]>> = {
	public: ["nobody", ...PEOPLE, "reader", "node", "host"],
	any: [...PEOPLE, "reader", "node", "host"],
	join: ["nobody", ...PEOPLE, "reader", "node", "host"],
	grant: ["nobody", ...PEOPLE, "reader", "node", "host"],
	viewer: ["viewer", "user", "operator", "admin", "reader", "host"],
	inference: ["inference", "user", "operator", "admin", "reader", "host"],
	user: ["user", "operator", "admin", "host"],
	operator: ["operator", "admin", "host"],
	admin: ["admin", "host"],
	node: ["node"],
	host: ["host"],
};
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"];
const CALLERS: readonly (CallerRole | "nobody")[] = ["nobody", ...ROLES];

/** Every address that any listener has, so that each listener is asked for those of the others, too. */
const PATHS = [...new Set(routesOf().map(([, route]) => pathOf(route)))];

interface Address {
	path: string;
	/** What this listener has there. */
	routes: readonly Route[];
}

const addressesOf = (listener: Listener): Address[] =>
	PATHS.map((path) => ({
		path,
		routes: routesOf(listener).flatMap(([, route]) => (pathOf(route) === path ? [route] : [])),
	}));

function expected({ routes }: Address, method: string, caller: string): string {
	const asked = method === "HEAD" ? "GET" : method;
	const route = routes.find((one) => one.method === asked);
	if (route !== undefined) {
		if (MAY[route.role]?.includes(caller) === true) return "enters";
		return caller === "nobody" ? "401" : "403";
	}
	if (caller === "nobody") return "401";
	return routes.length === 0 ? "404" : "405";
}

/** `enters`: past the check of roles, where the schema may still find fault with an empty request. */
function seen(answer: Response, handled: boolean): string {
	const { status } = answer;
	if ([401, 403, 404, 405].includes(status)) return handled ? `${status} but handled` : `${status}`;
	return status < 500 ? "enters" : `${status}`;
}

test("every role of the contract is in the table, and every caller's role", () => {
	expect(routesOf().filter(([, { role }]) => MAY[role] === undefined)).toEqual([]);
	const named = new Set(Object.values(MAY).flat());
	expect(ROLES.filter((role) => !named.has(role))).toEqual([]);
});

test("what needs no token is known by name: a route more is a decision, not a slip of the pen", () => {
	const open: Role[] = ["public", "join", "grant"];
	const found = routesOf()
		.filter(([, { role }]) => open.includes(role))
		.map(([id, { role }]) => `${id} ${role}`);
	const known = [
		"health public",
		"authority public",
		"join join",
		"readPart grant",
		"partTags grant",
		"readBundle grant",
		"havePart grant",
	];
	expect(found.filter((route) => !known.includes(route))).toEqual([]);
});

describe.each([...LISTENERS])("on the %s listener", (listener) => {
	let t: TestApp;
	beforeAll(async () => {
		t = await testApp(listener);
	});
	afterAll(() => t[Symbol.asyncDispose]());

	async function ask(
		method: string,
		path: string,
		caller: CallerRole | "nobody",
		headers: Record<string, string> = {},
	): Promise<{ answer: Response; seen: string }> {
		t.handled.length = 0;
		const answer = await t.ask(method, path, { as: caller === "nobody" ? undefined : caller, headers });
		return { answer, seen: seen(answer, t.handled.length > 0) };
	}

	test("each address lets in, by each method, exactly the roles that the table has", async () => {
		const got: Record<string, string> = {};
		const wanted: Record<string, string> = {};
		for (const address of addressesOf(listener)) {
			for (const method of METHODS) {
				for (const caller of CALLERS) {
					const key = `${method} ${address.path} as ${caller}`;
					wanted[key] = expected(address, method, caller);
					got[key] = (await ask(method, address.path, caller)).seen;
				}
			}
		}
		expect(got).toEqual(wanted);
		expect(Object.keys(got).length).toBeGreaterThan(PATHS.length * METHODS.length * ROLES.length);
	});

	test("with force=true a call needs the role that the contract names for it, and no higher one without", async () => {
		for (const [id, route] of routesOf(listener).filter(([, { forceRole }]) => forceRole !== undefined)) {
			for (const caller of ROLES) {
				const allowed = MAY[route.forceRole ?? ""]?.includes(caller) === true ? "enters" : "403";
				const forced = await ask(route.method, `${pathOf(route)}?force=true`, caller);
				expect([id, caller, forced.seen]).toEqual([id, caller, allowed]);
				const plain = await ask(route.method, `${pathOf(route)}?force=false`, caller);
				const without = MAY[route.role]?.includes(caller) === true ? "enters" : "403";
				expect([id, caller, plain.seen]).toEqual([id, caller, without]);
			}
		}
	});

	test("405 names what is possible, 401 how to sign in, and both have the design's body", async () => {
		for (const address of addressesOf(listener)) {
			if (address.path.startsWith("/v1/")) continue;
			const nobody = await ask("PATCH", address.path, "nobody");
			expect(nobody.answer.headers.get("www-authenticate")).toBe("Bearer");
			expect((await errorOf(nobody.answer)).code).toBe("UNAUTHORIZED");
			if (address.routes.length === 0) continue;
			const admin = await ask("PATCH", address.path, "admin");
			const allow = admin.answer.headers.get("allow")?.split(", ") ?? [];
			expect(allow.filter((method) => method !== "HEAD").sort()).toEqual(
				address.routes.map(({ method }) => method as string).sort(),
			);
			expect((await errorOf(admin.answer)).details["reason"]).toBe("method_not_allowed");
		}
	});

	test("a token that is wrong, of another kind, in the address or in a cookie is no token, on every route", async () => {
		const good = t.bearer("admin");
		const tricks: Record<string, { headers?: Record<string, string>; query?: string }> = {
			mistyped: { headers: { authorization: `Bearer ${good.slice(0, -1)}` } },
			cut: { headers: { authorization: `Bearer ${good.slice(0, 20)}` } },
			"another kind": { headers: { authorization: `Bearer ${good.replace(/^gsw_[a-z]+/, "gsw_node")}` } },
			basic: { headers: { authorization: `Basic ${btoa(`admin:${good}`)}` } },
			bare: { headers: { authorization: good } },
			twice: { headers: { authorization: `Bearer ${good}, Bearer ${good}` } },
			"in the query": { query: `?token=${good}&access_token=${good}&authorization=Bearer%20${good}` },
			"in a cookie": { headers: { cookie: `token=${good}; authorization=Bearer ${good}` } },
			"in another header": { headers: { "x-api-key": good, "proxy-authorization": `Bearer ${good}` } },
		};
		for (const [id, route] of routesOf(listener)) {
			if (MAY[route.role]?.includes("nobody") === true) continue;
			for (const [trick, { headers = {}, query = "" }] of Object.entries(tricks)) {
				await t.clock.advance(60_000);
				const { seen: got } = await ask(route.method, `${pathOf(route)}${query}`, "nobody", headers);
				expect([id, trick, got]).toEqual([id, trick, "401"]);
			}
		}
		expect(JSON.stringify(t.log)).not.toContain(good);
	});

	test("another site's page and another name for this machine are refused before anything else, on every address", async () => {
		const tricks: Record<string, string>[] = [
			{ host: "evil.example" },
			{ host: "127.0.0.1.evil.example:8000" },
			{ origin: "https://evil.example" },
			{ origin: "null" },
			{ "sec-fetch-site": "cross-site" },
		];
		for (const path of [...PATHS, "/", "/nothing"]) {
			for (const headers of tricks) {
				for (const method of ["GET", "POST", "DELETE", "OPTIONS"]) {
					const { answer, seen: got } = await ask(method, path, "admin", headers);
					expect([method, path, headers, got]).toEqual([method, path, headers, "403"]);
					const leave = [...answer.headers.keys()].filter((name) => name.startsWith("access-control"));
					expect(leave).toEqual([]);
				}
			}
		}
	});

	test("addresses beside those of the contract lead nowhere, whoever asks", async () => {
		const beside = PATHS.flatMap((path) => [
			`${path}/`,
			`${path}/x/y`,
			`/${path}`,
			`${path}%00`,
			`${path};x`,
			path.toUpperCase(),
			path.replace("/api/v1/", "/api/v2/"),
			path.replace("/api/v1/", "/api//v1/"),
		]).filter((path) => !PATHS.includes(path));
		for (const path of new Set(beside)) {
			expect([path, (await ask("PUT", path, "nobody")).seen]).toEqual([path, "401"]);
			const { answer } = await ask("PUT", path, "admin");
			expect([path, [400, 404, 405].includes(answer.status), t.handled]).toEqual([path, true, []]);
		}
	});
});
