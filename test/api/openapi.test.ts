import { expect, test } from "bun:test";
import { z } from "zod";
import { contract } from "../../src/api/contract.ts";
import { openApiDocument } from "../../src/api/openapi.ts";
import type { Route } from "../../src/api/route.ts";
import { expectGolden } from "../support/golden.ts";

type Json = Record<string, unknown>;

const VERSION = "0.0.0-golden";

test.each(["host", "node"] as const)("the %s's document is the one that was agreed on", async (listener) => {
	const document = openApiDocument(contract, { listener, version: VERSION });
	await expectGolden(`openapi-${listener}.json`, `${JSON.stringify(document, null, "\t")}\n`);
});

test.each(["host", "node"] as const)("the %s's document has exactly its public routes", (listener) => {
	const { paths } = openApiDocument(contract, { listener, version: VERSION }) as {
		paths: Record<string, Json>;
	};
	const shown = Object.entries(paths).flatMap(([path, methods]) =>
		Object.entries(methods).map(
			([method, operation]) =>
				`${String((operation as Json)["operationId"])} ${method.toUpperCase()} ${path}`,
		),
	);
	const wanted = Object.entries<Route>(contract)
		.filter(([, route]) => route.on.includes(listener) && route.internal !== true)
		.map(([id, route]) => `${id} ${route.method} ${route.path}`);
	expect(shown.toSorted()).toEqual(wanted.toSorted());
	expect(shown.join()).not.toContain("heartbeat");
});

test("every reference of the document resolves", () => {
	const document = openApiDocument(contract, { listener: "host", version: VERSION });
	const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(
		([, path = ""]) => path,
	);
	expect(references.length).toBeGreaterThan(10);
	for (const path of references) {
		const target = path.split("/").reduce<unknown>((at, key) => (at as Json | undefined)?.[key], document);
		expect(target, path).toBeObject();
		expect(target, path).not.toEqual({ $ref: `#/${path}` });
	}
});

const sample = {
	make: {
		method: "POST",
		path: "/api/v1/models/{model_name}/make",
		summary: "Make",
		role: "user",
		on: ["host"],
		query: z.strictObject({ size: z.coerce.number().int().default(5), name: z.string() }),
		body: z.strictObject({ level: z.enum(["a", "b"]).default("a"), model: z.string() }),
		status: 202,
		response: z.object({ task_id: z.string() }),
	},
	whisper: {
		method: "POST",
		path: "/api/v1/whisper",
		summary: "",
		role: "node",
		on: ["host"],
		internal: true,
		status: 200,
	},
	text: { method: "GET", path: "/api/v1/text", summary: "Text", role: "public", on: ["host"], status: 200 },
	chat: { method: "POST", path: "/v1/chat", summary: "Chat", role: "inference", on: ["host"], status: 200 },
} as const satisfies Record<string, Route>;

function operationOf(path: string, method: string): Json {
	const { paths } = openApiDocument(sample, { listener: "host", version: VERSION }) as {
		paths: Record<string, Record<string, Json>>;
	};
	return paths[path]?.[method] ?? {};
}

test("parameters come from the path and the query, with what is required", () => {
	const parameters = operationOf("/api/v1/models/{model_name}/make", "post")["parameters"];
	expect(parameters).toEqual([
		expect.objectContaining({ name: "model_name", in: "path", required: true }),
		{ name: "size", in: "query", required: false, schema: { default: 5, type: "integer" } },
		{ name: "name", in: "query", required: true, schema: { type: "string" } },
	]);
});

test("a body is required, its defaults are optional and unknown fields refused", () => {
	expect(operationOf("/api/v1/models/{model_name}/make", "post")["requestBody"]).toEqual({
		required: true,
		content: {
			"application/json": {
				schema: {
					type: "object",
					properties: {
						level: { default: "a", type: "string", enum: ["a", "b"] },
						model: { type: "string" },
					},
					required: ["model"],
					additionalProperties: false,
				},
			},
		},
	});
});

test("an answer may gain fields, an accepted task tells its path, and every failure has the error's shape", () => {
	const { responses } = operationOf("/api/v1/models/{model_name}/make", "post") as {
		responses: Record<string, Json>;
	};
	expect(Object.keys(responses)).toEqual(["202", "4XX", "5XX"]);
	expect(JSON.stringify(responses["202"])).not.toContain("additionalProperties");
	expect(responses["202"]).toHaveProperty("headers.Location");
	expect(responses["4XX"]).toEqual({ $ref: "#/components/responses/Error" });
	expect(operationOf("/v1/chat", "post")).toHaveProperty(
		"responses.4XX.$ref",
		"#/components/responses/GatewayError",
	);
});

test("every route needs the bearer but the public ones, and text is text", () => {
	const document = openApiDocument(sample, { listener: "host", version: VERSION });
	expect(document["security"]).toEqual([{ bearer: [] }]);
	expect(operationOf("/api/v1/models/{model_name}/make", "post")["security"]).toBeUndefined();
	expect(operationOf("/api/v1/text", "get")["security"]).toEqual([{}, { bearer: [] }]);
	expect(operationOf("/api/v1/text", "get")).toHaveProperty(["responses", "200", "content", "text/plain"]);
	expect(Object.keys(document["paths"] as Json)).not.toContain("/api/v1/whisper");
	expect(openApiDocument(sample, { listener: "node", version: VERSION })["paths"]).toEqual({});
});
