/**
 * The node's line to its host: heartbeats every 5 s and at once after a change, and the calls a node makes.
 * A host that is away changes nothing on the node; the beat goes on with jitter until it answers again.
 */
import type { ApiClient } from "../../api/client.ts";
import { HEARTBEAT_MS } from "../../core/cluster/cluster.ts";
import type { TlsTrust } from "../../core/identity/identity.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, asGswarmError } from "../../schema/errors.ts";
import { createAgentClient } from "../agent-client.ts";
import type { Heartbeat, HeartbeatAnswer } from "../../schema/node.ts";
import type { ModelCopy } from "../../schema/model.ts";

/** What the node reports; the link adds sequence numbers and decides when the inventory goes along. */
export type Report = Omit<Heartbeat, "seq" | "incarnation" | "inventory">;

export interface HostLink extends AsyncDisposable {
	/** To where the host is now. */
	readonly client: ApiClient;
	/**
	 * The host's wall clock as it was in the last answer, moved on by our clock, sleep included; our own before the first
	 * one, because the host may call as soon as it has heard of us.
	 */
	hostNowMs(): number;
	/** Something changed: beat soon. */
	poke(): void;
	/** Beats now and resolves when the host has taken it; false when it did not within `timeoutMs`. */
	flush(timeoutMs: number): Promise<boolean>;
	connected(): boolean;
	/** What is wrong between the two, for people. */
	problems(): string[];
}

export interface HostLinkOptions {
	/** The host of one's own process is where this machine is, and that may change. */
	hostUrl: () => string;
	/** Whom to meet there, on https. */
	trust: TlsTrust;
	nodeToken: string;
	incarnation: number;
	report: () => Report;
	inventory: () => ModelCopy[];
	/** What the host answered to a beat. */
	onAnswer?: (answer: HeartbeatAnswer) => void;
}

const MIN_GAP_MS = 50;
const FIRST_RETRY_MS = 250;
const GOODBYE_MS = 1_000;
/** What a host answers to a bearer that it does not know, the second one when that was often. */
const REFUSALS: readonly (string | undefined)[] = ["no_valid_token", "too_many_failures"];
const JOIN_AGAIN =
	"it was removed or reset; `gswarm token create --join` on the host, then `gswarm agent --join URL` here, lets it in again";

export function createHostLink(
	{ clock, ids, log }: { clock: Clock; ids: Ids; log: Log },
	{ hostUrl, trust, nodeToken, incarnation, report, inventory, onAnswer }: HostLinkOptions,
): HostLink {
	const open = (baseUrl: string): ApiClient =>
		createAgentClient({ baseUrl, token: () => nodeToken, timeoutMs: 10_000, trust });
	let current = open(hostUrl());
	const client = (): ApiClient => {
		const baseUrl = hostUrl();
		if (current.baseUrl !== baseUrl) current = open(baseUrl);
		return current;
	};
	const stop = new AbortController();
	let seq = 0;
	let sentInventory: number | undefined;
	let hostOffsetMs: number | undefined;
	let connected = false;
	/** The host answers, and says that this is no node of it. */
	let refused = false;
	let failures = 0;
	let wake = new AbortController();
	let poked = false;
	let inFlight: Promise<boolean> | undefined;

	const beat = async (): Promise<boolean> => {
		poked = false;
		const now = report();
		const withInventory = sentInventory !== now.inventory_version;
		try {
			const answer: HeartbeatAnswer = await client().call("heartbeat", {
				body: { ...now, incarnation, seq: ++seq, ...(withInventory ? { inventory: inventory() } : {}) },
				signal: stop.signal,
			});
			sentInventory = answer.want_inventory ? undefined : now.inventory_version;
			hostOffsetMs = answer.host_time_ms - clock.bootMs();
			if (!connected) log.info("host_link.connected", { host: hostUrl() });
			connected = true;
			refused = false;
			failures = 0;
			if (answer.want_inventory) poked = true;
			onAnswer?.(answer);
			return !answer.want_inventory;
		} catch (error) {
			if (stop.signal.aborted) return false;
			const failure = asGswarmError(error);
			const isRefused = REFUSALS.includes(failure.reason);
			if (isRefused && !refused)
				log.warn("host_link.refused", { host: hostUrl(), reason: failure.reason, hint: JOIN_AGAIN });
			else if (connected)
				log.warn("host_link.lost", { host: hostUrl(), code: failure.code, error: failure.message });
			else log.debug("host_link.no_answer", { host: hostUrl(), code: failure.code });
			connected = false;
			refused = isRefused;
			failures++;
			sentInventory = undefined;
			return false;
		}
	};
	/** The interval, or sooner while the host does not answer: it may only be restarting. Jitter keeps nodes apart. */
	const pauseMs = (): number => {
		const usual = HEARTBEAT_MS * (0.9 + 0.2 * ids.fraction());
		return connected
			? usual
			: Math.min(usual, FIRST_RETRY_MS * 2 ** Math.min(failures, 10) * (0.5 + ids.fraction()));
	};
	/** One beat at a time; a caller that comes during one waits for the next. */
	const beatOnce = async (): Promise<boolean> => {
		while (inFlight !== undefined) await inFlight;
		inFlight = beat();
		try {
			return await inFlight;
		} finally {
			inFlight = undefined;
		}
	};
	const run = async (): Promise<void> => {
		while (!stop.signal.aborted) {
			await beatOnce();
			if (poked) {
				await clock.sleep(MIN_GAP_MS, stop.signal);
				continue;
			}
			wake = new AbortController();
			await clock.sleep(pauseMs(), AbortSignal.any([wake.signal, stop.signal]));
			if (poked) await clock.sleep(MIN_GAP_MS, stop.signal);
		}
	};
	/** The host need not find out by silence; one that does not answer now will. */
	const goodbye = async (): Promise<void> => {
		const body = { ...report(), incarnation, seq: ++seq, leaving: true };
		try {
			await client().call("heartbeat", { body, signal: AbortSignal.timeout(GOODBYE_MS) });
		} catch (error) {
			log.debug("host_link.no_goodbye", { host: hostUrl(), error });
		}
	};
	const running = run();

	return {
		get client() {
			return client();
		},
		hostNowMs: () => (hostOffsetMs === undefined ? clock.nowMs() : clock.bootMs() + hostOffsetMs),
		poke() {
			poked = true;
			wake.abort();
		},
		async flush(timeoutMs) {
			const timeout = clock.sleep(timeoutMs, stop.signal).then(() => false);
			const attempt = async (): Promise<boolean> => (await beatOnce()) || (connected && (await beatOnce()));
			return Promise.race([attempt(), timeout]);
		},
		connected: () => connected,
		problems() {
			if (connected) return [];
			return [
				refused ? `the host does not know this node any more: ${JOIN_AGAIN}` : "the host does not answer",
			];
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await running;
			if (connected) await goodbye();
		},
	};
}

/** The failure of anything that needs the host while it is away. */
export function hostUnreachable(cause: unknown): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", "The host does not answer, and this step needs its leave.", {
		reason: "host_unreachable",
		retryable: true,
		cause,
	});
}
