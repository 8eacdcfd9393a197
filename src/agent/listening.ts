/**
 * Everything that one agent listens with, kept as it should be: the address (a node follows the one that faces its
 * host), the certificates (made again when they are due, when the machine's names or the operator's files change),
 * and whether TLS is spoken. What differs from what is open is put in place without a restart.
 */
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { Credentials } from "./credentials.ts";
import type { App } from "./http/app.ts";
import { allowedHosts } from "./http/browser-guard.ts";
import {
	type ListenerCertificate,
	type ListenerTls,
	type OpenListener,
	type Place,
	openListener,
} from "./http/listener.ts";
import type { Reach } from "./reach.ts";

/** What a listener shows now; undefined while this agent speaks no TLS. */
export type Shown = () => ListenerTls | undefined;

export interface AgentListener {
	readonly port: number;
	/** Whether it speaks TLS now. */
	readonly tls: boolean;
	close(): Promise<void>;
}

export interface Listening extends AsyncDisposable {
	/**
	 * Opens a listener that follows what is true of the agent; `plain` says when it goes without TLS where all others
	 * have it.
	 * @throws as openListener
	 */
	open(listener: { port: number; app: App; shown: Shown; plain?: () => boolean }): AgentListener;
	/** The certificates of a role, made now where TLS is spoken, and kept good from then on. */
	certificates(source: CertificateSource): Promise<Shown>;
	/** What a Host header may say to a listener on that port. */
	allowedHosts(port: number): ReadonlySet<string>;
	/** Looks at everything now; what fails stays as it is. */
	settle(): Promise<void>;
}

export interface CertificateSource {
	credentials: Pick<Credentials, "serverIdentity">;
	/** By which agents ask for the cluster's certificate where `own` is what everybody else gets. */
	serverNames: readonly string[];
	/** The operator's own, read anew at each look. */
	own?: (() => ListenerCertificate) | undefined;
}

export interface ListeningOptions {
	reach: Reach;
	/** Tells `reach` what is true of the machine now. */
	survey: () => Promise<void>;
	/** Something is open differently from before. */
	onChange: () => void;
}

export const LOOK_EVERY_MS = 60_000;

export function createListening(
	{ clock, log }: { clock: Clock; log: Log },
	{ reach, survey, onChange }: ListeningOptions,
): Listening {
	const open = new Map<OpenListener, { wanted: () => Place | undefined; is: Place }>();
	const renewals: (() => Promise<void>)[] = [];
	const hosts = new Map<number, { of: readonly string[]; set: ReadonlySet<string> }>();
	const stop = new AbortController();

	const attempt = async (what: string, run: () => Promise<void> | void): Promise<void> => {
		try {
			await run();
		} catch (error) {
			log.warn(what, { error });
		}
	};
	const look = async (): Promise<void> => {
		await attempt("listener.not_surveyed", survey);
		for (const renew of renewals) await attempt("listener.certificate_not_renewed", renew);
		const before = [...open.values()].map(({ is }) => is);
		for (const [listener, state] of open) {
			const place = state.wanted();
			if (place === undefined || isSame(place, state.is)) continue;
			await attempt("listener.not_replaced", () => {
				listener.replace(place);
				state.is = place;
				log.info("listener.replaced", { url: listener.url });
			});
		}
		if ([...open.values()].some(({ is }) => !before.includes(is))) onChange();
	};
	let last: Promise<void> = Promise.resolve();
	/** One look after the other: each works with what the one before has opened. */
	const settle = (): Promise<void> => (last = last.then(look));
	const run = async (): Promise<void> => {
		for (;;) {
			await clock.sleep(LOOK_EVERY_MS, stop.signal);
			if (stop.signal.aborted) return;
			await settle();
		}
	};
	const running = run();

	return {
		open({ port, app, shown, plain = () => false }) {
			/** Undefined where TLS has to be spoken and there is no certificate: never without it instead. */
			const wanted = (): Place | undefined => {
				if (!reach.tls || plain()) return { bind: reach.bind };
				const tls = shown();
				return tls === undefined ? undefined : { bind: reach.bind, tls };
			};
			const is = wanted();
			if (is === undefined) throw new Error("a listener that speaks TLS has no certificate");
			const listener = openListener({ ...is, port, app });
			open.set(listener, { wanted, is });
			return {
				port: listener.port,
				get tls() {
					return listener.url.startsWith("https:");
				},
				close() {
					open.delete(listener);
					return listener.close();
				},
			};
		},
		async certificates({ credentials, serverNames, own }) {
			let tls: ListenerTls | undefined;
			const renew = async (): Promise<void> => {
				if (!reach.tls) return;
				const ours = await credentials.serverIdentity(reach.names());
				const theirs = own?.();
				const named = serverNames.map((serverName) => ({ ...ours, serverName }));
				const next: ListenerTls = theirs === undefined ? [ours] : [theirs, ...named];
				// The same object while nothing changes, by which places are compared.
				if (JSON.stringify(next) !== JSON.stringify(tls)) tls = next;
			};
			await renew();
			renewals.push(renew);
			return () => tls;
		},
		allowedHosts(port) {
			const known = hosts.get(port);
			const of = reach.hosts();
			if (known?.of === of) return known.set;
			const set = allowedHosts(of, port);
			hosts.set(port, { of, set });
			return set;
		},
		settle,
		async [Symbol.asyncDispose]() {
			stop.abort();
			await running;
			await last;
		},
	};
}

function isSame(a: Place, b: Place): boolean {
	return a.bind === b.bind && a.tls === b.tls;
}
