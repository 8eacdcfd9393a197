/**
 * Who may fetch the parts of which manifest from this node. The host pushes a grant before it tells the receiver;
 * grants live in memory, and after a restart the host pushes them again.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";

export interface GrantInput {
	contentId: string;
	/** Name of the node that may fetch. */
	receiver: string;
	/** Counted from the first use and extended by each; an unused grant waits as long as its task does. */
	ttlMs: number;
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
	check(token: string, contentId: string): { receiver: string };
	revoke(token: string): void;
}

export function createGrants(_dependencies: { clock: Clock; ids: Ids }): Grants {
	throw new Error("not built yet");
}
