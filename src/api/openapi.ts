/**
 * The contract as an OpenAPI 3.1 document, made from the same records that validate requests. What agents say to
 * each other (`internal`) is left out: it may change with every version.
 */
import { z } from "zod";
import type { ErrorCode } from "../schema/errors.ts";
import { locationSchema, modelDetailSchema, modelSchema } from "../schema/model.ts";
import { nodeSchema, taskCountersSchema } from "../schema/node.ts";
import { serviceSchema } from "../schema/service.ts";
import { taskSchema } from "../schema/task.ts";
import type { Listener, Route } from "./route.ts";

type Json = Record<string, unknown>;

/** Schemas that get a name of their own; all others stand where they are used. */
const NAMED = {
	Model: modelSchema,
	ModelDetail: modelDetailSchema,
	ModelLocation: locationSchema,
	Node: nodeSchema,
	Service: serviceSchema,
	Task: taskSchema,
	TaskCounters: taskCountersSchema,
} as const;

const ERROR_CODES: Record<ErrorCode, string> = {
	RESOURCE_UNAVAILABLE: "A node, device or its space is not available now",
	MODEL_NOT_FOUND: "No such model there",
	TASK_FAILED: "A task ended with a failure",
	DEPENDENCY_FAILED: "A task that this one waits for failed",
	NETWORK_ERROR: "Another machine could not be reached",
	INVALID_REQUEST: "The request is wrong; `details.field` names where",
	CONFLICT: "It does not fit the present state",
	UNAUTHORIZED: "No token, or one that is not valid",
	FORBIDDEN: "The token's role does not suffice",
	NOT_FOUND: "No such task, node, service or route",
	INTERNAL_ERROR: "A defect of gswarm; the agent's log has the request id",
};

const PARAMETER_TEXTS: Record<string, string> = {
	model_name: "Name of a model, 1 to 3 segments. Its slashes may be written as `/` or `%2F`.",
	device: "Device, `[node:]disk`, `[node:]diskN`, `[node:]dram` or `[node:]gpuN`.",
	task_id: "Id of a task.",
	service_id: "Id of a service.",
	token_id: "Id or name of a token.",
};

const TAGS: readonly (readonly [RegExp, string])[] = [
	[/^\/v1\//, "OpenAI gateway"],
	[/^\/api\/v1\/models/, "Models"],
	[/^\/api\/v1\/services/, "Services"],
	[/^\/api\/v1\/queue/, "Queue"],
	[/^\/api\/v1\/(tokens|whoami)/, "Identity"],
	[/^/, "System"],
];

/** The routes of one listener as OpenAPI 3.1; `version` is that of the program. */
export function openApiDocument(
	contract: Readonly<Record<string, Route>>,
	{ listener, version }: { listener: Listener; version: string },
): Json {
	const convert = schemaConverter();
	const routes = Object.entries(contract).filter(
		([, { on, internal = false }]) => on.includes(listener) && !internal,
	);
	const paths: Record<string, Json> = {};
	for (const [id, route] of routes) {
		(paths[route.path] ??= {})[route.method.toLowerCase()] = operation(id, route, convert);
	}
	return {
		openapi: "3.1.0",
		jsonSchemaDialect: "https://json-schema.org/draft/2020-12/schema",
		info: {
			title: `gswarm ${listener} API`,
			version,
			license: { name: "MIT", identifier: "MIT" },
			description:
				"Answers of this API may gain fields in later versions; requests with unknown fields are refused. " +
				"Long work answers 202 with a task, whose state `GET /api/v1/queue/tasks/{task_id}` tells.",
		},
		servers: [{ url: "/" }],
		security: [{ bearer: [] }],
		tags: [...new Set(routes.map(([, { path }]) => tagOf(path)))].map((name) => ({ name })),
		paths,
		components: {
			securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
			responses: {
				Error: response("The request failed.", "application/json", { $ref: "#/components/schemas/Error" }),
				GatewayError: response("The request failed, in the shape of OpenAI's API.", "application/json", {
					$ref: "#/components/schemas/GatewayError",
				}),
			},
			schemas: { Error: errorSchema(), GatewayError: gatewayErrorSchema(), ...convert.named() },
		},
	};
}

function operation(id: string, route: Route, convert: SchemaConverter): Json {
	const error = { $ref: `#/components/responses/${isGateway(route) ? "GatewayError" : "Error"}` };
	const parameters = [...pathParameters(route), ...queryParameters(route, convert)];
	const body = requestSchema(route, convert);
	return {
		operationId: id,
		summary: route.summary,
		...(route.role === "public" ? {} : { description: neededRole(route) }),
		tags: [tagOf(route.path)],
		...(route.role === "public" ? { security: [{}, { bearer: [] }] } : {}),
		...(parameters.length === 0 ? {} : { parameters }),
		...(body === undefined
			? {}
			: { requestBody: { required: true, content: { "application/json": { schema: body } } } }),
		responses: { [route.status]: success(route, convert), "4XX": error, "5XX": error },
	};
}

function neededRole({ role, forceRole }: Route): string {
	if (role === "any") return "Needs a token, of whatever role.";
	const force = forceRole === undefined ? "" : `; with \`force\` the role \`${forceRole}\``;
	return `Needs a token with the role \`${role}\`${force}.`;
}

function pathParameters({ path }: Route): Json[] {
	return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
		name,
		in: "path",
		required: true,
		...(name in PARAMETER_TEXTS ? { description: PARAMETER_TEXTS[name] } : {}),
		schema: { type: "string" },
	}));
}

function queryParameters({ query }: Route, convert: SchemaConverter): Json[] {
	if (query === undefined) return [];
	const { properties = {}, required = [] } = convert.input(query) as {
		properties?: Record<string, Json>;
		required?: readonly string[];
	};
	return Object.entries(properties).map(([name, schema]) => ({
		name,
		in: "query",
		required: required.includes(name),
		schema,
	}));
}

/** The gateway hands bodies to the engine as they are; of theirs only `model` is ours to read. */
function requestSchema(route: Route, convert: SchemaConverter): Json | undefined {
	if (route.body !== undefined) return convert.input(route.body);
	if (!isGateway(route) || route.method !== "POST") return undefined;
	return { type: "object", properties: { model: { type: "string" } }, required: ["model"] };
}

function success(route: Route, convert: SchemaConverter): Json {
	if (isGateway(route)) {
		const content: Json = { "application/json": { schema: { type: "object" } } };
		if (route.method === "POST") content["text/event-stream"] = { schema: { type: "string" } };
		return { description: "As OpenAI's API answers.", content };
	}
	if (route.response === undefined) return response("The text.", "text/plain", { type: "string" });
	const answer = response(route.summary, "application/json", convert.output(route.response));
	if (route.status !== 202) return answer;
	const location = { description: "Path of the task.", schema: { type: "string" } };
	return { ...answer, description: "Accepted as a task.", headers: { Location: location } };
}

function response(description: string, type: string, schema: Json): Json {
	return { description, content: { [type]: { schema } } };
}

interface SchemaConverter {
	/** What a caller may send: defaults are optional, unknown fields refused where the schema is strict. */
	input(schema: z.ZodType): Json;
	/** What is answered: defaults are filled in, later versions may add fields. */
	output(schema: z.ZodType): Json;
	/** The named schemas that were used so far, as answers. */
	named(): Json;
}

function schemaConverter(): SchemaConverter {
	const registry = z.registry<{ id: string }>();
	for (const [id, schema] of Object.entries(NAMED)) registry.add(schema, { id });
	const used: Record<string, Json> = {};
	return {
		input(schema) {
			const { $schema: _dialect, ...input } = z.toJSONSchema(schema, { io: "input", override: withoutNoise });
			return input;
		},
		output(schema) {
			const whole = z.toJSONSchema(schema, {
				io: "output",
				metadata: registry,
				override(context) {
					withoutNoise(context);
					if (context.jsonSchema.additionalProperties === false)
						delete context.jsonSchema.additionalProperties;
				},
			});
			const text = JSON.stringify(whole).replaceAll("#/$defs/", "#/components/schemas/");
			const { $schema: _dialect, $defs = {}, ...output } = JSON.parse(text) as Json & { $defs?: Json };
			Object.assign(used, $defs);
			return output;
		},
		named: () => Object.fromEntries(Object.entries(used).sort(([a], [b]) => (a < b ? -1 : 1))),
	};
}

/** "Any integer that JSON can carry" needs no limits of its own. */
function withoutNoise({ jsonSchema }: { jsonSchema: { minimum?: number; maximum?: number } }): void {
	if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
	if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
}

function errorSchema(): Json {
	const codes = Object.entries(ERROR_CODES);
	return {
		type: "object",
		properties: {
			error: {
				type: "object",
				properties: {
					code: {
						type: "string",
						enum: codes.map(([code]) => code),
						description: codes.map(([code, text]) => `- ${code}: ${text}`).join("\n"),
					},
					message: { type: "string" },
					details: {
						type: "object",
						description: "`reason` is the sub-cause in snake_case, `hint` says what to do next.",
						properties: { reason: { type: "string" }, hint: { type: "string" } },
					},
					timestamp: { type: "number", description: "Seconds since the epoch." },
					request_id: { type: "string" },
				},
				required: ["code", "message", "details", "timestamp", "request_id"],
			},
		},
		required: ["error"],
	};
}

function gatewayErrorSchema(): Json {
	return {
		type: "object",
		properties: {
			error: {
				type: "object",
				properties: {
					message: { type: "string" },
					type: { type: "string" },
					param: { type: ["string", "null"] },
					code: { type: ["string", "null"] },
				},
				required: ["message", "type", "param", "code"],
			},
		},
		required: ["error"],
	};
}

function isGateway({ path }: Route): boolean {
	return path.startsWith("/v1/");
}

function tagOf(path: string): string {
	return TAGS.find(([pattern]) => pattern.test(path))?.[1] ?? "System";
}
