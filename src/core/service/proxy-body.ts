/** The body of a request to the gateway: read whole, because the model's name is in it, and bounded. */
import { GswarmError, invalid } from "../../schema/errors.ts";

export const BODY_LIMIT_BYTES = 64 << 20;

/** @throws INVALID_REQUEST body_too_large (413), unsupported_encoding (415) */
export async function readBody(request: Request): Promise<Uint8Array<ArrayBuffer>> {
	const encoding = request.headers.get("content-encoding") ?? "identity";
	if (encoding !== "identity") {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The request body is encoded as ${JSON.stringify(encoding.slice(0, 40))}; the gateway reads plain JSON.`,
			{ reason: "unsupported_encoding", status: 415 },
		);
	}
	const length = request.headers.get("content-length");
	if (length !== null && Number(length) > BODY_LIMIT_BYTES) throw tooLarge();
	try {
		// A length that HTTP framing holds the client to makes the short way safe.
		return length === null ? await readAll(request.body) : new Uint8Array(await request.arrayBuffer());
	} catch (cause) {
		if (cause instanceof GswarmError) throw cause;
		throw new GswarmError("INVALID_REQUEST", "The request body ended before it was complete.", {
			reason: "body_incomplete",
			cause,
		});
	}
}

/** The name in `model`. @throws INVALID_REQUEST bad_json, missing_model */
export function readModel(body: Uint8Array): string {
	let parsed: unknown;
	try {
		parsed = JSON.parse(new TextDecoder().decode(body));
	} catch {
		throw invalid("bad_json", "The request body is not JSON.");
	}
	if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
		throw invalid("bad_json", "The request body is not a JSON object.");
	const { model } = parsed as { model?: unknown };
	if (typeof model !== "string" || model === "")
		throw invalid("missing_model", "The request body names no model: wanted a string in `model`.", {
			param: "model",
		});
	return model;
}

async function readAll(body: ReadableStream<Uint8Array> | null): Promise<Uint8Array<ArrayBuffer>> {
	const pieces: Uint8Array[] = [];
	let sizeBytes = 0;
	for await (const piece of body ?? []) {
		sizeBytes += piece.length;
		if (sizeBytes > BODY_LIMIT_BYTES) throw tooLarge();
		pieces.push(piece);
	}
	return Buffer.concat(pieces);
}

function tooLarge(): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The request body is larger than ${BODY_LIMIT_BYTES} bytes.`, {
		reason: "body_too_large",
		status: 413,
	});
}
