/** A listening socket in front of an App. Never without a hostname: Bun would listen on every interface. */
import { isAddress } from "../../platform/address.ts";
import { describePortHolder } from "../../platform/port-holder.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { App } from "./app.ts";

/** PEM. */
export interface ListenerCertificate {
	certificate: string;
	privateKey: string;
	/** Shown to who asks for this name (SNI). */
	serverName?: string;
}

/** The first is shown to who asks for no name of the others. Nothing older than TLS 1.2 is spoken: Bun's default. */
export type ListenerTls = readonly [ListenerCertificate, ...ListenerCertificate[]];

export interface OpenListener {
	port: number;
	/** By the address it was bound to. */
	url: string;
	/**
	 * Goes on with these certificates, or without TLS, at this address, on the same port. Requests under way finish on
	 * what they began with; a connection that comes in the fraction of a millisecond in between is refused.
	 * @throws what Bun says of a bad certificate or address; then everything is as before
	 */
	replace(to: Place): void;
	close(): Promise<void>;
}

/** Where a listener is and what it shows. */
export interface Place {
	bind: string;
	tls?: ListenerTls | undefined;
}

export interface ListenerOptions extends Place {
	port: number;
	app: App;
}

/** Seconds without a byte until a connection is closed; what takes its time switches it off (see patience.ts). */
const IDLE_TIMEOUT_S = 60;
/** A little over the gateway's own limit, whose answer says more than Bun's. */
const MAX_BODY_BYTES = 65 * 1024 * 1024;

/** @throws CONFLICT port_in_use naming the holder; INVALID_REQUEST bind_not_here */
export function openListener({ bind, port, app, tls }: ListenerOptions): OpenListener {
	let current = serve({ bind, port, app, tls });
	let place: Place = { bind, tls };
	const opened = current.port ?? port;
	const draining = new Set<Bun.Server<undefined>>();
	return {
		port: opened,
		get url() {
			return urlOf(place.bind, opened, place.tls !== undefined);
		},
		replace(to) {
			// A running server keeps its certificate whatever it is told, so another one takes its place.
			const former = current;
			draining.add(former);
			void former.stop(false).then(() => draining.delete(former));
			try {
				current = serve({ ...to, port: opened, app });
				place = to;
			} catch (error) {
				current = serve({ ...place, port: opened, app });
				throw error;
			}
		},
		async close() {
			await Promise.all([current, ...draining].map((server) => server.stop(true)));
		},
	};
}

function serve({ bind, port, app, tls }: ListenerOptions): Bun.Server<undefined> {
	try {
		return Bun.serve({
			hostname: bind,
			port,
			// Otherwise Bun prints every stream that a client cuts.
			development: false,
			// Without development Bun shares the port with everybody who does the same: two agents would answer in turn.
			reusePort: false,
			idleTimeout: IDLE_TIMEOUT_S,
			maxRequestBodySize: MAX_BODY_BYTES,
			...(tls === undefined ? {} : { tls: tls.map(toBun) }),
			fetch(request, self) {
				return app(request, plainAddress(self.requestIP(request)?.address ?? ""), {
					wait: () => self.timeout(request, 0),
					hurry: () => self.timeout(request, IDLE_TIMEOUT_S),
				});
			},
			error: () => new Response(null, { status: 500 }),
		});
	} catch (cause) {
		const { code } = cause as { code?: unknown };
		if (code === "EADDRINUSE") throw portInUse(bind, port, cause);
		if (code === "EADDRNOTAVAIL" || code === "EINVAL") throw notHere(bind, cause);
		throw cause;
	}
}

function toBun({ certificate, privateKey, serverName }: ListenerCertificate): Bun.TLSOptions {
	return { cert: certificate, key: privateKey, ...(serverName === undefined ? {} : { serverName }) };
}

/** A socket on `::` takes IPv4 too and calls such a caller `::ffff:10.0.0.7`. */
function plainAddress(address: string): string {
	const ipv4 = address.replace(/^::ffff:/i, "");
	return ipv4.includes(".") && isAddress(ipv4) ? ipv4 : address;
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

function notHere(bind: string, cause: unknown): GswarmError {
	return new GswarmError(
		"INVALID_REQUEST",
		`${bind} is not an address of this machine: nothing can listen there.`,
		{
			reason: "bind_not_here",
			details: { bind },
			hint: "`--bind 0.0.0.0` listens on all of its addresses.",
			cause,
		},
	);
}

export function urlOf(address: string, port: number, tls: boolean): string {
	return `${tls ? "https" : "http"}://${address.includes(":") ? `[${address}]` : address}:${port}`;
}
