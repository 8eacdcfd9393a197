import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalPath, rawPath } from "../../src/agent/http/path.ts";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { MAX_JSON_BYTES } from "../../src/platform/limits.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { isModelName, MODEL_SUB_ROUTES } from "../../src/schema/names.ts";
import { type Ask, type Echo, errorOf, HOST, type TestApp, testApp, told } from "./test-app.ts";

let t: TestApp;
beforeAll(async () => {
	t = await testApp("host");
});
afterAll(() => t[Symbol.asyncDispose]());

const register = (body: unknown, ask: Ask = {}): Promise<Response> =>
	t.ask("POST", "/api/v1/models", { body, ...ask });
const json = { "content-type": "application/json" };

async function echo(response: Response): Promise<Echo> {
	if (!response.ok) throw new Error(await response.text());
	return (await response.json()) as Echo;
}

describe("bodies", () => {
	test.each([
		["nothing", ""],
		["more after the end", "{}x"],
		["NaN", '{"model_name":"a","model_size":NaN}'],
		["an infinite number", '{"model_name":"a","model_size":1e999}'],
		["bytes that are not UTF-8", new Uint8Array([0x7b, 0xff, 0x7d])],
		["too many levels", `{"metadata":${"[".repeat(40)}${"]".repeat(40)}}`],
	])("%s is 400 bad_json", async (_what, body) => {
		expect(await told(await register(body, { headers: json }))).toBe("400 bad_json");
	});

	test.each(["__proto__", "constructor", "prototype"])(
		"the key %s is refused wherever it is",
		async (key) => {
			expect(await told(await register(`{"${key}":{}}`, { headers: json }))).toBe(`400 forbidden_key ${key}`);
			const deep = `{"model_name":"a","metadata":{"a":[{"${key}":{"x":1}}]}}`;
			expect(await told(await register(deep, { headers: json }))).toBe(`400 forbidden_key ${key}`);
			expect(({} as { x?: unknown }).x).toBeUndefined();
		},
	);

	test.each([
		[{ model_name: "a", colour: 1 }, "400 unknown_field colour"],
		[{}, "400 bad_field model_name"],
		[{ model_name: 7 }, "400 bad_field model_name"],
		[{ model_name: "" }, "400 bad_field model_name"],
		[{ model_name: "a", model_size: -1 }, "400 bad_field model_size"],
		[{ model_name: "a", model_size: 1.5 }, "400 bad_field model_size"],
		[{ model_name: "a", model_size: "12" }, "400 bad_field model_size"],
		[{ model_name: "a", model_size: null }, "400 bad_field model_size"],
		[{ model_name: "a", metadata: [] }, "400 bad_field metadata"],
		[{ model_name: "a", model_type: "x".repeat(65) }, "400 bad_field model_type"],
		[[], "400 bad_field body"],
		["text", "400 bad_field body"],
		[null, "400 bad_field body"],
	])("%j is %s", async (body, answer) => {
		expect(await told(await register(JSON.stringify(body), { headers: json }))).toBe(answer);
	});

	test("sizes are exact up to 2^53 - 1, and not taken beyond", async () => {
		const sized = (digits: string) =>
			register(`{"model_name":"a","model_size":${digits}}`, { headers: json });
		const { body } = await echo(await sized("9007199254740991"));
		expect(body).toMatchObject({ model_size: 9_007_199_254_740_991 });
		for (const digits of ["9007199254740992", "9007199254740993", "1e300"]) {
			expect(await told(await sized(digits))).toBe("400 bad_field model_size");
		}
	});

	test("an unknown field deep inside is named with its path, and all problems are listed", async () => {
		const body = { model_name: "a", port: 0, config: { replicas: "2", gpu: 1 } };
		const error = await errorOf(await t.ask("POST", "/api/v1/services", { body }));
		expect(error.details["fields"]).toEqual(
			expect.arrayContaining([
				{ field: "port", problem: expect.any(String) },
				{ field: "config.replicas", problem: expect.any(String) },
				{ field: "config.gpu", problem: "unknown field" },
			]),
		);
		expect(error.message).toContain(String(error.details["field"]));
	});

	test("what agents send each other may have fields that we do not know yet", async () => {
		const secret = "k3v9x2ma.aaaa";
		const body = {
			node: "a",
			secret,
			certificate_request: "",
			protocol_version: 1,
			version: "9",
			colour: "blue",
		};
		expect((await t.ask("POST", "/api/v1/join", { as: undefined, body })).status).toBe(200);
		const text = await t.ask("POST", "/api/v1/join", {
			as: undefined,
			body: { ...body, protocol_version: "1" },
		});
		expect(await told(text)).toBe("400 bad_field protocol_version");
	});

	test.each([
		[{ "content-type": "text/plain" }, "415 content_type_not_supported"],
		[{ "content-type": "application/x-www-form-urlencoded" }, "415 content_type_not_supported"],
		[{ "content-type": "multipart/form-data; boundary=x" }, "415 content_type_not_supported"],
		[{ "content-type": "application/jsonp" }, "415 content_type_not_supported"],
		[{ ...json, "content-encoding": "gzip" }, "415 encoding_not_supported"],
		[{ ...json, "content-encoding": "br, gzip" }, "415 encoding_not_supported"],
		[{ "content-type": "Application/JSON; charset=UTF-8" }, "201"],
		[{ ...json, "content-encoding": "identity" }, "201"],
	])("a body with %j is %s", async (headers, answer) => {
		expect(await told(await register('{"model_name":"a"}', { headers }))).toBe(answer);
	});

	const padded = (bytes: number): string => {
		const frame = '{"model_name":"a","metadata":{"a":""}}';
		return frame.replace('""', `"${"x".repeat(bytes - frame.length)}"`);
	};

	test("a body of 1 MiB is read, one byte more is 413, announced or not", async () => {
		expect((await register(padded(MAX_JSON_BYTES), { headers: json })).status).toBe(201);
		const big = padded(MAX_JSON_BYTES + 1);
		const announced = { ...json, "content-length": String(big.length) };
		expect(await told(await register(big, { headers: announced }))).toBe("413 body_too_large");
		expect(await told(await register(big, { headers: json }))).toBe("413 body_too_large");
		// What is announced too long is refused although it never comes.
		const lie = { ...json, "content-length": String(MAX_JSON_BYTES + 1) };
		expect(await told(await register("{}", { headers: lie }))).toBe("413 body_too_large");
	});

	test("a body that nobody may send is not read", async () => {
		const broken = { body: "{broken", headers: json };
		expect((await t.ask("POST", "/api/v1/models", { ...broken, as: undefined })).status).toBe(401);
		expect((await t.ask("POST", "/api/v1/models", { ...broken, as: "viewer" })).status).toBe(403);
	});
});

describe("queries", () => {
	test("pages have bounds, and a default", async () => {
		const list = (query: string) => t.ask("GET", `/api/v1/models${query}`);
		expect((await echo(await list(""))).query).toEqual({ page: 1, per_page: 20 });
		expect((await echo(await list("?page=1000000&per_page=200"))).query).toEqual({
			page: 1_000_000,
			per_page: 200,
		});
		for (const [query, field] of [
			["page=0", "page"],
			["page=-1", "page"],
			["page=1.5", "page"],
			["page=1000001", "page"],
			["page=1e18", "page"],
			["page=abc", "page"],
			["page=", "page"],
			["per_page=0", "per_page"],
			["per_page=201", "per_page"],
			["per_page=100000", "per_page"],
		] as const) {
			expect([query, await told(await list(`?${query}`))]).toEqual([query, `400 bad_field ${field}`]);
		}
	});

	test.each([
		["/api/v1/models?status=broken", "400 bad_field status"],
		["/api/v1/models?colour=blue", "400 unknown_field colour"],
		["/api/v1/models?page=1&page=2", "400 bad_field page"],
		["/api/v1/models?__proto__=1", "400 unknown_field __proto__"],
		["/api/v1/models?constructor=1", "400 unknown_field constructor"],
		["/api/v1/queue/history?since=abc", "400 bad_field since"],
		["/api/v1/queue/history?limit=-1", "400 bad_field limit"],
		["/api/v1/queue/history?limit=201", "400 bad_field limit"],
		["/api/v1/queue/history?since=-1", "400 bad_field since"],
		["/api/v1/nodes?name=node1", "400 unknown_field name"],
		["/api/v1/services/svc-a/status?force=true", "400 unknown_field force"],
	])("%s is %s", async (path, answer) => {
		expect(await told(await t.ask("GET", path))).toBe(answer);
	});

	test.each(["yes", "1", "TRUE", "", "true false"])("a flag that says %j is refused", async (force) => {
		const path = `/api/v1/models/tiny?force=${encodeURIComponent(force)}`;
		expect(await told(await t.ask("DELETE", path))).toBe("400 bad_field force");
	});

	test("text that looks like SQL arrives as it was written", async () => {
		const text = "llm' OR 1=1--";
		const { query } = await echo(await t.ask("GET", `/api/v1/models?type=${encodeURIComponent(text)}`));
		expect(query).toMatchObject({ type: text });
	});
});

describe("names in paths", () => {
	const model = async (path: string, method = "GET"): Promise<string> => {
		const answer = await t.ask(method, `/api/v1/models/${path}`, method === "POST" ? { body: {} } : {});
		if (!answer.ok) return told(answer);
		const { id, params } = (await answer.json()) as Echo;
		return `${id} ${params["model_name"]}`;
	};

	test.each([
		["tiny", "getModel tiny"],
		["acme/tiny", "getModel acme/tiny"],
		["acme%2Ftiny", "getModel acme/tiny"],
		["acme%2ftiny", "getModel acme/tiny"],
		["a/b/c", "getModel a/b/c"],
		["a%2Fb/c", "getModel a/b/c"],
		["download", "getModel download"],
		["locations", "getModel locations"],
		["acme/tiny/locations", "listLocations acme/tiny"],
		["acme%2Ftiny/locations", "listLocations acme/tiny"],
	])("GET …/%s is %s", async (path, answer) => {
		expect(await model(path)).toBe(answer);
	});

	test.each([
		["%2e%2e%2f%2e%2e%2fetc"],
		["a%00b"],
		["%00"],
		["a%2F%2e%2e%2Fb"],
		["..%2f"],
		["a..b"],
		["-rf"],
		["a%20b"],
		["a%0Ab"],
		["a%5Cb"],
		["%zz"],
		["%E0%A4"],
		["%C0%AF"],
		["acme%252Ftiny"],
		["a/b/c/d"],
		["a//b"],
		["a/"],
		["%2Fetc"],
		["a%2Fdownload"],
		["a/locations/b/c"],
		["x".repeat(97)],
		["caf%C3%A9"],
		["C:"],
	])("…/%s is no model name", async (path) => {
		expect(await model(path)).toBe("400 bad_model_name model_name");
	});

	test("96 characters are a name, with every segment", async () => {
		const name = ["a".repeat(96), "b".repeat(96), "c".repeat(96)].join("/");
		expect(await model(name)).toBe(`getModel ${name}`);
	});

	test("both spellings of a slash lead to the same place, with every sub-route", () => {
		const segment = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/).filter((it) => !it.includes(".."));
		const name = fc
			.array(segment, { minLength: 1, maxLength: 3 })
			.map((it) => it.join("/"))
			.filter(isModelName);
		const tail = fc.constantFrom("", "/locations/node1:disk", ...MODEL_SUB_ROUTES.map((it) => `/${it}`));
		fc.assert(
			fc.property(name, tail, (it, rest) => {
				const slashed = canonicalPath(`/api/v1/models/${it}${rest}`);
				const escaped = canonicalPath(`/api/v1/models/${it.replaceAll("/", "%2F")}${rest}`);
				expect(slashed).toBe(escaped);
				expect(slashed).toBe(`/api/v1/models/${it.replaceAll("/", "%2F")}${rest}`);
			}),
		);
	});

	test.each([
		["/api/v1/queue/tasks/..%2f..%2fx", "400 bad_task_id task_id"],
		["/api/v1/queue/tasks/x", "400 bad_task_id task_id"],
		["/api/v1/queue/tasks/copy-a..b", "400 bad_task_id task_id"],
		["/api/v1/queue/tasks/copy-%00", "400 bad_task_id task_id"],
		["/api/v1/services/..%2fx/status", "400 bad_service_id service_id"],
		["/api/v1/models/tiny/locations", "200"],
	])("GET %s is %s", async (path, answer) => {
		expect(await told(await t.ask("GET", path))).toBe(answer);
	});

	test.each([
		["node1:disk", "202"],
		["node1%3Adisk", "202"],
		["gpu:0", "202"],
		["..%2fdisk", "400 bad_device device"],
		["node1:tape", "400 bad_device device"],
		["a:b:disk", "400 bad_device device"],
	])("DELETE …/locations/%s is %s", async (device, answer) => {
		expect(await told(await t.ask("DELETE", `/api/v1/models/acme/tiny/locations/${device}`))).toBe(answer);
	});

	test("the path of an address is found in every form that a request may have", () => {
		expect(rawPath("http://a:1/b?c=/d#e")).toBe("/b");
		expect(rawPath("http://a:1")).toBe("/");
		expect(rawPath("/v1/x?y=http://z/w")).toBe("/v1/x");
	});
});

describe("methods", () => {
	test.each([
		["PUT", "/api/v1/models", "GET, POST, HEAD"],
		["POST", "/api/v1/nodes", "GET, HEAD"],
		["GET", "/api/v1/models/tiny/download", "POST"],
		["PATCH", "/api/v1/models/acme/tiny", "GET, DELETE, HEAD"],
		["OPTIONS", "/api/v1/health", "GET, HEAD"],
		["DELETE", "/v1/models", "GET, HEAD"],
	])("%s %s is 405, and says %s", async (method, path, allow) => {
		const answer = await t.ask(method, path);
		expect(answer.status).toBe(405);
		expect(answer.headers.get("allow")).toBe(allow);
	});

	test("HEAD is answered where GET is, without a body", async () => {
		const answer = await t.ask("HEAD", "/api/v1/models/tiny");
		expect(answer.status).toBe(200);
		expect(await answer.text()).toBe("");
	});

	test("what is no route is 404 with where to look", async () => {
		const error = await errorOf(await t.ask("GET", "/api/v1/metrics"));
		expect(error).toMatchObject({ code: "NOT_FOUND", details: { reason: "no_such_route" } });
		expect((await t.ask("GET", "/api/v1/models/tiny/nothing/at/all")).status).toBe(400);
		expect((await t.ask("GET", "/api/v1//models")).status).toBe(404);
		expect((await t.ask("GET", "/api/v1/models/")).status).toBe(404);
	});
});

describe("answers", () => {
	test("an error is exactly what the design says, with seconds since the epoch", async () => {
		const answer = await t.ask("GET", "/api/v1/metrics", { headers: { "x-request-id": "my-request.1" } });
		expect(await answer.json()).toEqual({
			error: {
				code: "NOT_FOUND",
				message: "There is no route GET /api/v1/metrics.",
				details: { reason: "no_such_route", hint: "GET /api/v1/openapi.json lists the routes." },
				timestamp: t.clock.nowMs() / 1000,
				request_id: "my-request.1",
			},
		});
		expect(answer.headers.get("content-type")).toStartWith("application/json");
	});

	test("a request id comes back, in good and bad answers; one that is no id is replaced", async () => {
		for (const path of ["/api/v1/nodes", "/api/v1/metrics", "/v1/models", "/v1/nothing"]) {
			const given = await t.ask("GET", path, { headers: { "x-request-id": "abc-1" } });
			expect(given.headers.get("x-request-id")).toBe("abc-1");
			for (const bad of ["a b", "x".repeat(65), '"<script>"', ""]) {
				const made = await t.ask("GET", path, { headers: { "x-request-id": bad } });
				expect(made.headers.get("x-request-id")).toMatch(/^req-[0-9a-z]{12}$/);
			}
		}
	});

	test("accepted work says where its task is", async () => {
		const answer = await t.ask("POST", "/api/v1/models/acme/tiny/copy", {
			body: { source_device: "node1:disk", target_device: "node2:disk" },
		});
		expect(answer.status).toBe(202);
		expect(answer.headers.get("location")).toBe("/api/v1/queue/tasks/copy-tiny-1");
		expect((await t.ask("GET", "/api/v1/nodes")).headers.get("location")).toBeNull();
	});

	test("on /v1 an error has OpenAI's form", async () => {
		const answer = await t.ask("GET", "/v1/nothing");
		expect(answer.status).toBe(404);
		expect(await answer.json()).toEqual({
			error: {
				message: "There is no route GET /v1/nothing.",
				type: "invalid_request_error",
				param: null,
				code: "no_such_route",
			},
		});
		const nobody = await t.ask("GET", "/v1/models", { as: undefined });
		expect(await nobody.json()).toMatchObject({
			error: { type: "authentication_error", code: "no_valid_token" },
		});
		const viewer = await t.ask("GET", "/v1/models", { as: "viewer" });
		expect(await viewer.json()).toMatchObject({
			error: { type: "permission_error", code: "role_not_allowed" },
		});
	});

	test("what a handler throws becomes an answer; a mistake of ours tells nothing of itself but its id", async () => {
		const thrown: unknown[] = [
			new GswarmError("RESOURCE_UNAVAILABLE", "No room.", {
				reason: "insufficient_space",
				status: 507,
				hint: "Delete.",
			}),
			new GswarmError("RESOURCE_UNAVAILABLE", "Away.", { reason: "node_unreachable" }),
			new GswarmError("RESOURCE_UNAVAILABLE", "Later.", { reason: "busy", retryAfterS: 6.2 }),
			new TypeError("/root/secret is not a function"),
			"a string",
		];
		await using bad = await testApp("host", {
			handle: () => {
				throw thrown.shift();
			},
		});
		const ask = () => bad.ask("GET", "/api/v1/nodes", { headers: { "x-request-id": "it" } });
		const full = await ask();
		expect(full.status).toBe(507);
		expect((await errorOf(full)).details).toEqual({ reason: "insufficient_space", hint: "Delete." });
		expect((await ask()).headers.get("retry-after")).toBe("5");
		expect((await ask()).headers.get("retry-after")).toBe("7");
		for (const _ of [1, 2]) {
			const answer = await ask();
			expect(answer.status).toBe(500);
			const text = await answer.text();
			expect(text).toContain("INTERNAL_ERROR");
			expect(text).not.toContain("secret");
			expect(text).not.toContain(".ts");
		}
		const logged = bad.log.filter((line) => line["event"] === "http.internal_error");
		expect(logged).toHaveLength(2);
		expect(JSON.stringify(logged[0])).toContain("/root/secret is not a function");
		expect(logged[0]).toMatchObject({ request_id: "it" });
	});

	test("a handler learns who asks", async () => {
		expect((await echo(await t.ask("GET", "/api/v1/nodes", { as: "viewer" }))).caller).toMatch(
			/^[0-9a-z]{8}$/,
		);
		const nobody = await t.ask("GET", "/api/v1/health", { as: undefined });
		expect((await echo(nobody)).caller).toBeUndefined();
	});
});

test("whatever is sent to whatever route, it is never our fault", async () => {
	const routes = (Object.values(contract) as Route[]).filter((route) => route.on.includes("host"));
	const anyText = fc.oneof(
		fc.string({ unit: "binary" }),
		fc.constantFrom("tiny", "..", "%", "a/b", "node1:disk"),
	);
	const anyQuery = fc.dictionary(fc.string(), fc.string({ unit: "binary" }), { maxKeys: 3 });
	await fc.assert(
		fc.asyncProperty(
			fc.constantFrom(...routes),
			anyText,
			anyQuery,
			fc.jsonValue(),
			async (route, text, query, body) => {
				const path = route.path.replaceAll(/\{\w+\}/g, encodeURIComponent(text.toWellFormed()));
				const search = new URLSearchParams(query).toString();
				const send = route.method === "GET" ? {} : { body: JSON.stringify(body), headers: json };
				const answer = await t.ask(route.method, `${path}?${search}`, send);
				expect(answer.status).toBeLessThan(500);
				if (answer.status >= 400 && !path.startsWith("/v1/")) await errorOf(answer);
			},
		),
		{ numRuns: 500 },
	);
	expect(HOST).toBe("127.0.0.1:8000");
}, 60_000);
