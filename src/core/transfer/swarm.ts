/**
 * One receiver among several of the same bytes: it fetches parts from whoever has them, and gives on what it has
 * while it goes on receiving. To the transfer it is a source; which request comes next is decided here, and so is what
 * the others are told. Parts whose digests nobody has sealed yet are compared with what their giver claims, and the
 * whole file with what its source claims.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import type {
	ByteRange,
	Relay,
	Source,
	SourceBody,
	SourceDescription,
	SourceFile,
} from "../source/source.ts";
import type { Ledger } from "./ledger.ts";
import { numberParts, type PartNumbers } from "./part-numbers.ts";
import type { PlannedFile, PlannedRequest } from "./plan.ts";
import type { Meter } from "./progress.ts";
import type { Share, Shares } from "./shares.ts";
import {
	cool,
	createSwarmPeers,
	measure,
	newPeer,
	type Peer,
	type SwarmPeers,
	type SwarmView,
} from "./swarm-peers.ts";
import { choosePart, type SwarmPeer } from "./swarm-plan.ts";

export interface SwarmInput {
	/** Describes what is received. */
	base: Source;
	/** The bytes come from the base itself; otherwise from nodes that have all of them. */
	isOrigin: boolean;
	/** What the members know the bytes by. */
	keyOf: (description: SourceDescription) => string;
	/** Asks the host who takes part; `refused` are nodes that do not know our grant any more. */
	join: (key: string, refused: readonly string[], signal: AbortSignal) => Promise<SwarmView>;
}

export interface SwarmRun {
	description: SourceDescription;
	files: readonly PlannedFile[];
	ledger: Ledger;
	pathOf: (file: PlannedFile) => string;
	meter: Meter;
	/** There may be something to do for a lane that waits. */
	poke: () => void;
	stallMs: number;
	signal: AbortSignal;
}

export interface Swarm extends AsyncDisposable {
	/** Reads a part from where it is to be had. */
	readonly source: Source;
	/** Begins to take part; what is there already is given on from now, until the swarm is disposed. */
	begin(run: SwarmRun): Promise<SwarmSession>;
	/** What was received is a copy now. */
	published(contentId: string): void;
}

/** The decisions of one run. */
export interface SwarmSession {
	/** Which of the requests to do now; undefined: none yet. @throws NETWORK_ERROR no_source */
	take(waiting: readonly PlannedRequest[]): number | undefined;
	/** These are wanted; what of them had landed was not right. */
	wanted(requests: readonly PlannedRequest[]): void;
	/** What the part has to be as far as its giver says, where no manifest says it. */
	claimed(file: PlannedFile, part: number): string | undefined;
	landed(file: PlannedFile, part: number, xxh64: string, isRight: boolean): void;
	/** Of a file that is not what it should be: the parts that came from other nodes; undefined: all. */
	suspects(file: PlannedFile): number[] | undefined;
}

/** Requests at once. */
export const SWARM_STREAMS = 8;
/** Of those, to one relay. */
const STREAMS_PER_RELAY = 2;
/** To a node that has everything, shared by all receivers; each has one at least. */
const STREAMS_OF_HOLDER = 4;
/** To the base, by each receiver; alone it may have all. */
const STREAMS_TO_BASE = 4;
/** Requests that are looked at for the next one. */
const WINDOW = 1024;
/** How long a receiver without anything to do waits for the owners of parts. */
const PATIENCE_MS = 1_000;
/** How long members may take to begin before others bring what they own. */
const GRACE_MS = 3_000;
const REFRESH_MS = 10_000;
const SOONEST_REFRESH_MS = 1_000;
const TICK_MS = 500;
/** Receivers that cannot ask anybody do not all go to the origin at once. */
const JITTER_MS = 2_000;
const BASE = "the source";

export interface SwarmDependencies {
	clock: Clock;
	ids: Ids;
	log: Log;
	shares: Shares;
}

export function createSwarm(d: SwarmDependencies, input: SwarmInput): Swarm {
	let current: Session | undefined;
	const source: Source = {
		describe: (signal) => input.base.describe(signal),
		read(file, range, signal) {
			if (current === undefined || range === undefined) return input.base.read(file, range, signal);
			return current.read(file, range, signal);
		},
		measured: (body, brought) => current?.giverOf(body)?.measured?.(brought),
	};
	return {
		source,
		async begin(run) {
			await current?.[Symbol.asyncDispose]();
			const key = input.keyOf(run.description);
			const view = await firstView(d, input, key, run.signal);
			current = new Session(d, input, key, run, view);
			return current;
		},
		published: (contentId) => current?.published(contentId),
		async [Symbol.asyncDispose]() {
			await current?.[Symbol.asyncDispose]();
		},
	};
}

async function firstView(
	{ clock, ids, log }: SwarmDependencies,
	{ join, isOrigin }: SwarmInput,
	key: string,
	signal: AbortSignal,
): Promise<SwarmView> {
	try {
		return await join(key, [], signal);
	} catch (error) {
		signal.throwIfAborted();
		if (!isOrigin) throw error;
		log.warn("swarm.alone", { error });
		await clock.sleep(ids.fraction() * JITTER_MS, signal);
		return { members: [""], self: 0, peers: [] };
	}
}

interface UnderWay {
	peer: Peer;
	startedMs: number;
	/** Undefined: chosen, not asked yet. */
	bytes: number | undefined;
	isWhole: boolean;
}

class Session implements SwarmSession, AsyncDisposable {
	readonly #d: SwarmDependencies;
	readonly #input: SwarmInput;
	readonly #key: string;
	readonly #run: SwarmRun;
	readonly #numbers: PartNumbers;
	readonly #share: Share;
	readonly #peers: SwarmPeers;
	readonly #base: Peer | undefined;
	readonly #stop = new AbortController();
	readonly #begunMs: number;
	readonly #loop: Promise<void>;
	#view: SwarmView;
	#busyMs: number;
	/** Nobody brings what is missing: we do. */
	#isHelpingOurselves = false;
	#refresh = Promise.withResolvers<void>();
	readonly #underWay = new Map<number, UnderWay>();
	/** Who gave a part that is there, and which digest it had. */
	readonly #givenBy = new Map<number, { peer: Peer; xxh64: string }>();
	readonly #doubtful = new Set<number>();
	readonly #blamed = new Map<number, Set<Peer>>();
	readonly #givers = new WeakMap<SourceBody, Relay>();

	constructor(d: SwarmDependencies, input: SwarmInput, key: string, run: SwarmRun, view: SwarmView) {
		[this.#d, this.#input, this.#key, this.#run, this.#view] = [d, input, key, run, view];
		const { clock, log } = d;
		// A sealed manifest is sorted, and both are counted alike.
		if (run.files.some(({ path }, at) => path < (run.files[at - 1]?.path ?? "")))
			throw new Error("the files of a swarm are sorted by path");
		this.#begunMs = clock.monotonicMs();
		this.#busyMs = this.#begunMs;
		this.#numbers = numberParts(run.files);
		this.#share = d.shares.open(key, { files: run.files, numbers: this.#numbers, pathOf: run.pathOf });
		for (const file of run.files) {
			for (const [part, xxh64] of run.ledger.parts(file))
				this.#share.landed(this.#numbers.numberOf(file.index, part), xxh64);
		}
		this.#base = input.isOrigin ? newPeer(BASE, "", baseRelay(input.base, run.files)) : undefined;
		const digests = run.files.some(({ source }) => source.parts === undefined);
		const onRefused = (): void => this.#refresh.resolve();
		this.#peers = createSwarmPeers({ clock, log, digests, onNews: run.poke, onRefused });
		this.#peers.take(view);
		this.#loop = this.#lookAround();
	}

	take(waiting: readonly PlannedRequest[]): number | undefined {
		const { signal, meter, stallMs } = this.#run;
		signal.throwIfAborted();
		const nowMs = this.#d.clock.monotonicMs();
		if (this.#underWay.size > 0) this.#busyMs = nowMs;
		const places = new Map<number, number>();
		for (const [at, { file, parts }] of waiting.slice(0, WINDOW).entries()) {
			// A file without parts comes as one stream, which only its source can give.
			if (parts === undefined) return at;
			places.set(this.#numbers.numberOf(file.index, parts.first), at);
		}
		const choice = choosePart({
			wanted: [...places.keys()],
			peers: this.#usable(nowMs).map((peer) => this.#seen(peer, nowMs)),
			members: this.#view.members.map((node, at) => at === this.#view.self || this.#isBringing(node, nowMs)),
			self: this.#view.self,
			isIdle: this.#isHelpingOurselves || (this.#underWay.size === 0 && nowMs - this.#busyMs >= PATIENCE_MS),
			isDoubtful: (part) => this.#doubtful.has(part),
		});
		if (choice === undefined) {
			if (this.#underWay.size === 0) {
				meter.wait("another node to have what is missing");
				if (nowMs - this.#busyMs > 2 * stallMs) throw noSource();
			}
			return undefined;
		}
		const peer = this.#named(choice.peer);
		if (peer === undefined) throw new Error("chosen from among the peers");
		this.#isHelpingOurselves = this.#isOrigin(peer) && this.#underWay.size === 0 && this.#isLate(nowMs);
		this.#ask(choice.part, peer);
		return places.get(choice.part);
	}

	giverOf(body: SourceBody): Relay | undefined {
		return this.#givers.get(body);
	}

	async read(file: SourceFile, range: ByteRange, signal: AbortSignal): Promise<SourceBody> {
		const planned = this.#run.files.find(({ source }) => source === file || source.path === file.path);
		if (planned === undefined || planned.partSizeBytes === 0)
			return this.#input.base.read(file, range, signal);
		const part = this.#numbers.numberOf(planned.index, Math.floor(range.start / planned.partSizeBytes));
		const isWhole = range.start % planned.partSizeBytes === 0;
		const before = this.#underWay.get(part);
		// Asked for again: what came was cut off.
		if (before?.bytes !== undefined) this.#failed(part, before.peer);
		const tried = new Set<Peer>();
		for (let failure: unknown; ; ) {
			const peer = this.#underWay.get(part)?.peer ?? this.#another(part, tried);
			if (peer === undefined) throw noSource(failure);
			tried.add(peer);
			this.#ask(part, peer, { bytes: range.end - range.start, isWhole });
			try {
				const { index, path, sizeBytes = 0 } = planned;
				const body = await peer.relay.read({ index, path, sizeBytes }, range, signal);
				this.#givers.set(body, peer.relay);
				return body;
			} catch (error) {
				// What the source says of itself stands.
				if (signal.aborted || peer === this.#base) {
					this.#release(part);
					throw error;
				}
				failure = error;
				this.#d.log.debug("swarm.read_failed", { node: peer.node, part, error });
				this.#failed(part, peer);
			}
		}
	}

	wanted(requests: readonly PlannedRequest[]): void {
		const again: number[] = [];
		for (const { file, parts } of requests) {
			for (let part = parts?.first ?? 0; part < (parts?.end ?? 0); part++) {
				const number = this.#numbers.numberOf(file.index, part);
				if (this.#givenBy.has(number)) again.push(number);
			}
		}
		for (const number of again) this.#doubtful.add(number);
		this.#share.withdraw(again);
	}

	claimed(file: PlannedFile, part: number): string | undefined {
		if (file.source.parts !== undefined) return undefined;
		const number = this.#numbers.numberOf(file.index, part);
		return this.#underWay.get(number)?.peer.parts.get(number);
	}

	landed(file: PlannedFile, part: number, xxh64: string, isRight: boolean): void {
		const number = this.#numbers.numberOf(file.index, part);
		const done = this.#underWay.get(number);
		this.#release(number);
		if (!isRight) {
			if (done !== undefined) this.#blame(number, done.peer);
			return;
		}
		if (done !== undefined) {
			const nowMs = this.#d.clock.monotonicMs();
			if (done.isWhole && done.bytes !== undefined) measure(done.peer, done.bytes, nowMs - done.startedMs);
			done.peer.failures = 0;
			const earlier = this.#givenBy.get(number);
			// It came right now, and from another node it had come differently.
			if (earlier !== undefined && earlier.xxh64 !== xxh64 && earlier.peer !== done.peer)
				this.#blame(number, earlier.peer);
			this.#givenBy.set(number, { peer: done.peer, xxh64 });
		}
		this.#share.landed(number, xxh64);
	}

	suspects(file: PlannedFile): number[] | undefined {
		const foreign: number[] = [];
		const disputed: number[] = [];
		for (let part = 0; part < file.partCount; part++) {
			const number = this.#numbers.numberOf(file.index, part);
			const given = this.#givenBy.get(number);
			if (given === undefined || this.#isOrigin(given.peer)) continue;
			foreign.push(part);
			const others = this.#peers.all().map((peer) => peer.parts.get(number));
			if (others.some((claim) => claim !== undefined && claim !== "" && claim !== given.xxh64))
				disputed.push(part);
		}
		if (disputed.length > 0) return disputed;
		return foreign.length > 0 ? foreign : undefined;
	}

	published(contentId: string): void {
		this.#share.sealed(contentId);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#stop.abort();
		this.#refresh.resolve();
		this.#share[Symbol.dispose]();
		await this.#peers[Symbol.asyncDispose]();
		await this.#loop;
	}

	/** Asks the host who takes part now; with the host away it stays as it was. */
	async #lookAround(): Promise<void> {
		const { clock, log } = this.#d;
		const { signal } = this.#stop;
		const ticking = (async () => {
			while (!signal.aborted) {
				await clock.sleep(TICK_MS, signal);
				this.#run.poke();
			}
		})();
		while (!signal.aborted) {
			const pause = new AbortController();
			await Promise.race([
				clock.sleep(REFRESH_MS, AbortSignal.any([signal, pause.signal])),
				this.#refresh.promise,
			]);
			pause.abort();
			if (signal.aborted) break;
			this.#refresh = Promise.withResolvers<void>();
			try {
				const view = await this.#input.join(this.#key, this.#peers.refused(), signal);
				this.#view = view;
				this.#peers.take(view);
				this.#run.poke();
			} catch (error) {
				log.debug("swarm.not_refreshed", { error });
			}
			await clock.sleep(SOONEST_REFRESH_MS, signal);
		}
		await ticking;
	}

	/** Those that can be asked for parts. */
	#usable(nowMs: number): Peer[] {
		const others = this.#peers.all().filter((peer) => peer.isThere === true && !peer.isDropped);
		return [...others, ...(this.#base === undefined ? [] : [this.#base])].filter(
			(peer) => peer.coolUntilMs <= nowMs,
		);
	}

	#seen(peer: Peer, nowMs: number): SwarmPeer {
		const isOrigin = this.#isOrigin(peer);
		return {
			id: peer.node,
			isOrigin,
			has: (part) => this.#has(peer, part),
			isReading: (part) => {
				const since = peer.reading.get(part);
				return since !== undefined && nowMs - since < this.#run.stallMs;
			},
			inFlight: peer.inFlight,
			maxInFlight: isOrigin ? this.#originStreams(peer) : STREAMS_PER_RELAY,
			rateBytesPerSecond: peer.rateBytesPerSecond,
		};
	}

	#has(peer: Peer, part: number): boolean {
		if (this.#blamed.get(part)?.has(peer) === true) return false;
		return peer === this.#base || peer.isComplete || peer.parts.has(part);
	}

	#originStreams(peer: Peer): number {
		const receivers = this.#view.members.length;
		if (peer === this.#base) return receivers === 1 ? SWARM_STREAMS : STREAMS_TO_BASE;
		return Math.max(1, Math.round(STREAMS_OF_HOLDER / receivers));
	}

	/** The bytes come from there, and it is not one of the receivers. */
	#isOrigin(peer: Peer): boolean {
		return peer === this.#base || (peer.isComplete && !this.#view.members.includes(peer.node));
	}

	/** Whether a member will bring what it owns. One that has everything has brought it. */
	#isBringing(node: string, nowMs: number): boolean {
		const peer = this.#peers.all().find((one) => one.node === node);
		if (peer?.isDropped === true) return false;
		if (peer?.isThere === true) return true;
		return peer?.wasThere !== true && nowMs - this.#begunMs < GRACE_MS;
	}

	#isLate(nowMs: number): boolean {
		return this.#isHelpingOurselves || nowMs - this.#busyMs >= PATIENCE_MS;
	}

	#named(node: string): Peer | undefined {
		return node === BASE ? this.#base : this.#peers.all().find((peer) => peer.node === node);
	}

	/** Somebody who has a part, for a request whose first choice failed. */
	#another(part: number, tried: ReadonlySet<Peer>): Peer | undefined {
		const havers = this.#usable(this.#d.clock.monotonicMs()).filter(
			(peer) => !tried.has(peer) && this.#has(peer, part),
		);
		const relays = havers.filter((peer) => !this.#isOrigin(peer));
		return (
			relays.find((peer) => peer.inFlight < STREAMS_PER_RELAY) ??
			havers.find((peer) => this.#isOrigin(peer)) ??
			relays[0]
		);
	}

	#ask(part: number, peer: Peer, request?: { bytes: number; isWhole: boolean }): void {
		if (!this.#underWay.has(part)) peer.inFlight++;
		const startedMs = this.#d.clock.monotonicMs();
		this.#underWay.set(part, {
			peer,
			startedMs,
			bytes: request?.bytes,
			isWhole: request?.isWhole ?? false,
		});
		this.#tellReading();
	}

	#release(part: number): void {
		const done = this.#underWay.get(part);
		if (done === undefined) return;
		done.peer.inFlight--;
		this.#underWay.delete(part);
		this.#tellReading();
	}

	#failed(part: number, peer: Peer): void {
		this.#release(part);
		if (peer !== this.#base) cool(peer, this.#d.clock.monotonicMs());
	}

	#tellReading(): void {
		const fromOrigin = [...this.#underWay].filter(([, { peer }]) => this.#isOrigin(peer));
		this.#share.reading(fromOrigin.map(([part]) => part));
	}

	/** A part of it was wrong: it is asked for that part no more, and where there is another source for nothing. */
	#blame(part: number, peer: Peer): void {
		this.#doubtful.add(part);
		const blamed = this.#blamed.get(part) ?? new Set();
		this.#blamed.set(part, blamed);
		const others = this.#usable(this.#d.clock.monotonicMs()).filter((one) => one !== peer);
		if (peer === this.#base || !others.some((one) => this.#isOrigin(one))) return;
		blamed.add(peer);
		peer.isDropped = true;
		this.#d.log.warn("swarm.peer_dropped", { node: peer.node, part });
	}
}

/** The base, asked like another node. */
function baseRelay(base: Source, files: readonly PlannedFile[]): Relay {
	return {
		have: () => Promise.reject(new Error("the source is not asked what it has")),
		read({ index }, range, signal) {
			const file = files[index]?.source;
			if (file === undefined) throw new Error("no such file");
			return base.read(file, range, signal);
		},
	};
}

function noSource(cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", "No node that can be reached has what is still missing.", {
		reason: "no_source",
		retryable: true,
		hint: "It goes on when one of them is back.",
		cause,
	});
}
