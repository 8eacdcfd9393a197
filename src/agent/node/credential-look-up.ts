/** Asks the host for what people stored for an origin: when a task needs it, over TLS or within this machine. */
import type { ApiClient } from "../../api/client.ts";
import type { CredentialLookUp } from "../../core/source/source.ts";
import { refuseOpenHttp } from "../../platform/plain-http.ts";
import { hostUnreachable } from "./host-link.ts";

/** A host that is away must not hold up a download that wants no credential. */
const LOOK_UP_MS = 5_000;

/** `client`: undefined until the node has its line to the host. */
export function createCredentialLookUp(client: () => ApiClient | undefined): CredentialLookUp {
	return async (origin, signal) => {
		const host = client();
		if (host === undefined) throw hostUnreachable(undefined);
		refuseOpenHttp(host.baseUrl);
		const { bearer } = await host.call("lookUpCredential", {
			body: { origin },
			signal: AbortSignal.any([signal, AbortSignal.timeout(LOOK_UP_MS)]),
		});
		return bearer ?? undefined;
	};
}
