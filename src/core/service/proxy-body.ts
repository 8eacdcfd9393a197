/** The body of a request to the gateway: read whole, because the model's name is in it, and bounded. */
import type { BodyReader } from "../../platform/body-reader.ts";
import { MAX_GATEWAY_BYTES, MAX_GATEWAY_DEPTH } from "../../platform/limits.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";

/** @throws INVALID_REQUEST body_too_large (413), unsupported_encoding (415), slow_body (408), body_incomplete */
export async function readBody(request: Request, bodies: BodyReader): Promise<Uint8Array<ArrayBuffer>> {
	const encoding = request.headers.get("content-encoding") ?? "identity";
	if (encoding !== "identity") {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The request body is encoded as ${JSON.stringify(encoding.slice(0, 40))}; the gateway reads plain JSON.`,
			{ reason: "unsupported_encoding", status: 415 },
		);
	}
	return bodies.read(request, MAX_GATEWAY_BYTES);
}

/** The name in `model`, which is there once: the engine reads the same. @throws INVALID_REQUEST bad_json, duplicate_key, missing_model */
export function readModel(body: Uint8Array): string {
	const parsed = parseJson(body, { isPassedOn: true, maxDepth: MAX_GATEWAY_DEPTH });
	if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
		throw invalid("bad_json", "The request body is not a JSON object.");
	const { model } = parsed as { model?: unknown };
	if (typeof model !== "string" || model === "")
		throw invalid("missing_model", "The request body names no model: wanted a string in `model`.", {
			param: "model",
		});
	return model;
}
