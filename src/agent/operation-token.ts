/** A token of an operation's part as it travels, and as a queue knows it. */
import { type Dispatch, checkFence } from "../core/queue/queue.ts";
import { GswarmError } from "../schema/errors.ts";
import type { OperationToken } from "../schema/operation.ts";

export function toDispatch({ operation, host_epoch: hostEpoch, n }: OperationToken): Dispatch {
	return { operationId: operation, fence: { hostEpoch, n } };
}

export function toToken({ operationId, fence }: Dispatch): OperationToken {
	return { operation: operationId, host_epoch: fence.hostEpoch, n: fence.n };
}

/** Whether both are the same token of the same part. */
export function isSameToken(one: OperationToken, other: OperationToken): boolean {
	return (
		one.operation === other.operation && checkFence(toDispatch(one).fence, toDispatch(other).fence) === "same"
	);
}

/** Whether who comes with `presented` is too late for who knows `known`. */
export function isStaleToken(known: OperationToken, presented: OperationToken): boolean {
	return checkFence(toDispatch(known).fence, toDispatch(presented).fence) === "stale";
}

/** 409: the token is older than the one that counts, or nothing counts any more. */
export function staleToken(presented: OperationToken, known: OperationToken | undefined): GswarmError {
	const { operation, host_epoch, n } = presented;
	const why = known === undefined ? "the operation has ended" : `${known.host_epoch}.${known.n} does`;
	return new GswarmError(
		"CONFLICT",
		`The token ${host_epoch}.${n} of ${operation} does not count any more: ${why}.`,
		{
			reason: "stale_token",
			details: {
				operation,
				...(known === undefined ? {} : { host_epoch: known.host_epoch, n: known.n }),
				presented: { host_epoch, n },
			},
		},
	);
}

/** The epoch that a refusal for a stale token names as the one that counts. */
export function knownEpoch({ details }: GswarmError): number | undefined {
	const epoch = details["host_epoch"];
	return typeof epoch === "number" && Number.isSafeInteger(epoch + 1) ? epoch : undefined;
}
