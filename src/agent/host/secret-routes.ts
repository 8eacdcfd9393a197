/**
 * People's secrets: an admin sets them, nodes ask for the one of an origin when a task needs it. A node on which
 * nothing runs, by its own last heartbeat, and which this host has not sent to look at a source, gets none.
 */
import { isLoopback } from "../../platform/plain-http.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import type { Inspections } from "./inspections.ts";

type SecretRoutes = Pick<Handlers<"host">, "listSecrets" | "setSecret" | "removeSecret" | "lookUpCredential">;

export function secretRoutes({
	secrets,
	cluster,
	inspections,
}: Pick<HostRouteDependencies, "secrets" | "cluster"> & {
	inspections: Pick<Inspections, "has">;
}): SecretRoutes {
	const isAtWork = (node: string): boolean =>
		inspections.has(node) || (cluster.view(node).beat?.tasks.running ?? 0) > 0;
	return {
		listSecrets: () => {
			const all = secrets.list();
			return { secrets: all, total: all.length };
		},
		setSecret: ({ params, body, caller }) =>
			secrets.set({
				name: params.secret_name,
				value: body.value,
				origins: body.origins,
				setBy: caller?.name ?? "unknown",
			}),
		removeSecret: ({ params }) => secrets.remove(params.secret_name),
		lookUpCredential: ({ body, request, address, caller }) => {
			requirePrivateLine(request.url, address);
			const node = caller?.node ?? "";
			if (!isAtWork(node)) throw nothingRuns(node);
			return { bearer: secrets.valueFor(body.origin) ?? null };
		},
	};
}

function nothingRuns(node: string): GswarmError {
	return new GswarmError(
		"FORBIDDEN",
		`No task runs on ${node} by its last heartbeat: it needs no credential.`,
		{
			reason: "no_task",
			details: { node },
			hint: "Ask the host about a source, not the node itself.",
		},
	);
}

/** A secret leaves this process encrypted, or stays on this machine. */
function requirePrivateLine(url: string, address: string): void {
	if (url.startsWith("https://") || isLoopback(address)) return;
	throw new GswarmError("FORBIDDEN", "Credentials are handed out over TLS, or within this machine.", {
		reason: "insecure_line",
		hint: "Join the host by its https address.",
	});
}
