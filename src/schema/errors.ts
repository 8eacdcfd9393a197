/**
 * The one error type of operating failures, its codes, and the body that every API answers with.
 * Programmer errors are not GswarmErrors; they are asserted and become INTERNAL_ERROR at the edge.
 */

/** The seven codes of the API design and four more; the sub-cause is `details.reason`, in snake_case. */
export type ErrorCode =
	| "RESOURCE_UNAVAILABLE"
	| "MODEL_NOT_FOUND"
	| "TASK_FAILED"
	| "DEPENDENCY_FAILED"
	| "NETWORK_ERROR"
	| "INVALID_REQUEST"
	| "CONFLICT"
	| "UNAUTHORIZED"
	| "FORBIDDEN"
	| "NOT_FOUND"
	| "INTERNAL_ERROR";

export interface ErrorOptions {
	/** Sub-cause in snake_case, e.g. `bad_model_name`; becomes `details.reason`. */
	reason?: string;
	/** Values a program may act on, e.g. `{ required, available, device }`. Never a secret, never a path outside the data root. */
	details?: Record<string, unknown>;
	/** What the reader should do next, one sentence. */
	hint?: string;
	/** HTTP status where the code's usual one does not fit (e.g. 405, 413, 507). */
	status?: number;
	/** True when the same call may succeed later; a queue retries only these. */
	retryable?: boolean;
	/** Seconds the source asked us to wait. */
	retryAfterS?: number;
	cause?: unknown;
}

const STATUS: Record<ErrorCode, number> = {
	RESOURCE_UNAVAILABLE: 503,
	MODEL_NOT_FOUND: 404,
	TASK_FAILED: 500,
	DEPENDENCY_FAILED: 424,
	NETWORK_ERROR: 502,
	INVALID_REQUEST: 400,
	CONFLICT: 409,
	UNAUTHORIZED: 401,
	FORBIDDEN: 403,
	NOT_FOUND: 404,
	INTERNAL_ERROR: 500,
};

/** An operating failure: what was done, with which values, wanted and got; `hint` says what to do. */
export class GswarmError extends Error {
	readonly code: ErrorCode;
	readonly reason: string | undefined;
	readonly details: Record<string, unknown>;
	readonly hint: string | undefined;
	readonly status: number;
	readonly retryable: boolean;
	readonly retryAfterS: number | undefined;

	constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.name = "GswarmError";
		this.code = code;
		this.reason = options.reason;
		this.details = {
			...(options.reason === undefined ? {} : { reason: options.reason }),
			...options.details,
		};
		this.hint = options.hint;
		this.status = options.status ?? STATUS[code];
		this.retryable = options.retryable ?? false;
		this.retryAfterS = options.retryAfterS;
	}
}

/** The error body of `/api/v1`, exactly as the API design writes it. `timestamp` is seconds since the epoch. */
export interface ErrorBody {
	error: {
		code: ErrorCode;
		message: string;
		details: Record<string, unknown>;
		timestamp: number;
		request_id: string;
	};
}

/** The failure as it is stored in a task row and shown by the task API. */
export interface StoredError {
	code: ErrorCode;
	message: string;
	details: Record<string, unknown>;
	hint?: string;
}

/** Any thrown value as a GswarmError; what is not one becomes INTERNAL_ERROR without its inner text. */
export function asGswarmError(error: unknown): GswarmError {
	if (error instanceof GswarmError) return error;
	return new GswarmError(
		"INTERNAL_ERROR",
		"An unexpected error occurred; the agent's log has it under this request id.",
		{
			reason: "internal",
			cause: error,
		},
	);
}

/** A GswarmError for a row or a message to another agent. */
export function toStoredError(error: GswarmError): StoredError {
	return {
		code: error.code,
		message: error.message,
		details: error.details,
		...(error.hint === undefined ? {} : { hint: error.hint }),
	};
}

/** 400 INVALID_REQUEST naming the field; the answer to wrong input everywhere. */
export function invalid(
	reason: string,
	message: string,
	details: Record<string, unknown> = {},
	hint?: string,
): GswarmError {
	return new GswarmError("INVALID_REQUEST", message, {
		reason,
		details,
		...(hint === undefined ? {} : { hint }),
	});
}

/** 404 NOT_FOUND for anything that is not a model. `kind` is the API's word: task, node, service, device, chunk. */
export function notFound(kind: string, name: string, hint?: string): GswarmError {
	return new GswarmError("NOT_FOUND", `There is no ${kind} ${JSON.stringify(name)}.`, {
		reason: `${kind}_not_found`,
		details: { [kind]: name },
		...(hint === undefined ? {} : { hint }),
	});
}

/** 404 MODEL_NOT_FOUND. */
export function modelNotFound(name: string, where?: string): GswarmError {
	return new GswarmError(
		"MODEL_NOT_FOUND",
		`There is no model ${JSON.stringify(name)}${where === undefined ? "" : ` on ${where}`}.`,
		{
			reason: "model_not_found",
			details: { model: name, ...(where === undefined ? {} : { device: where }) },
			hint: "`gswarm model list` shows the models of the cluster.",
		},
	);
}
