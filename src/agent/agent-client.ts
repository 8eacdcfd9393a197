/**
 * How agents call each other: over TLS to whom they mean and nobody else, on plain HTTP only within this machine, past
 * the environment's proxy, following no redirect.
 */
import { type ApiClient, createApiClient } from "../api/client.ts";
import type { TlsTrust } from "../core/identity/identity.ts";
import { fetchDirectly } from "../platform/fetch-directly.ts";
import { refuseOpenHttp } from "../platform/plain-http.ts";

export interface AgentClientOptions {
	baseUrl: string;
	/** The bearer of the next request; undefined sends none. */
	token: () => string | undefined;
	/** Whom to meet on https; undefined: who the system trusts, under the name in the URL. */
	trust: TlsTrust | undefined;
	timeoutMs?: number;
}

/** @throws INVALID_REQUEST plain_http */
export function createAgentClient({ trust, ...options }: AgentClientOptions): ApiClient {
	refuseOpenHttp(options.baseUrl);
	return createApiClient({ ...options, tls: trust, send: fetchDirectly });
}
