/**
 * Requests for any route, made from the contract's own schemas: valid ones, and ones with a single mistake.
 * A request is plain data, so that one that found something can be kept in a file and asked again.
 */
import fc from "fast-check";
import { z } from "zod";
import type { Listener, Route } from "../../src/api/route.ts";
import { PARAMETER_EXAMPLES, pathOf, routesOf } from "./contract-routes.ts";

export interface FuzzRequest {
	listener: Listener;
	/** Whose bearer goes along; `canary` is one that nobody has. */
	as: "admin" | "node" | "host" | "nobody" | "canary";
	method: string;
	/** With the query. */
	path: string;
	headers: Record<string, string>;
	/** The text that is sent; null: none. */
	body: string | null;
}

/** Where it stands in a request it must not stand in an answer, a log or a task. */
export const CANARY = "c4n4ryS3cret0fN0body";
/** Where people do put secrets, by mistake: a source is told again without them. */
const SECRET_SOURCES: readonly string[] = [
	`http://someone:${CANARY}@127.0.0.1/x`,
	`https://${CANARY}@127.0.0.1/x`,
	`http://10.0.0.1/x?token=${CANARY}`,
	`http://127.0.0.1:1/x.tar?X-Amz-Signature=${CANARY}#sha256=${"a".repeat(64)}`,
];
/** What a file would be called that was written where a path trick leads. */
export const ESCAPED = "escaped-by-fuzz";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Schema = Record<string, unknown>;

/** Sources that must lead nowhere. All hosts are addresses or names that are refused before the DNS is asked. */
const BAD_SOURCES: readonly string[] = [
	"file:///etc/passwd",
	"http://127.0.0.1:1/x",
	"http://localhost:8000/api/v1/health",
	"http://169.254.169.254/latest/meta-data/",
	"http://[::1]/x",
	"http://[::ffff:7f00:1]/x",
	"http://2130706433/x",
	"http://0x7f.1/x",
	"s3://bucket/key",
	"data:text/plain,x",
	"gopher://127.0.0.1/x",
	"hf:../../etc",
	"hf:a/b@../../x",
	"hf:a/b/../../c",
	"",
];
/** What fields of these names hold in a request that could succeed. */
const REAL: Readonly<Record<string, readonly Json[]>> = {
	model_name: ["acme/tiny", "acme/other", "tiny"],
	node: ["node1", "node2"],
	nodes: ["node1"],
	device: ["node1:disk", "node1:dram", "node1:disk1", "disk"],
	source_device: ["node1:disk", "node1:dram"],
	target_device: ["node1:dram", "node1:disk1", "node1:disk"],
	location: ["node1:disk"],
	source_url: [
		"hf:acme/tiny",
		"hf:acme/tiny",
		"hf:acme/absent",
		"acme/tiny",
		...BAD_SOURCES,
		...SECRET_SOURCES,
	],
	secret: ["k3v9x2ma.00000000000000000000000000000000"],
	tier: ["disk", "dram"],
	revision: ["main"],
	operation_id: ["copy-tiny-1"],
	content_id: ["a".repeat(64)],
};

const TRICKS: readonly string[] = [
	`../../${ESCAPED}`,
	`..%2f..%2f${ESCAPED}`,
	`/tmp/${ESCAPED}`,
	`a/../../../${ESCAPED}`,
	`C:\\${ESCAPED}`,
	"..",
	".",
	"",
	"%00",
	"a\u0000b",
	"a\nb\r\nx: y",
	"\u001b[31m",
	"\u202etxt",
	"e\u0301",
	"\ud800",
	"--host=0.0.0.0",
	"-rf",
	"$(id)",
	"`id`",
	"${HF_TOKEN}",
	"' OR 1=1--",
	"con",
	"node1:disk:x",
	"all",
	"host",
	"__proto__",
	"constructor",
	"x".repeat(97),
	"x".repeat(5000),
	"é".repeat(300),
	"null",
	"true",
	"0",
];
const NUMBERS: readonly Json[] = [0, -1, 1, 1.5, -0.5, 2 ** 31, 2 ** 53 - 1, 2 ** 53, 1e308, -1e308, 1e-320];

/** Anything that is of no use where something else is wanted. */
const anything: fc.Arbitrary<Json> = fc.oneof(
	fc.constantFrom<Json>(...TRICKS, ...BAD_SOURCES, ...NUMBERS),
	fc.constantFrom<Json>(null, true, false, [], {}, [[]], [null], { a: { b: { c: [] } } }),
	fc.string({ unit: "binary", maxLength: 40 }),
	fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>,
);

/** A value that the schema accepts, as far as its JSON form says. */
function valid(schema: Schema, name: string): fc.Arbitrary<Json> {
	const real = REAL[name];
	if (schema["const"] !== undefined) return fc.constant(schema["const"] as Json);
	if (Array.isArray(schema["enum"])) return fc.constantFrom(...(schema["enum"] as Json[]));
	const any = (schema["anyOf"] ?? schema["oneOf"]) as Schema[] | undefined;
	if (any !== undefined) return fc.oneof(...any.map((one) => valid(one, name)));
	switch (schema["type"]) {
		case "object":
			return validObject(schema);
		case "array": {
			const items = valid((schema["items"] ?? {}) as Schema, name);
			const minLength = Number(schema["minItems"] ?? 0);
			return fc.array(items, { minLength, maxLength: minLength + 2 });
		}
		case "string": {
			const minLength = Number(schema["minLength"] ?? 0);
			const maxLength = Math.max(minLength, Math.min(40, Number(schema["maxLength"] ?? 40)));
			const text = fc.string({ minLength, maxLength });
			return real === undefined ? text : fc.oneof({ arbitrary: fc.constantFrom(...real), weight: 9 }, text);
		}
		case "integer":
		case "number": {
			const min = Number(schema["minimum"] ?? schema["exclusiveMinimum"] ?? 0);
			const max = Number(schema["maximum"] ?? schema["exclusiveMaximum"] ?? 1e6);
			const middle = min + Math.floor((Math.min(max, min + 10) - min) / 2);
			return fc.oneof(
				{ arbitrary: fc.constantFrom<Json>(min, middle, middle, max), weight: 19 },
				{ arbitrary: fc.constantFrom<Json>(min - 1, max + 1, `${middle}`), weight: 1 },
			);
		}
		case "boolean":
			return fc.boolean();
		case "null":
			return fc.constant(null);
		default:
			return fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>;
	}
}

function validObject(schema: Schema): fc.Arbitrary<Json> {
	const properties = (schema["properties"] ?? {}) as Record<string, Schema>;
	const requiredKeys = ((schema["required"] ?? []) as string[]).filter((key) => key in properties);
	const model = Object.fromEntries(Object.entries(properties).map(([key, of]) => [key, valid(of, key)]));
	if (Object.keys(model).length > 0) return fc.record(model, { requiredKeys }) as fc.Arbitrary<Json>;
	return fc.dictionary(fc.string({ maxLength: 20 }), fc.jsonValue({ maxDepth: 2 }), {
		maxKeys: 3,
	}) as fc.Arbitrary<Json>;
}

interface Mistake {
	kind: "replace" | "remove" | "add" | "wrap" | "text" | "nest";
	/** Which of the value's places. */
	at: number;
	value: Json;
	key: string;
}

const mistake: fc.Arbitrary<Mistake> = fc.record({
	kind: fc.constantFrom("replace", "replace", "replace", "remove", "add", "wrap", "text", "nest"),
	at: fc.nat(1000),
	value: anything,
	key: fc.constantFrom(...TRICKS.slice(0, 24), "force", "admin", "role", "node"),
});

type Place = { holder: Record<string, Json> | Json[]; key: string | number };

function placesIn(value: Json): Place[] {
	if (typeof value !== "object" || value === null) return [];
	const holder = value as Record<string, Json>;
	const keys: (string | number)[] = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
	return keys.flatMap((key) => [{ holder, key }, ...placesIn(holder[key as string] as Json)]);
}

/** The value with one thing wrong with it. */
function mistaken(whole: Json, { kind, at, value, key }: Mistake): Json {
	const copy = structuredClone(whole);
	const places = placesIn(copy);
	const place = places[at % Math.max(1, places.length)];
	if (place === undefined) return value;
	const holder = place.holder as Record<string, Json>;
	const old = holder[place.key as string] as Json;
	if (kind === "remove") delete holder[place.key as string];
	else if (kind === "add")
		Object.defineProperty(holder, key, { value, enumerable: true, configurable: true });
	else if (kind === "wrap") holder[place.key as string] = [old];
	else if (kind === "text") holder[place.key as string] = JSON.stringify(old);
	else if (kind === "nest")
		holder[place.key as string] = Array.from({ length: 200 }).reduce<Json>((inner) => [inner], old);
	else holder[place.key as string] = value;
	return copy;
}

const SPARE: Readonly<Record<string, string>> = {
	model_name: "acme%2Fother",
	device: "node1:dram",
	node: "node2",
};

const encodings: readonly ((text: string) => string)[] = [
	(text) => encodeURIComponent(text.toWellFormed()),
	(text) => encodeURI(text.toWellFormed()).replaceAll(/[?#]/g, encodeURIComponent),
	(text) => encodeURIComponent(encodeURIComponent(text.toWellFormed())),
];

/** What is deleted is not what all the others ask for. */
function usual({ method }: Route, name: string): string {
	if (method === "DELETE" && name in SPARE) return SPARE[name] ?? "";
	return PARAMETER_EXAMPLES[name] ?? "";
}

function paths(route: Route): fc.Arbitrary<string> {
	const names = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
	if (names.length === 0) return fc.constant(route.path);
	const parameter = (name: string): fc.Arbitrary<string> =>
		fc.oneof(
			{ arbitrary: fc.constant(usual(route, name)), weight: 4 },
			{
				arbitrary: fc
					.tuple(
						fc.oneof(fc.constantFrom(...TRICKS), fc.string({ unit: "binary", maxLength: 30 })),
						fc.constantFrom(...encodings),
					)
					.map(([text, encode]) => encode(text)),
				weight: 1,
			},
		);
	return fc
		.tuple(...names.map(parameter))
		.map((values) => pathOf(route, Object.fromEntries(names.map((name, at) => [name, values[at] ?? ""]))));
}

function queries(route: Route): fc.Arbitrary<string> {
	const named = route.query === undefined ? fc.constant({}) : valid(jsonSchema(route.query), "");
	const text = (value: Json): string => (typeof value === "string" ? value : JSON.stringify(value));
	const search = (query: Json): string => {
		const parameters = new URLSearchParams();
		for (const [key, value] of Object.entries(query as Record<string, Json>))
			parameters.append(key.toWellFormed(), text(value).toWellFormed());
		return parameters.toString();
	};
	return fc.oneof(
		{ arbitrary: fc.constant(""), weight: 5 },
		{ arbitrary: named.map(search), weight: 3 },
		{
			arbitrary: fc
				.tuple(named, mistake)
				.map(([query, wrong]) => mistaken(query, wrong))
				.filter((query) => typeof query === "object" && query !== null && !Array.isArray(query))
				.map(search),
			weight: 3,
		},
		{
			arbitrary: fc.constantFrom("a=1&a=2", "force=true&force=false", `token=${CANARY}`, "%", "=", "&&"),
			weight: 1,
		},
	);
}

function bodies(route: Route): fc.Arbitrary<string | null> {
	if (route.method === "GET") return fc.constant(null);
	const schema = route.body === undefined ? openAiBody(route) : jsonSchema(route.body);
	if (schema === undefined) return fc.constantFrom(null, "", "{}", "null");
	const good = valid(schema, "");
	return fc.oneof(
		{ arbitrary: good.map((body) => JSON.stringify(body)), weight: 4 },
		{
			arbitrary: fc
				.tuple(good, mistake)
				.map(([body, wrong]) => JSON.stringify(mistaken(body, wrong)) ?? null),
			weight: 6,
		},
		{
			arbitrary: fc.constantFrom(
				null,
				"",
				"{",
				"{}x",
				'{"a":NaN}',
				'{"a":1,"a":2}',
				'{"__proto__":{"x":1}}',
				'{"constructor":{"prototype":{"x":1}}}',
				"[".repeat(5000),
				"\ufeff{}",
				'{"model_name":"a","model_size":1e999}',
				'{"model_name":"\\ud800"}',
				JSON.stringify({ model_name: "x".repeat(200_000) }),
			),
			weight: 1,
		},
	);
}

/** The gateway's routes have no schema of ours. */
function openAiBody({ path }: Route): Schema | undefined {
	if (!path.startsWith("/v1/")) return undefined;
	const text = { type: "string" };
	const message = {
		type: "object",
		properties: { role: text, content: text },
		required: ["role", "content"],
	};
	const properties = {
		model: { enum: ["tiny", "acme/tiny", "absent"] },
		messages: { type: "array", items: message },
		prompt: text,
		input: text,
		stream: { type: "boolean" },
		max_tokens: { type: "integer" },
	};
	return { type: "object", properties, required: ["model"] };
}

const headers: fc.Arbitrary<Record<string, string>> = fc.oneof(
	{ arbitrary: fc.constant({ "content-type": "application/json" }), weight: 8 },
	{
		arbitrary: fc.constantFrom<Record<string, string>>(
			{},
			{ "content-type": "text/plain" },
			{ "content-type": "application/json", "content-encoding": "gzip" },
			{ "content-type": "application/json", "idempotency-key": "same" },
			{ "content-type": "application/json", "idempotency-key": "x".repeat(300) },
			{ "content-type": "application/json", "x-request-id": CANARY.repeat(9) },
			{ "content-type": "application/json", range: "bytes=5-1" },
			{ "content-type": "application/json", range: "bytes=0-99999999999999999999" },
			{ "content-type": "application/json", cookie: `token=${CANARY}` },
			{
				"content-type": "application/json",
				"x-forwarded-for": "1.2.3.4",
				"x-forwarded-host": "evil.example",
			},
			{ "content-type": "application/json", origin: "https://evil.example" },
			{ "content-type": "application/json", accept: "text/html", "if-none-match": "*" },
		),
		weight: 2,
	},
);

function jsonSchema(schema: z.ZodType): Schema {
	return z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Schema;
}

/** Who asks: mostly somebody who is let in, because behind the door there is more to break. */
function callers({ role }: Route): fc.Arbitrary<FuzzRequest["as"]> {
	const good = role === "node" || role === "host" ? role : "admin";
	return fc.constantFrom<FuzzRequest["as"]>(
		good,
		good,
		good,
		good,
		good,
		good,
		good,
		"node",
		"nobody",
		"canary",
	);
}

function requestsFor(listener: Listener, route: Route): fc.Arbitrary<FuzzRequest> {
	return fc
		.record({
			as: callers(route),
			method: fc.oneof(
				{ arbitrary: fc.constant<string>(route.method), weight: 19 },
				{ arbitrary: fc.constantFrom("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"), weight: 1 },
			),
			path: paths(route),
			query: queries(route),
			headers,
			body: bodies(route),
		})
		.map(({ query, ...request }) => ({
			listener,
			...request,
			path: query === "" ? request.path : `${request.path}?${query}`,
			body: request.method === "GET" || request.method === "HEAD" ? null : request.body,
		}));
}

/** Requests for all routes of all listeners, each route as often as any other; `except` are left out. */
export function fuzzRequests(except: (id: string) => boolean = () => false): fc.Arbitrary<FuzzRequest> {
	const all = (["host", "node", "peer"] as const).flatMap((listener) =>
		routesOf(listener).flatMap(([id, route]) => (except(id) ? [] : [requestsFor(listener, route)])),
	);
	return fc.oneof(...all);
}
