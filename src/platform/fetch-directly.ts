/**
 * fetch without the environment's HTTP_PROXY, which Bun would use even for 127.0.0.1, and without inflating bodies.
 * For addresses that agents made themselves (engines, other agents); what comes from outside goes through outbound.ts.
 */
export function fetchDirectly(url: string | Request, init: BunFetchRequestInit): Promise<Response> {
	return fetch(url, { ...init, ...DIRECTLY });
}

/** Bun knows both, its types do not. `proxy: ""` or null would not keep the proxy out. */
const DIRECTLY = { proxy: false, decompress: false } as unknown as BunFetchRequestInit;
