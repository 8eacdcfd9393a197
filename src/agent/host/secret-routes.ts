/** People's secrets: an admin sets them, nodes ask for the one of an origin when a task needs it. */
import { isLoopback } from "../../platform/plain-http.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";

type SecretRoutes = Pick<Handlers<"host">, "listSecrets" | "setSecret" | "removeSecret" | "lookUpCredential">;

export function secretRoutes({ secrets }: Pick<HostRouteDependencies, "secrets">): SecretRoutes {
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
		lookUpCredential: ({ body, request, address }) => {
			requirePrivateLine(request.url, address);
			return { bearer: secrets.valueFor(body.origin) ?? null };
		},
	};
}

/** A secret leaves this process encrypted, or stays on this machine. */
function requirePrivateLine(url: string, address: string): void {
	if (url.startsWith("https://") || isLoopback(address)) return;
	throw new GswarmError("FORBIDDEN", "Credentials are handed out over TLS, or within this machine.", {
		reason: "insecure_line",
		hint: "Join the host by its https address.",
	});
}
