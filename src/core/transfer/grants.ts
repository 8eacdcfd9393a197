/**
 * Who may fetch the parts of which manifest from this node. The host pushes a grant before it tells the receiver;
 * grants live in memory, and after a restart the host pushes them again.
 */
import type { Clock } from "../../platform/clock.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import { GswarmError } from "../../schema/errors.ts";

export interface GrantInput {
	contentId: string;
	/** Name of the node that may fetch. */
	receiver: string;
	/** Counted from the first use and extended by each; an unused grant waits for its task, but not for ever. */
	ttlMs: number;
	/** How long it waits for its first use; default 6 hours. */
	unusedMs?: number | undefined;
	/** However much it is used, it ends then; default: never. */
	mostMs?: number | undefined;
	/** Secret of the content's tags, which is never shown on the line where the parts come. */
	tagKey?: string | undefined;
	/** Released when the grant ends, e.g. the hold on the source copy. */
	hold?: Disposable | undefined;
}

export interface Grants extends Disposable {
	/** A new secret for `Authorization`. */
	grant(input: GrantInput): string;
	/**
	 * Counts as a use.
	 * @throws FORBIDDEN grant_refused; it does not say whether the token or the content was wrong
	 */
	check(token: string, contentId: string): CheckedGrant;
	revoke(token: string): void;
}

export interface CheckedGrant {
	receiver: string;
	tagKey: string | undefined;
}

interface LiveGrant extends GrantInput {
	endsAtMs: number;
	lastMs: number;
}

const TOKEN_LENGTH = 43;
/** The oldest ones go when there are more: nobody waits for ten thousand copies of one node. */
export const MAX_GRANTS = 10_000;
/** How long a grant waits for its first use. */
export const UNUSED_MS = 6 * 3600 * 1000;
/** How late an ended grant may let go of what it holds. */
const SWEEP_EVERY_MS = 10_000;

export function createGrants({ clock, ids }: { clock: Clock; ids: Ids }): Grants {
	// By hash, so that looking one up does not compare secrets.
	const grants = new Map<string, LiveGrant>();
	const end = (key: string): void => {
		grants.get(key)?.hold?.[Symbol.dispose]();
		grants.delete(key);
	};
	const sweep = (): void => {
		const nowMs = clock.monotonicMs();
		for (const [key, { endsAtMs }] of grants) if (endsAtMs <= nowMs) end(key);
	};
	const stop = new AbortController();
	let sweeping = false;
	// Only while there are grants: what an ended one holds must be free without anybody asking again.
	const keepSweeping = async (): Promise<void> => {
		if (sweeping) return;
		sweeping = true;
		while (grants.size > 0 && !stop.signal.aborted) {
			await clock.sleep(SWEEP_EVERY_MS, stop.signal);
			sweep();
		}
		sweeping = false;
	};
	return {
		grant(input) {
			for (const oldest of grants.keys()) {
				if (grants.size < MAX_GRANTS) break;
				end(oldest);
			}
			const token = ids.secret(TOKEN_LENGTH);
			const nowMs = clock.monotonicMs();
			const lastMs = nowMs + (input.mostMs ?? Number.POSITIVE_INFINITY);
			const endsAtMs = Math.min(lastMs, nowMs + (input.unusedMs ?? UNUSED_MS));
			grants.set(sha256Hex(token), { ...input, endsAtMs, lastMs });
			void keepSweeping();
			return token;
		},
		check(token, contentId) {
			const grant = grants.get(sha256Hex(token));
			const nowMs = clock.monotonicMs();
			if (grant === undefined || grant.contentId !== contentId || grant.endsAtMs <= nowMs) {
				throw new GswarmError("FORBIDDEN", "This grant does not allow to read these parts.", {
					reason: "grant_refused",
					hint: "Ask the host for a new grant.",
				});
			}
			grant.endsAtMs = Math.min(grant.lastMs, nowMs + grant.ttlMs);
			return { receiver: grant.receiver, tagKey: grant.tagKey };
		},
		revoke: (token) => end(sha256Hex(token)),
		[Symbol.dispose]() {
			stop.abort();
			for (const key of grants.keys()) end(key);
		},
	};
}
