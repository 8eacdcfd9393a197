/**
 * Which part to fetch next, and from whom, when several nodes receive the same bytes. Every part has an owner among
 * the members, who brings it from the origin; the others take it from those who have it. So the origin is read about
 * once, whatever the number of members, and nobody has to be asked.
 */

export interface SwarmPeer {
	id: string;
	/** The bytes come from here: it has all parts and is read sparingly. */
	isOrigin: boolean;
	has: (part: number) => boolean;
	/** It brings the part from the origin right now. */
	isReading: (part: number) => boolean;
	/** Requests of ours that it is answering. */
	inFlight: number;
	maxInFlight: number;
	/** Of one request; undefined until one has been measured. */
	rateBytesPerSecond: number | undefined;
}

export interface SwarmState {
	/** Parts that are wanted and under way from nowhere. */
	wanted: readonly number[];
	/** Those that can be asked; whoever is away or lied is not among them. */
	peers: readonly SwarmPeer[];
	/** The receivers in an order that all of them share; whether each is there to bring what it owns. */
	members: readonly boolean[];
	/** Our place among the members. */
	self: number;
	/** Nothing has been under way for longer than one waits for an owner. */
	isIdle: boolean;
	/** Came wrong from somewhere; the origin is asked for it. */
	isDoubtful?: ((part: number) => boolean) | undefined;
}

export interface SwarmChoice {
	part: number;
	peer: string;
}

/** A relay has to be so many times slower than the origin before the origin is asked in its place. */
const MUCH_SLOWER = 4;
/** And slower than this: a relay that brings a part within seconds is worth the wait, whatever the origin could do. */
const SLOW_BYTES_PER_SECOND = 1024 * 1024;

/**
 * What we own and nobody has comes first, so that others get it soon; then, of what others have, the rarest part from
 * who will have sent it soonest; and what nobody brings, when there is nothing else to do. Undefined: wait for news.
 */
export function choosePart(state: SwarmState): SwarmChoice | undefined {
	const relays = state.peers.filter((peer) => !peer.isOrigin);
	const origin = soonest(state.peers.filter((peer) => peer.isOrigin && isFree(peer)));
	const holdersOf = (part: number): SwarmPeer[] =>
		state.isDoubtful?.(part) === true ? [] : relays.filter((peer) => peer.has(part));
	if (origin !== undefined) {
		for (const part of state.wanted) {
			const mine = ownerOf(part, state.members) === state.self || state.isDoubtful?.(part) === true;
			if (!mine || holdersOf(part).length > 0) continue;
			if (state.isDoubtful?.(part) === true || !relays.some((peer) => peer.isReading(part)))
				return { part, peer: origin.id };
		}
	}
	return (
		rarest(state, holdersOf, origin) ??
		(origin !== undefined && state.isIdle ? nobodys(state, relays, origin) : undefined)
	);
}

/** Who brings a part: its owner, or when that one is away the next member who is there. -1: nobody. */
export function ownerOf(part: number, members: readonly boolean[]): number {
	for (let step = 0; step < members.length; step++) {
		const member = (part + step) % members.length;
		if (members[member] === true) return member;
	}
	return -1;
}

function rarest(
	state: SwarmState,
	holdersOf: (part: number) => readonly SwarmPeer[],
	origin: SwarmPeer | undefined,
): SwarmChoice | undefined {
	let best: { part: number; holders: readonly SwarmPeer[]; turn: number } | undefined;
	for (const part of state.wanted) {
		const holders = holdersOf(part);
		if (!holders.some(isFree)) continue;
		const turn = turnOf(part, state.self);
		const isBetter =
			best === undefined ||
			holders.length < best.holders.length ||
			(holders.length === best.holders.length && turn < best.turn);
		if (isBetter) best = { part, holders, turn };
	}
	if (best === undefined) return undefined;
	const relay = soonest(best.holders.filter(isFree));
	if (relay === undefined) return undefined;
	const isSlow = waitFor(relay) > 1 / SLOW_BYTES_PER_SECOND;
	const direct = isSlow && origin !== undefined && waitFor(relay) > MUCH_SLOWER * waitFor(origin);
	return { part: best.part, peer: direct ? origin.id : relay.id };
}

/** Who owns it is too slow for us: direct is faster. */
function nobodys(
	state: SwarmState,
	relays: readonly SwarmPeer[],
	origin: SwarmPeer,
): SwarmChoice | undefined {
	const free = state.wanted.filter((part) => !relays.some((peer) => peer.isReading(part) || peer.has(part)));
	const [part] = free.toSorted((a, b) => turnOf(a, state.self) - turnOf(b, state.self));
	return part === undefined ? undefined : { part, peer: origin.id };
}

function isFree({ inFlight, maxInFlight }: SwarmPeer): boolean {
	return inFlight < maxInFlight;
}

/** How long a byte would take from there; who was not measured yet is tried. */
function waitFor({ inFlight, rateBytesPerSecond }: SwarmPeer): number {
	return rateBytesPerSecond === undefined ? inFlight * Number.EPSILON : (inFlight + 1) / rateBytesPerSecond;
}

function soonest(peers: readonly SwarmPeer[]): SwarmPeer | undefined {
	let best: SwarmPeer | undefined;
	for (const peer of peers) if (best === undefined || waitFor(peer) < waitFor(best)) best = peer;
	return best;
}

/** Members who may choose among the same parts begin at different ones. */
function turnOf(part: number, self: number): number {
	return Math.imul((part + 1) ^ Math.imul(self + 1, 0x9e3779b1), 0x85ebca6b) >>> 0;
}
