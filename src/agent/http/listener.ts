/** A listening socket in front of an App. Never without a hostname: Bun would listen on every interface. */
import { describePortHolder } from "../../platform/port-holder.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { App } from "./app.ts";
import { rawPath } from "./path.ts";

export interface OpenListener {
	port: number;
	url: string;
	close(): Promise<void>;
}

/** Seconds without a byte until a connection is closed; streams switch it off. */
const IDLE_TIMEOUT_S = 60;
/** A little over the gateway's own limit, whose answer says more than Bun's. */
const MAX_BODY_BYTES = 65 * 1024 * 1024;

/** @throws CONFLICT port_in_use naming the holder */
export function openListener({ bind, port, app }: { bind: string; port: number; app: App }): OpenListener {
	try {
		const server = Bun.serve({
			hostname: bind,
			port,
			// Otherwise Bun prints every stream that a client cuts.
			development: false,
			// Without development Bun shares the port with everybody who does the same: two agents would answer in turn.
			reusePort: false,
			idleTimeout: IDLE_TIMEOUT_S,
			maxRequestBodySize: MAX_BODY_BYTES,
			fetch(request, self) {
				const pathname = rawPath(request.url);
				if (pathname.startsWith("/v1/") || pathname.startsWith("/parts/")) self.timeout(request, 0);
				return app(request, self.requestIP(request)?.address ?? "");
			},
			error: () => new Response(null, { status: 500 }),
		});
		const opened = server.port ?? port;
		return { port: opened, url: urlOf(bind, opened), close: () => server.stop(true) };
	} catch (cause) {
		if ((cause as { code?: unknown }).code !== "EADDRINUSE") throw cause;
		throw portInUse(bind, port, cause);
	}
}

/** 409 naming who has the port, where that can be found. */
export function portInUse(bind: string, port: number, cause: unknown): GswarmError {
	const holder = describePortHolder(port);
	return new GswarmError(
		"CONFLICT",
		`Port ${port} on ${bind} is taken${holder === undefined ? "" : ` by ${holder}`}.`,
		{
			reason: "port_in_use",
			details: { port, ...(holder === undefined ? {} : { holder }) },
			hint: "End that program, or choose other ports with --port, --node-port and --peer-port.",
			cause,
		},
	);
}

export function urlOf(address: string, port: number): string {
	return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}
