/**
 * What a node believes of people's tokens: the hashes that its host pushed, in memory alone. The longer the host is
 * silent, the less they are good for, since one of them may have been revoked meanwhile.
 */
import type { Clock } from "../../platform/clock.ts";
import { type AuthSnapshot, TOKEN_ROLES, type TokenRole } from "../../schema/token.ts";
import type { CallerRole } from "./roles.ts";

/** Of silence, until tokens only read and use models. */
export const CAUTIOUS_AFTER_MS = 60_000;
/** Of silence, until they are forgotten. */
export const FORGET_AFTER_MS = 10 * 60_000;

export type PushedToken = AuthSnapshot["tokens"][number] & { role: TokenRole };

export interface PushedTokens {
	/**
	 * Takes the place of what was pushed before, and returns the version held then. An older one may have been long on
	 * its way and would bring revoked tokens back: it is taken only where the host has said since that it is there now,
	 * which it is with a database from a backup.
	 */
	take(snapshot: AuthSnapshot): number;
	/** The host answered a heartbeat with the version it has; the same as ours keeps ours good. */
	confirm(version: number | undefined): void;
	/** Of what is held now; undefined when nothing is. */
	version(): number | undefined;
	/** A token by its id, with the role that it gives now. */
	find(tokenId: string): { token: PushedToken; role: CallerRole } | undefined;
}

/** The role that a token gives after so much silence of the host; undefined: none. */
export function roleAfter(silentMs: number, role: TokenRole): CallerRole | undefined {
	if (silentMs > FORGET_AFTER_MS) return undefined;
	if (silentMs <= CAUTIOUS_AFTER_MS) return role;
	return role === "viewer" || role === "inference" ? role : "reader";
}

export function createPushedTokens({ clock }: { clock: Clock }): PushedTokens {
	let held: { version: number; tokens: ReadonlyMap<string, PushedToken> } | undefined;
	let heardMs = 0;
	/** Answers to heartbeats since the last snapshot, and what the last of them said. */
	let answers = 0;
	let said: number | undefined;
	const current = (): typeof held => {
		if (held !== undefined && clock.bootMs() - heardMs > FORGET_AFTER_MS) held = undefined;
		return held;
	};
	return {
		take({ auth_version: version, tokens }) {
			const before = current()?.version;
			// One heartbeat is under way at a time: that of the second answer began after what we hold was pushed.
			if (before !== undefined && version < before && !(answers > 1 && said === version)) return before;
			held = { version, tokens: new Map(tokens.filter(hasKnownRole).map((t) => [t.token_id, t])) };
			heardMs = clock.bootMs();
			answers = 0;
			return version;
		},
		confirm(version) {
			answers++;
			said = version;
			if (version !== undefined && version === current()?.version) heardMs = clock.bootMs();
		},
		version: () => current()?.version,
		find(tokenId) {
			const token = current()?.tokens.get(tokenId);
			if (token === undefined) return undefined;
			const role = roleAfter(clock.bootMs() - heardMs, token.role);
			return role === undefined ? undefined : { token, role };
		},
	};
}

/** A host of a later version may know roles that we do not: they give nothing here. */
function hasKnownRole(token: AuthSnapshot["tokens"][number]): token is PushedToken {
	return (TOKEN_ROLES as readonly string[]).includes(token.role);
}
