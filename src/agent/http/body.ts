/** Bodies of requests: only where a route takes one, plain, and as JSON. */
import type { Route } from "../../api/route.ts";
import type { BodyReader } from "../../platform/body-reader.ts";
import { MAX_INTERNAL_JSON_BYTES, MAX_JSON_BYTES, MAX_OPEN_JSON_BYTES } from "../../platform/limits.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { validationError } from "./errors.ts";

/**
 * The body as the route's schema has it; undefined for a route that takes none or hands it on as it is.
 * @throws 400 body_not_expected and what the JSON reader says; 408, 413, 415
 */
export async function readBody(route: Route, request: Request, bodies: BodyReader): Promise<unknown> {
	if (route.body === undefined) {
		if (!handsOnBody(route)) refuseBody(request);
		else refuseEncoding(request);
		return undefined;
	}
	refuseEncoding(request);
	refuseType(request);
	const result = route.body.safeParse(parseJson(await bodies.read(request, limitOf(route))));
	if (result.success) return result.data;
	throw validationError(result.error, "body");
}

/** The gateway's routes give the body to an engine. */
function handsOnBody(route: Route): boolean {
	return route.response === undefined && route.method === "POST";
}

/** Who has no token yet gets little memory, agents get much. */
function limitOf(route: Route): number {
	if (route.role === "join" || route.role === "public" || route.role === "grant") return MAX_OPEN_JSON_BYTES;
	return route.internal === true ? MAX_INTERNAL_JSON_BYTES : MAX_JSON_BYTES;
}

/** What nobody reads would only stay in the connection. */
function refuseBody(request: Request): void {
	const { headers, body } = request;
	const length = headers.get("content-length");
	const isAnnounced = (length !== null && length !== "0") || headers.has("transfer-encoding");
	if (!isAnnounced && body === null) return;
	throw invalid(
		"body_not_expected",
		`${request.method} takes no body here.`,
		{},
		"GET /api/v1/openapi.json says which routes take one.",
	);
}

function refuseEncoding({ headers }: Request): void {
	const encoding = headers.get("content-encoding");
	if (encoding === null || encoding === "identity") return;
	throw new GswarmError(
		"INVALID_REQUEST",
		`The content encoding ${JSON.stringify(encoding.slice(0, 100))} is not accepted; send the body as it is.`,
		{ reason: "encoding_not_supported", status: 415 },
	);
}

function refuseType({ headers }: Request): void {
	const type = headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
	if (type === undefined || type === "application/json") return;
	throw new GswarmError(
		"INVALID_REQUEST",
		`The content type is ${JSON.stringify(type.slice(0, 100))}; wanted application/json.`,
		{ reason: "content_type_not_supported", status: 415 },
	);
}
