/**
 * The other nodes of a swarm as a receiver knows them: what each has, how fast it is, whether it is there. They are
 * asked all the time, each in its own loop; who is away is asked less often.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { asGswarmError } from "../../schema/errors.ts";
import type { HaveAnswer } from "../../schema/swarm.ts";
import type { Relay } from "../source/source.ts";

export interface PeerPlace {
	node: string;
	/** Changes with the address or the grant. */
	place: string;
	relay: Relay;
}

/** Who takes part, as the host says. */
export interface SwarmView {
	/** The receivers, in an order that all of them are given. */
	members: readonly string[];
	/** Which of them this node is. */
	self: number;
	peers: readonly PeerPlace[];
}

export interface Peer {
	readonly node: string;
	relay: Relay;
	place: string;
	/** Undefined until it has answered or failed. */
	isThere: boolean | undefined;
	/** It has begun at some time. */
	wasThere: boolean;
	isComplete: boolean;
	epoch: string;
	next: number;
	turn: number;
	/** Digests as it claims them, empty where none were asked for. */
	readonly parts: Map<number, string>;
	/** Since when it reads a part from the origin. */
	reading: Map<number, number>;
	inFlight: number;
	rateBytesPerSecond: number | undefined;
	failures: number;
	/** Not asked for parts before. */
	coolUntilMs: number;
	/** It gave what was not right. */
	isDropped: boolean;
}

export interface SwarmPeers extends AsyncDisposable {
	all(): readonly Peer[];
	/** Takes who takes part now. */
	take(view: SwarmView): void;
	/** Nodes that no longer know our grant, since the last call. */
	refused(): string[];
}

export interface SwarmPeersInput {
	clock: Clock;
	log: Log;
	digests: boolean;
	/** Somebody has more than before, or is gone. */
	onNews: () => void;
	/** Somebody no longer knows our grant. */
	onRefused: () => void;
}

const LONG_POLL_MS = 10_000;
/** Between two answers with news. */
const SHORTEST_PAUSE_MS = 100;
const NOT_YET_MS = 200;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
/** Keeps the grant alive, and notices when it is gone. */
const COMPLETE_PAUSE_MS = 30_000;
/** A smaller request says more about the distance than about the rate. */
const LEAST_MEASURED_BYTES = 256 * 1024;
/** What is measured now counts so much. */
const RATE_WEIGHT = 0.3;

export function createSwarmPeers(input: SwarmPeersInput): SwarmPeers {
	const { clock, log } = input;
	const stop = new AbortController();
	const peers = new Map<string, { peer: Peer; gone: AbortController; asking: Promise<void> }>();
	const refused = new Set<string>();

	const ask = async (peer: Peer, signal: AbortSignal): Promise<void> => {
		let failures = 0;
		while (!signal.aborted) {
			const { relay } = peer;
			let pauseMs: number;
			try {
				const { epoch, next: since, turn } = peer;
				const waitMs = peer.isThere === true ? LONG_POLL_MS : 0;
				const answer = await relay.have({ epoch, since, turn, waitMs, digests: input.digests }, signal);
				failures = 0;
				hear(peer, answer, clock.monotonicMs());
				pauseMs = answer.complete && answer.added.length === 0 ? COMPLETE_PAUSE_MS : SHORTEST_PAUSE_MS;
			} catch (error) {
				if (signal.aborted) return;
				const { reason } = asGswarmError(error);
				log.debug("swarm.peer_away", { node: peer.node, reason });
				peer.isThere = false;
				if (reason === "grant_refused") {
					refused.add(peer.node);
					input.onRefused();
				}
				pauseMs =
					reason === "not_found" ? NOT_YET_MS : Math.min(FIRST_PAUSE_MS * 2 ** failures++, LONGEST_PAUSE_MS);
			}
			input.onNews();
			await clock.sleep(pauseMs, signal);
		}
	};
	return {
		all: () => [...peers.values()].map(({ peer }) => peer),
		take(view) {
			const named = new Set(view.peers.map(({ node }) => node));
			for (const [node, { gone }] of peers) {
				if (named.has(node)) continue;
				gone.abort();
				peers.delete(node);
			}
			for (const { node, place, relay } of view.peers) {
				const known = peers.get(node);
				if (known?.peer.place === place) continue;
				if (known !== undefined) {
					Object.assign(known.peer, { place, relay, coolUntilMs: 0 });
					continue;
				}
				const peer = newPeer(node, place, relay);
				const gone = new AbortController();
				peers.set(node, { peer, gone, asking: ask(peer, AbortSignal.any([stop.signal, gone.signal])) });
			}
		},
		refused() {
			const nodes = [...refused];
			refused.clear();
			return nodes;
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await Promise.all([...peers.values()].map(({ asking }) => asking));
		},
	};
}

/** One request to a peer took so long. */
export function measure(peer: Peer, bytes: number, ms: number): void {
	if (bytes < LEAST_MEASURED_BYTES) return;
	const rate = (bytes / Math.max(1, ms)) * 1000;
	const before = peer.rateBytesPerSecond;
	peer.rateBytesPerSecond = before === undefined ? rate : before + RATE_WEIGHT * (rate - before);
}

/** A request to it failed: it is left in peace for a while. */
export function cool(peer: Peer, nowMs: number): void {
	peer.failures++;
	peer.coolUntilMs = nowMs + Math.min(FIRST_PAUSE_MS * 2 ** peer.failures, 6 * LONGEST_PAUSE_MS);
}

export function newPeer(node: string, place: string, relay: Relay): Peer {
	return {
		node,
		place,
		relay,
		isThere: undefined,
		wasThere: false,
		isComplete: false,
		epoch: "",
		next: 0,
		turn: 0,
		parts: new Map(),
		reading: new Map(),
		inFlight: 0,
		rateBytesPerSecond: undefined,
		failures: 0,
		coolUntilMs: 0,
		isDropped: false,
	};
}

function hear(peer: Peer, answer: HaveAnswer, nowMs: number): void {
	if (answer.epoch !== peer.epoch) peer.parts.clear();
	for (const [part, xxh64] of answer.added) peer.parts.set(part, xxh64);
	peer.epoch = answer.epoch;
	peer.next = answer.next;
	peer.turn = answer.turn;
	peer.isComplete = answer.complete;
	peer.isThere = true;
	peer.wasThere = true;
	const before = peer.reading;
	peer.reading = new Map(answer.reading.map((part) => [part, before.get(part) ?? nowMs]));
}
