/** Asks the host for what people stored for an origin: when a task needs it, over TLS or within this machine. */
import type { CredentialLookUp } from "../../core/source/source.ts";
import { refuseOpenHttp } from "../../platform/plain-http.ts";
import { type HostLink, hostUnreachable } from "./host-link.ts";

/** A host that is away must not hold up a download that wants no credential. */
const LOOK_UP_MS = 5_000;
const REPORT_MS = 2_000;

/** `link`: undefined until the node has its line to the host. */
export function createCredentialLookUp(
	link: () => Pick<HostLink, "client" | "flush"> | undefined,
): CredentialLookUp {
	return async (origin, outer) => {
		const line = link();
		if (line === undefined) throw hostUnreachable(undefined);
		const { client: host } = line;
		refuseOpenHttp(host.baseUrl);
		const signal = AbortSignal.any([outer, AbortSignal.timeout(LOOK_UP_MS)]);
		// The host gives nothing to a node on which nothing runs; the task that asks may just have begun.
		await line.flush(REPORT_MS);
		const { bearer } = await host.call("lookUpCredential", { body: { origin }, signal });
		return bearer ?? undefined;
	};
}
