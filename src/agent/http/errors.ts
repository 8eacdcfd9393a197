/** The one place that turns errors into HTTP answers. */
import type { ZodError } from "zod";
import { redactSecrets } from "../../platform/redact.ts";
import { type ErrorBody, GswarmError, invalid } from "../../schema/errors.ts";

/** The design's body on `/api/v1`, OpenAI's on `/v1`. */
export function errorResponse(
	error: GswarmError,
	options: { requestId: string; nowMs: number; openAi: boolean },
): Response {
	const headers: Record<string, string> = {};
	// Its body is still on the way, at its own pace.
	if (error.status === 408) headers["connection"] = "close";
	if (error.status === 401) headers["www-authenticate"] = "Bearer";
	if (error.retryAfterS !== undefined) headers["retry-after"] = String(Math.ceil(error.retryAfterS));
	else if (error.status === 503 || error.status === 429) headers["retry-after"] = "5";
	const allow = error.details["allow"];
	if (error.status === 405 && typeof allow === "string") headers["allow"] = allow;
	if (options.openAi) {
		const body = {
			error: {
				message: error.message,
				type: openAiType(error.status),
				param: null,
				code: error.reason ?? error.code,
			},
		};
		return json(body, error.status, headers);
	}
	const body: ErrorBody = {
		error: {
			code: error.code,
			message: error.message,
			details: { ...error.details, ...(error.hint === undefined ? {} : { hint: error.hint }) },
			timestamp: options.nowMs / 1000,
			request_id: options.requestId,
		},
	};
	return json(body, error.status, headers);
}

/** A message may quote what somebody pasted into the wrong place. */
function json(body: unknown, status: number, headers: Record<string, string>): Response {
	return new Response(redactSecrets(JSON.stringify(body)), {
		status,
		headers: { "content-type": "application/json", ...headers },
	});
}

const MAX_SHOWN_FIELD = 200;

/** 400 naming the first field that is wrong, and all of them in `details.fields`. */
export function validationError(error: ZodError, where: "body" | "query"): GswarmError {
	const fields = error.issues.slice(0, 20).map((issue) => {
		const keys = issue.code === "unrecognized_keys" ? issue.keys : [];
		// A key may be as long as a body.
		const path = [...issue.path.map(String), ...keys.slice(0, 1)].join(".").slice(0, MAX_SHOWN_FIELD);
		return { field: path === "" ? where : path, problem: keys.length > 0 ? "unknown field" : issue.message };
	});
	const [first] = fields;
	const unknown = error.issues[0]?.code === "unrecognized_keys";
	return invalid(
		unknown ? "unknown_field" : "bad_field",
		`${where === "body" ? "Field" : "Query parameter"} ${JSON.stringify(first?.field ?? where)}: ${first?.problem ?? "wrong"}.`,
		{ field: first?.field ?? where, fields },
	);
}

function openAiType(status: number): string {
	if (status === 401) return "authentication_error";
	if (status === 403) return "permission_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}
