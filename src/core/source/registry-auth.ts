/**
 * Requests to a registry with the token that it wants (https://distribution.github.io/distribution/spec/auth/token/):
 * a 401 names in WWW-Authenticate the realm that gives tokens. A realm is asked only when it is on the registry's own
 * origin or on one that is listed for it; any other is ignored, because whoever answers for a registry could otherwise
 * send our requests, and a stored credential, wherever they like.
 */
import { z } from "zod";
import type { Clock } from "../../platform/clock.ts";
import { withDeadline } from "../../platform/deadline.ts";
import type { Outbound, OutboundAnswer, OutboundRequest } from "../../platform/outbound.ts";
import { GswarmError } from "../../schema/errors.ts";
import { badAnswer, readJson, statusError } from "./answer.ts";
import { createCredential, type CredentialLookUp } from "./credential.ts";

export interface RegistryLine {
	/** The answer to a GET, a token fetched where one is wanted; whatever its status is, 401 among them. */
	get(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<OutboundAnswer>;
	/** The realm that a 401 named and that was not asked. */
	ignoredRealm(): string | undefined;
}

export interface RegistryLineInput {
	/** Of the registry. */
	origin: string;
	repository: string;
	/** Origins whose realms are asked besides the registry's own. */
	realms: readonly string[];
	credentials: CredentialLookUp | undefined;
}

const MAX_TOKEN_BYTES = 256 * 1024;
const TOKEN_TIMEOUT_MS = 30_000;
const TOKEN = /^[\u0021-\u007e]{1,65536}$/;

const tokenSchema = z.object({ token: z.string().optional(), access_token: z.string().optional() });

export function createRegistryLine(
	{ outbound, clock }: { outbound: Outbound; clock: Clock },
	{ origin, repository, realms, credentials }: RegistryLineInput,
): RegistryLine {
	let token: string | undefined;
	/** Requests that are getting a token; others wait for them. */
	let asking: Promise<string | undefined> | undefined;
	let ignored: string | undefined;

	const ask = async (realm: URL, service: string | undefined, signal: AbortSignal): Promise<string> => {
		const { host } = realm;
		if (service !== undefined) realm.searchParams.set("service", service);
		realm.searchParams.set("scope", `repository:${repository}:pull`);
		const credential = createCredential(realm.href, { lookUp: credentials });
		return await withDeadline({ clock }, { limitMs: TOKEN_TIMEOUT_MS, host, signal }, async (limited) => {
			const { response } = await outbound.request(realm.href, {
				headers: { accept: "application/json" },
				credential: loginOf(await credential.at(limited)),
				// A token comes from its realm or from nowhere.
				maxRedirects: 0,
				signal: limited,
			});
			if (response.status !== 200) {
				await response.body?.cancel();
				throw credential.refused(
					repository,
					statusError(response, `${repository} (its token)`, clock.nowMs()),
				);
			}
			const answer = tokenSchema.safeParse(await readJson(response, `The realm ${host}`, MAX_TOKEN_BYTES));
			const found = answer.data?.token ?? answer.data?.access_token;
			if (found === undefined || !TOKEN.test(found)) throw badAnswer(`The realm ${host} gave no token`);
			return found;
		});
	};
	/** Undefined where the challenge is none that can be met. */
	const newToken = async (challenge: string | null, signal: AbortSignal): Promise<string | undefined> => {
		const { realm, service } = parseChallenge(challenge);
		const url = URL.parse(realm ?? "");
		if (url === null) return undefined;
		if (url.origin !== origin && !realms.includes(url.origin)) {
			ignored = url.origin;
			return undefined;
		}
		asking ??= ask(url, service, signal).finally(() => {
			asking = undefined;
		});
		return await asking;
	};
	const send = (url: string, headers: Record<string, string>, signal: AbortSignal): Promise<OutboundAnswer> =>
		outbound.request(url, {
			headers,
			signal,
			credential: token === undefined ? undefined : { origin, header: `Bearer ${token}` },
		});

	return {
		ignoredRealm: () => ignored,
		async get(url, headers, signal) {
			const used = token;
			const answer = await send(url, headers, signal);
			if (answer.response.status !== 401) return answer;
			// Another request may have a newer one by now.
			const fresh =
				token !== undefined && token !== used
					? token
					: await newToken(answer.response.headers.get("www-authenticate"), signal);
			if (fresh === undefined) return answer;
			await answer.response.body?.cancel();
			token = fresh;
			return await send(url, headers, signal);
		},
	};
}

/** A stored `name:password` is a login (RFC 7617), anything else a token. */
function loginOf(credential: OutboundRequest["credential"]): OutboundRequest["credential"] {
	const login = /^Bearer (.+:.*)$/s.exec(credential?.header ?? "")?.[1];
	if (credential === undefined || login === undefined) return credential;
	return { origin: credential.origin, header: `Basic ${Buffer.from(login).toString("base64")}` };
}

/** Realm and service of `Bearer realm="…",service="…"` (RFC 9110 section 11.6.1); nothing for another scheme. */
export function parseChallenge(header: string | null): { realm?: string; service?: string } {
	const [, parameters = ""] = /^\s*Bearer\s+(.{1,4096})$/is.exec(header ?? "") ?? [];
	const found: { realm?: string; service?: string } = {};
	for (const [, name = "", value = ""] of parameters.matchAll(/([a-z_]{1,40})="([^"\\]{0,2048})"/gi)) {
		const key = name.toLowerCase();
		if (key === "realm" || key === "service") found[key] ??= value;
	}
	return found;
}

/** A registry's refusal, for people. */
export function registryError(
	response: Response,
	what: string,
	ignoredRealm: string | undefined,
	nowMs: number,
): GswarmError {
	const error = statusError(response, what, nowMs);
	if (response.status !== 401 && response.status !== 403) return error;
	const { code, message, reason, details, status, retryable } = error;
	return new GswarmError(code, message, {
		...(reason === undefined ? {} : { reason }),
		details: { ...details, ...(ignoredRealm === undefined ? {} : { ignored_realm: ignoredRealm }) },
		status,
		retryable,
		hint:
			ignoredRealm === undefined
				? "It does not exist or is private. For a private one store a login for the realm's origin: `gswarm secret set NAME --origin https://…` with name:password."
				: `The registry sends to ${ignoredRealm} for a token, which is not on its own origin; an operator can list it in the configuration (sources.token_realms).`,
		cause: error,
	});
}
