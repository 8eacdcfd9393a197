/** Where an agent may listen and whom it may join, as long as there is no TLS. */
import { invalid } from "../schema/errors.ts";

/** Loopback, or nothing: there is no TLS yet. @throws INVALID_REQUEST bind_needs_tls */
export function refuseOpenBind(bind: string): void {
	if (/^(127(\.\d{1,3}){3}|::1|localhost)$/.test(bind)) return;
	throw invalid(
		"bind_needs_tls",
		`${JSON.stringify(bind)} is not a loopback address, and this version has no TLS yet: nothing is opened to a network.`,
		{ bind },
		"Leave --bind out, or reach the agent through an SSH tunnel.",
	);
}
