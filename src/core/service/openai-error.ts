/** Errors of `/v1` in the shape that OpenAI's clients read. */
import type { GswarmError } from "../../schema/errors.ts";

/** Seconds to wait before the next try, where the failure does not say. */
const RETRY_AFTER_S = 2;

/** The failure as an answer: `details.param` names the field, the reason becomes the code. */
export function openAiError(error: GswarmError): Response {
	const { param } = error.details;
	const headers = new Headers();
	const retryAfterS = error.retryAfterS ?? (error.status === 503 ? RETRY_AFTER_S : undefined);
	if (retryAfterS !== undefined) headers.set("retry-after", String(retryAfterS));
	if (error.status === 405) headers.set("allow", "POST");
	return Response.json(
		{
			error: {
				message: error.hint === undefined ? error.message : `${error.message} ${error.hint}`,
				type: error.status >= 500 ? "server_error" : "invalid_request_error",
				param: typeof param === "string" ? param : null,
				code: error.reason ?? null,
			},
		},
		{ status: error.status, headers },
	);
}
