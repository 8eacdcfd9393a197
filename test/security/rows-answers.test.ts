/** What a real host and its nodes answer to bad input: one row per case, grouped as in the table of threats. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { errorOf } from "../agent/test-app.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const MODEL = "acme%2Ftiny";
let c: LocalCluster;
beforeAll(async () => {
	c = await localCluster({ nodes: ["node1", "node2"], files: { "acme/tiny": modelFiles(60_000) } });
	await c.download("acme/tiny", "node1:disk");
});
afterAll(async () => {
	await c?.[Symbol.asyncDispose]();
});

interface Ask {
	as?: string | undefined;
	headers?: Record<string, string>;
	body?: unknown;
}

async function ask(url: string, method: string, { as, headers = {}, body }: Ask = {}): Promise<Response> {
	const all: Record<string, string> = { ...headers };
	if (as !== undefined) all["authorization"] = `Bearer ${as}`;
	if (body !== undefined) all["content-type"] = "application/json";
	return await fetch(url, {
		method,
		headers: all,
		...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
	});
}

/** `400 bad_field model_size`: status, reason, and the field where the error names one. */
async function told(answer: Response): Promise<string> {
	if (answer.ok) return `${answer.status}`;
	const { details } = await errorOf(answer);
	const { reason, field, key } = details;
	const named = field ?? key;
	return [answer.status, reason, ...(typeof named === "string" ? [named] : [])].join(" ");
}

const onHost = async (method: string, path: string, body?: unknown): Promise<string> =>
	told(await ask(`${c.host.url}/api/v1${path}`, method, { as: c.host.admin, body }));
const onNode = async (method: string, path: string, body?: unknown): Promise<string> =>
	told(await ask(`${c.node("node1").url}/api/v1${path}`, method, { as: c.node("node1").admin, body }));

describe("names that are none, and things that are not there", () => {
	test.each([
		["GET", "/models/%2e%2e%2f%2e%2e%2fetc", undefined, "400 bad_model_name model_name"],
		["GET", "/models/a%00b", undefined, "400 bad_model_name model_name"],
		["GET", `/models/${"x".repeat(97)}`, undefined, "400 bad_model_name model_name"],
		["GET", "/queue/tasks/..%2f..%2fx", undefined, "400 bad_task_id task_id"],
		["POST", "/queue/tasks/..%2f..%2fx/cancel", undefined, "400 bad_task_id task_id"],
		["GET", "/services/..%2fx/status", undefined, "400 bad_service_id service_id"],
		["DELETE", "/nodes/..%2f..%2fx", undefined, "400 bad_node_name node"],
		["POST", "/nodes/%00/approve", {}, "400 bad_node_name node"],
		["GET", "/models/acme%2Fabsent", undefined, "404 model_not_found"],
		["GET", "/models/acme%2Fabsent/locations", undefined, "404 model_not_found"],
		["GET", "/queue/tasks/copy-absent-1", undefined, "404 task_not_found"],
		["POST", "/queue/tasks/copy-absent-1/cancel", undefined, "404 task_not_found"],
		["GET", "/services/svc-absent/status", undefined, "404 service_not_found"],
		["DELETE", "/services/svc-absent", undefined, "404 service_not_found"],
		["DELETE", "/nodes/absent", undefined, "404 node_not_found"],
		["POST", "/nodes/absent/approve", {}, "404 node_not_found"],
		["DELETE", "/tokens/zzzzzzzz", undefined, "404 token_not_found"],
		["GET", "/queue?node=absent", undefined, "404 node_not_found"],
		["POST", `/models/${MODEL}/download`, { target_device: "absent:disk" }, "404 node_not_found"],
		[
			"POST",
			`/models/${MODEL}/copy`,
			{ source_device: "node1:disk", target_device: "absent:disk" },
			"404 node_not_found",
		],
		["POST", `/models/${MODEL}/download`, { target_device: "node1:disk9" }, "404 device_not_found"],
		["POST", `/models/${MODEL}/download`, { target_device: "../disk" }, "400 bad_device device"],
	] as [string, string, unknown, string][])("%s %s %j is %s", async (method, path, body, answer) => {
		expect(await onHost(method, path, body)).toBe(answer);
	});

	test("both spellings of a slash are the same model, on the host and on its node", async () => {
		for (const [url, as] of [
			[c.host.url, c.host.admin],
			[c.node("node1").url, c.node("node1").admin],
		] as const) {
			const [one, other] = await Promise.all(
				["acme/tiny", "acme%2Ftiny"].map(async (name) =>
					(await ask(`${url}/api/v1/models/${name}`, "GET", { as })).json(),
				),
			);
			expect(one).toEqual(other as object);
			expect(one).toMatchObject({ model_name: "acme/tiny" });
		}
	});
});

describe("bodies", () => {
	const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) });
	const keys = (count: number): unknown =>
		Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, at]));

	test.each([
		["an empty body", "", "400 bad_json"],
		["more after the end", "{}x", "400 bad_json"],
		["a number that is none", '{"model_name":"m","model_size":NaN}', "400 bad_json"],
		["a byte order mark", '\ufeff{"model_name":"m"}', "400 bad_json"],
		["the key of prototypes", '{"model_name":"m","__proto__":{}}', "400 forbidden_key __proto__"],
		[
			"the key of prototypes, escaped",
			'{"model_name":"m","\\u005f_proto__":{}}',
			"400 forbidden_key __proto__",
		],
		["65 keys of metadata", { model_name: "m", metadata: keys(65) }, "400 bad_field metadata"],
		["metadata of nine levels", { model_name: "m", metadata: nested(9) }, "400 bad_field metadata"],
		["17 kB of metadata", { model_name: "m", metadata: { a: "x".repeat(17_000) } }, "400 bad_field metadata"],
		["a size as text", { model_name: "m", model_size: "12" }, "400 bad_field model_size"],
		["a name that is a flag", { model_name: "--host=0.0.0.0" }, "400 bad_model_name model_name"],
		["a field nobody knows", { model_name: "m", colour: 1 }, "400 unknown_field colour"],
	])("%s is refused", async (_what, body, answer) => {
		expect(await onHost("POST", "/models", body)).toBe(answer);
		expect(await onHost("GET", "/models/m")).toBe("404 model_not_found");
		expect(({} as { x?: unknown }).x).toBeUndefined();
	});

	test("the largest that is allowed is taken: 64 keys, eight levels", async () => {
		const all = { ...(keys(63) as object), deep: nested(7) };
		expect(await onHost("POST", "/models", { model_name: "largest", metadata: all })).toBe("201");
		expect(await onHost("POST", "/models", { model_name: "largest" })).toBe("409 model_exists");
	});

	test("a query that looks like SQL finds nothing and harms nothing", async () => {
		const type = encodeURIComponent("llm' OR 1=1--");
		const answer = await ask(`${c.host.url}/api/v1/models?type=${type}`, "GET", { as: c.host.admin });
		expect(await answer.json()).toMatchObject({ models: [], total: 0 });
	});

	test("a compressed body is not unpacked", async () => {
		const answer = await ask(`${c.host.url}/api/v1/models`, "POST", {
			as: c.host.admin,
			headers: { "content-encoding": "gzip" },
			body: "{}",
		});
		expect(await told(answer)).toBe("415 encoding_not_supported");
	});
});

describe("work that cannot be", () => {
	const copy = { source_device: "node1:disk", target_device: "node1:dram" };
	test.each([
		["copy", { ...copy, target_device: "node1:disk" }, "400 same_device"],
		["copy", { ...copy, bandwidth_limit: 0 }, "400 bad_field bandwidth_limit"],
		["copy", { ...copy, bandwidth_limit: -1 }, "400 bad_field bandwidth_limit"],
		["copy", { ...copy, bandwidth_limit: 999 }, "400 bad_field bandwidth_limit"],
		["copy", { ...copy, bandwidth_limit: 1.5e3 + 0.5 }, "400 bad_field bandwidth_limit"],
		["copy", { ...copy, priority: "urgent" }, "400 bad_field priority"],
		["move", { ...copy, source_device: "node2:disk" }, "404 model_not_found"],
		["download", { source_url: "file:///etc/passwd" }, "400 scheme_not_allowed"],
		["download", { source_url: "http://169.254.169.254/latest/" }, "403 address_blocked"],
		["download", { source_url: "http://[::ffff:7f00:1]/x" }, "403 address_blocked"],
		["download", { source_url: "http://2130706433./x" }, "403 address_blocked"],
		["download", { source_url: "s3://bucket/key" }, "400 scheme_not_allowed source_url"],
		["download", { source_url: "https://a:b@example.com/x" }, "400 credentials_in_url"],
	])("%s %j is %s", async (what, body, answer) => {
		expect(await onHost("POST", `/models/${MODEL}/${what}`, body)).toBe(answer);
	});

	test.each(["maybe", "1", "TRUE", ""])("force=%s is refused", async (force) => {
		expect(await onHost("DELETE", `/models/${MODEL}?force=${force}`)).toBe("400 bad_field force");
		expect(await onNode("DELETE", `/models/${MODEL}?force=${force}`)).toBe("400 bad_field force");
	});

	test("a task that has ended is not cancelled", async () => {
		const { tasks } = await c.host.client.call("queueHistory", { query: {} });
		expect(await onHost("POST", `/queue/tasks/${tasks[0]?.task_id}/cancel`)).toBe("409 already_terminal");
	});
});

describe("agents among each other", () => {
	const beat = { incarnation: 1, seq: 1 };
	test("a node's credential is good for its own reports, and for nothing else, on any listener", async () => {
		const { token, url } = c.node("node1");
		expect(await told(await ask(`${c.host.url}/api/v1/models`, "GET", { as: token }))).toBe(
			"403 role_not_allowed",
		);
		expect(await told(await ask(`${c.host.url}/api/v1/tokens`, "POST", { as: token, body: {} }))).toBe(
			"403 role_not_allowed",
		);
		expect(await told(await ask(`${url}/api/v1/models`, "GET", { as: token }))).toBe("401 no_valid_token");
		const openAi = await ask(`${c.host.url}/v1/models`, "GET", { as: token });
		expect([openAi.status, await openAi.json()]).toMatchObject([
			403,
			{ error: { code: "role_not_allowed" } },
		]);
	});

	test("people do not report, and their tokens are no grants", async () => {
		expect(await onHost("POST", "/heartbeat", beat)).toBe("403 role_not_allowed");
		expect(await onHost("POST", "/condemn", {})).toBe("403 role_not_allowed");
		const part = `${c.node("node1").peerUrl}/parts/${"a".repeat(64)}/0`;
		expect(await told(await ask(part, "GET", { as: c.node("node1").admin }))).toBe("403 grant_refused");
		expect(await told(await ask(part, "GET", { as: c.node("node1").token }))).toBe("403 grant_refused");
		expect(await told(await ask(part, "GET"))).toBe("401 no_valid_token");
	});

	test("parts: a grant opens its own content, within the file, and nothing that is spelled otherwise", async () => {
		const { role, peerUrl } = c.node("node1");
		const [held] = role.storage.copies();
		if (held === undefined) throw new Error("node1 holds the model");
		const content = held.content_id;
		const { grant } = await fromHost("node1", "/grants", {
			operation_id: "copy-tiny-9",
			model_name: "acme/tiny",
			device: "disk",
			content_id: content,
			receiver: "node2",
		});
		const part = async (path: string, range?: string): Promise<string> => {
			const headers: Record<string, string> = range === undefined ? {} : { range };
			return told(await ask(`${peerUrl}/parts/${path}`, "GET", { as: grant, headers }));
		};
		expect(await part(`${content}/0`)).toBe("206");
		expect(await part(`${content}/1`, "bytes=0-9")).toBe("206");
		expect(await part(`${content}/1`, "bytes=59990-")).toBe("206");
		for (const range of [
			"bytes=60000-60001",
			"bytes=9-3",
			"bytes=-5",
			"bytes=0-1,3-4",
			"items=0-1",
			"bytes=99999999999999999999-",
		])
			expect([range, await part(`${content}/1`, range)]).toEqual([range, "416 range_not_satisfiable"]);
		expect(await part(`${"b".repeat(64)}/0`)).toBe("403 grant_refused");
		expect(await part(`${content.toUpperCase()}/0`)).toBe("400 bad_content_id content_id");
		expect(await part(`..%2f..%2f${content}/0`)).toBe("400 bad_content_id content_id");
		expect(await part(`${content}/-1`)).toBe("400 bad_file_index file_index");
		expect(await part(`${content}/1e1`)).toBe("400 bad_file_index file_index");
		expect(await part(`${content}/99`)).toMatch(/^404 /);
	});

	async function fromHost(node: string, path: string, body: unknown): Promise<{ grant: string }> {
		const answer = await ask(`${c.node(node).url}/api/v1${path}`, "POST", {
			as: c.host.assertionFor(node),
			body,
		});
		expect(answer.status).toBe(201);
		return (await answer.json()) as { grant: string };
	}

	test("the host's word to one node is worth nothing to another, nor to the host itself", async () => {
		const forNode1 = c.host.assertionFor("node1");
		expect(await told(await ask(`${c.node("node1").url}/api/v1/models`, "GET", { as: forNode1 }))).toBe(
			"200",
		);
		expect(await told(await ask(`${c.node("node2").url}/api/v1/models`, "GET", { as: forNode1 }))).toBe(
			"401 no_valid_token",
		);
		expect(await told(await ask(`${c.host.url}/api/v1/models`, "GET", { as: forNode1 }))).toBe(
			"401 no_valid_token",
		);
	});
});

describe("tokens of people", () => {
	const make = async (role: string, more: object = {}): Promise<{ token: string; token_id: string }> => {
		const body = { kind: "user", role, name: `${role}-${crypto.randomUUID().slice(0, 8)}`, ...more };
		const answer = await ask(`${c.host.url}/api/v1/tokens`, "POST", { as: c.host.admin, body });
		expect(answer.status).toBe(201);
		return (await answer.json()) as { token: string; token_id: string };
	};
	const list = async (url: string, as: string): Promise<string> =>
		told(await ask(`${url}/api/v1/models`, "GET", { as }));

	test("one that is revoked is nobody at the next request, on the host and on every node", async () => {
		const { token, token_id: id } = await make("user");
		const agents = [c.host.url, c.node("node1").url, c.node("node2").url];
		for (const url of agents)
			await until(`${url} knows the token`, async () => (await list(url, token)) === "200");
		const gone = await ask(`${c.host.url}/api/v1/tokens/${id}`, "DELETE", { as: c.host.admin });
		expect(await gone.json()).toMatchObject({ nodes_not_reached: [] });
		for (const url of agents)
			expect([url, await list(url, token)]).toEqual([url, expect.stringMatching(/^401 /)]);
	});

	test("one that has expired is nobody, to the second", async () => {
		const { token } = await make("viewer", { ttl_s: 60 });
		expect(await list(c.host.url, token)).toBe("200");
		c.host.clock.shift(61_000);
		expect(await list(c.host.url, token)).toBe("401 token_expired");
		c.host.clock.shift(-61_000);
	});

	test("each may do what its role says: a viewer reads, a user submits, neither admits a node", async () => {
		const viewer = (await make("viewer")).token;
		const user = (await make("user")).token;
		const as = async (token: string, method: string, path: string, body?: unknown): Promise<string> =>
			told(await ask(`${c.host.url}/api/v1${path}`, method, { as: token, body }));
		expect(await as(viewer, "POST", "/models", { model_name: "v" })).toBe("403 role_not_allowed");
		expect(await as(viewer, "DELETE", `/models/${MODEL}`)).toBe("403 role_not_allowed");
		expect(await as(user, "POST", "/models", { model_name: "u" })).toBe("201");
		expect(await as(user, "DELETE", `/models/${MODEL}`)).toBe("403 role_not_allowed");
		expect(await as(user, "POST", "/nodes/node1/approve", {})).toBe("403 role_not_allowed");
		expect(await as(user, "POST", "/tokens", { kind: "user", role: "admin", name: "more" })).toBe(
			"403 role_not_allowed",
		);
	});
});
