import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createFrontApp } from "../../src/agent/http/front.ts";
import { allowedHosts } from "../../src/agent/http/browser-guard.ts";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { formatToken, makeToken } from "../../src/core/identity/identity.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { HOST, type TestApp, testApp } from "./test-app.ts";

/** What was recorded, the oldest first, in a line each. */
async function recorded({ audit }: TestApp): Promise<string[]> {
	const { entries } = (await audit?.list({ limit: 200 })) ?? { entries: [] };
	return entries
		.reverse()
		.map(({ actor, action, target, status, reason }) =>
			[actor.role ?? "nobody", action, JSON.stringify(target), status, reason ?? ""].join(" ").trim(),
		);
}

test("changes are recorded with who, what, target and status; reading, beats and inference are not", async () => {
	await using t = await testApp("host", { isAudited: true });
	await t.ask("DELETE", "/api/v1/models/acme%2Ftiny?force=true");
	await t.ask("PUT", "/api/v1/secrets/hf", { body: { value: "x" } });
	await t.ask("POST", "/api/v1/credentials", { as: "node", body: { origin: "https://a.example" } });
	await t.ask("POST", "/api/v1/queue/tasks/copy-tiny-1/cancel", { as: "operator" });
	for (const path of ["/api/v1/models", "/api/v1/audit", "/api/v1/health", "/v1/models"])
		await t.ask("GET", path);
	await t.ask("HEAD", "/api/v1/models");
	await t.ask("POST", "/v1/chat/completions", { body: { model: "a", messages: [] } });
	await t.ask("POST", "/api/v1/heartbeat", { as: "node", body: {} });
	expect(await recorded(t)).toEqual([
		'admin deleteModel {"model_name":"acme/tiny","device":"","force":"true"} 202'.replace('"device":"",', ""),
		'admin setSecret {"secret_name":"hf"} 200',
		'node lookUpCredential {"origin":"https://a.example"} 200',
		'operator cancelTask {"task_id":"copy-tiny-1"} 200',
	]);
});

test("a change that failed is recorded with the reason", async () => {
	await using t = await testApp("host", {
		isAudited: true,
		handle: () => {
			throw new GswarmError("CONFLICT", "It is served.", { reason: "in_use" });
		},
	});
	await t.ask("DELETE", "/api/v1/models/acme%2Ftiny");
	await t.ask("DELETE", "/api/v1/models/..%2F..%2Fetc");
	expect(await recorded(t)).toEqual([
		'admin deleteModel {"model_name":"acme/tiny","force":"false"} 409 in_use',
		'admin deleteModel {"model_name":"../../etc"} 400 bad_model_name',
	]);
});

test("every 403 of a role is recorded, with what was tried", async () => {
	await using t = await testApp("host", { isAudited: true });
	for (const _ of [1, 2, 3]) await t.ask("DELETE", "/api/v1/models/acme%2Ftiny", { as: "viewer" });
	await t.ask("GET", "/api/v1/audit", { as: "operator" });
	await t.ask("GET", "/v1/models", { as: "viewer" });
	expect(await recorded(t)).toEqual([
		...[1, 2, 3].map(() => 'viewer deleteModel {"model_name":"acme/tiny"} 403 role_not_allowed'),
		"operator listAudit {} 403 role_not_allowed",
		"viewer gatewayModels {} 403 role_not_allowed",
	]);
});

test("of guesses the first within a minute is recorded, and that there were too many; a page of another site once", async () => {
	await using t = await testApp("host", { isAudited: true });
	const wrong = formatToken(makeToken(systemIds, "admin"));
	for (let n = 0; n < 30; n++) {
		await t.ask("GET", "/api/v1/models", { as: undefined, headers: { authorization: `Bearer ${wrong}` } });
	}
	for (const _ of [1, 2]) {
		await t.ask("GET", "/api/v1/models", { headers: { origin: "https://evil.example" } });
		await t.ask("GET", "/api/v1/models", { headers: { host: "evil.example" } });
		await t.ask("GET", "/api/v1/models", { as: undefined });
	}
	expect(await recorded(t)).toEqual([
		"nobody listModels {} 401 no_valid_token",
		"nobody listModels {} 429 too_many_failures",
		"nobody unknown {} 403 origin_not_allowed",
		"nobody unknown {} 403 host_not_allowed",
	]);
});

test("a served model's own port records who was refused there", async () => {
	await using t = await testApp("node", { isAudited: true });
	const { identity, clock, audit } = t;
	const front = createFrontApp(() => Promise.resolve(new Response("ok")), {
		identity,
		clock,
		ids: systemIds,
		audit,
		allowedHosts: () => allowedHosts([], 8000),
	});
	const ask = (bearer: string) =>
		front(
			new Request(`http://${HOST}/v1/models`, { headers: { host: HOST, authorization: `Bearer ${bearer}` } }),
			"10.0.0.7",
		);
	expect((await ask(t.bearer("inference"))).status).toBe(200);
	expect((await ask(t.bearer("viewer"))).status).toBe(403);
	expect(await recorded(t)).toEqual(["viewer unknown {} 403 role_not_allowed"]);
	const page = await audit?.list({ limit: 1 });
	expect(page?.entries[0]).toMatchObject({ listener: "service", address: "10.0.0.7" });
});

test("no token, body or value of a query comes into the log, whatever was asked", async () => {
	const canary = "canary4711";
	await using t = await testApp("host", { isAudited: true });
	const token = formatToken(makeToken(systemIds, "admin"));
	const secret = token.split("_")[3] ?? "";
	for (const [, route] of Object.entries(contract) as [string, Route][]) {
		const path = route.path.replaceAll(/\{(\w+)\}/g, "x1");
		for (const as of ["admin", "viewer", undefined] as const) {
			await t.ask(route.method, `${path}?token=${token}&access_token=${canary}`, {
				as,
				...(as === undefined ? { headers: { authorization: `Bearer ${token}`, cookie: canary } } : {}),
				...(route.method === "GET" ? {} : { body: { value: canary, secret: canary, model_name: "a" } }),
			});
		}
	}
	await t.ask("PUT", "/api/v1/secrets/hf", { body: { value: canary, origins: ["https://a.example"] } });
	expect((await recorded(t)).length).toBeGreaterThan(20);
	const files = readdirSync(t.path).map((name) => readFileSync(join(t.path, name), "latin1"));
	expect(files.join("")).toContain("role_not_allowed");
	for (const text of [...files, JSON.stringify(t.log)]) {
		expect(text.includes(canary)).toBe(false);
		expect(text.includes(secret)).toBe(false);
	}
});

test("fields that the log may tell are plain ones of the route's own query and body, and none is a secret", () => {
	for (const [id, route] of Object.entries(contract) as [string, Route][]) {
		const known = { ...route.query?.shape, ...route.body?.shape };
		for (const field of route.audited ?? []) {
			expect([id, field, field in known]).toEqual([id, field, true]);
			expect([id, field, /secret|token|value|password|key|certificate|grant|url/.test(field)]).toEqual([
				id,
				field,
				false,
			]);
		}
	}
});
