/**
 * Who may act for a part of an operation: which life of the host, and which of its tries. The operation's name is what
 * the work is known by; the token only fences: of two tokens the one that is lower, compared as the pair
 * (host_epoch, n), belongs to somebody who is too late.
 */
import { z } from "zod";
import { invalid } from "./errors.ts";

export const operationTokenSchema = z.object({
	/** `<task id of the operation>/<part>`. */
	operation: z.string().min(3).max(300),
	/** Rises at every start of the host. */
	host_epoch: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
	/** Rises with every try within a life of the host. */
	n: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
});
export type OperationToken = z.infer<typeof operationTokenSchema>;

/** How long a node goes on with a part without a word of the host before it asks. */
export const LEASE_S = 30;

/** The header of a call that dispatches a task. */
export const OPERATION_HEADER = "gswarm-operation";

/** The header of a call that renews a lease: when the host sent it, in milliseconds by the host's wall clock. */
export const SENT_HEADER = "gswarm-sent-ms";

/** `<host_epoch>.<n> <operation>`, the operation in percent-encoding. */
export function formatToken({ operation, host_epoch, n }: OperationToken): string {
	return `${host_epoch}.${n} ${encodeURIComponent(operation)}`;
}

/** @throws 400 bad_operation_token */
export function parseToken(text: string): OperationToken {
	const [, epoch, n, operation = ""] = /^(\d{1,16})\.(\d{1,16}) ([\x21-\x7e]{1,900})$/.exec(text) ?? [];
	const parsed = operationTokenSchema.safeParse({
		operation: decoded(operation),
		host_epoch: Number(epoch),
		n: Number(n),
	});
	if (parsed.success) return parsed.data;
	throw invalid("bad_operation_token", `The header ${OPERATION_HEADER} is malformed.`, {
		field: OPERATION_HEADER,
	});
}

/** The operation that a part belongs to. */
export function operationTaskId({ operation }: Pick<OperationToken, "operation">): string {
	return operation.slice(0, Math.max(0, operation.indexOf("/")));
}

function decoded(text: string): string {
	try {
		return decodeURIComponent(text);
	} catch {
		return "";
	}
}
