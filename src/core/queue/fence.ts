/**
 * Who may still write for dispatched work: a pair that rises. The host's epoch rises at each of its starts and restores,
 * the number with each dispatch; a lower pair is of a dispatch that was given up since.
 */
import { GswarmError } from "../../schema/errors.ts";

export interface Fence {
	hostEpoch: number;
	n: number;
}

/** new: nothing was known, or this one is later. same: the same dispatch again. stale: a later one is known. */
export type FenceVerdict = "new" | "same" | "stale";

/** What a token means to who knows another one already: the epoch counts first, then the number. */
export function checkFence(known: Fence | undefined, presented: Fence): FenceVerdict {
	if (known === undefined) return "new";
	const order = presented.hostEpoch - known.hostEpoch || presented.n - known.n;
	if (order === 0) return "same";
	return order > 0 ? "new" : "stale";
}

/** The token of the next dispatch in this epoch of the host. */
export function nextFence(last: Fence | undefined, hostEpoch: number): Fence {
	return { hostEpoch, n: last?.hostEpoch === hostEpoch ? last.n + 1 : 1 };
}

/** 409 stale_token. */
export function staleFence(operationId: string, known: Fence | undefined, presented: Fence): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`A later dispatch of ${operationId} is known here, or it has ended, so this one may not write any more.`,
		{
			reason: "stale_token",
			details: {
				operation: operationId,
				// What is known here; who presents less is too late.
				...(known === undefined ? {} : { host_epoch: known.hostEpoch, n: known.n }),
				presented: { host_epoch: presented.hostEpoch, n: presented.n },
			},
		},
	);
}
