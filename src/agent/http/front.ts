/** The listener of one service on a port of its own: the same checks as everywhere, then the service's engine. */
import { type Identity, allows } from "../../core/identity/identity.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import { GswarmError, asGswarmError } from "../../schema/errors.ts";
import type { App } from "./app.ts";
import { bearerOf } from "./app.ts";
import { checkBrowser } from "./browser-guard.ts";
import { errorResponse } from "./errors.ts";

interface FrontDependencies {
	identity: Identity;
	clock: Clock;
	ids: Ids;
	allowedHosts: () => ReadonlySet<string>;
}

export function createFrontApp(handler: (request: Request) => Promise<Response>, d: FrontDependencies): App {
	return async (request) => {
		try {
			checkBrowser(request.headers, d.allowedHosts());
			const bearer = bearerOf(request.headers);
			const caller = bearer === undefined ? undefined : d.identity.authenticate(bearer);
			if (caller === undefined || !allows(caller.role, "inference")) {
				throw new GswarmError(
					caller === undefined ? "UNAUTHORIZED" : "FORBIDDEN",
					"This needs a token that may use models.",
					{
						reason: caller === undefined ? "no_valid_token" : "role_not_allowed",
					},
				);
			}
			return await handler(request);
		} catch (error) {
			const requestId = `req-${d.ids.short(12)}`;
			return errorResponse(asGswarmError(error), { requestId, nowMs: d.clock.nowMs(), openAi: true });
		}
	};
}
