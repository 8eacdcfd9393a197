/**
 * Who goes when a device is full: a decision about plain data, for copies on a tier and for models in a GPU's memory.
 *
 * What is worth least goes first: first what a forecast brought and nobody used, then by what it would cost to have it
 * again, divided by the bytes that come free and by how long it has not been used (what was used a minute ago is likely
 * to be used again, what was not for a day is not). Just enough goes: without any one of the victims the rest would not
 * do. Pinned, used, adopted and only copies never go, and where all the others together are not enough, none goes.
 */
import type { KeepReason } from "../../schema/eviction.ts";
import type { CopyPurpose } from "../../schema/model.ts";

/** Something that lies on a full device. */
export interface EvictionCandidate {
	model: string;
	revision: string;
	/** As the node names it: `disk`, `dram`, `gpu0`. */
	tier: string;
	/** What comes free. */
	sizeBytes: number;
	/** Seconds since the epoch. */
	readyAt: number;
	lastUsedAt: number | null;
	pinned: boolean;
	/** Who uses it now, in words. */
	holders: readonly string[];
	purpose: CopyPurpose;
	/** It will be used soon, by what somebody said: it goes after all that nobody waits for. */
	wantedSoon?: boolean | undefined;
	/** `adopted`: it lies in somebody else's folder, and is not ours to delete. */
	place: "store" | "adopted";
	/** Its tier keeps its bytes over a restart of the machine. */
	durable: boolean;
	/** Copies of the same content on other durable tiers, of this node and of others that can be reached. */
	otherDurableCopies: number;
	/** From the best other place, by measured rates; null: it could not be had again. */
	costToBringBackS: number | null;
}

/** A candidate, seen at one moment. */
export interface Verdict {
	candidate: EvictionCandidate;
	/** Undefined: it may go. */
	keep: KeepReason | undefined;
	/** Seconds since it was used, or came. */
	idleS: number;
	/** Seconds that it would cost to have it again, for each GiB and each second of idleness; the least goes first. */
	worth: number;
	/** Those of a higher rank go only after all of a lower one. */
	rank: number;
}

export interface Choice {
	/** In the order in which they go; none when all together would not be enough. */
	victims: Verdict[];
	freedBytes: number;
	/** What all that may go would free. */
	evictableBytes: number;
}

/** Bytes that must come free, at a moment (seconds since the epoch). */
export interface Need {
	needBytes: number;
	nowS: number;
}

/** All candidates in the order in which they would go, those that may not go last. */
export function judge(candidates: readonly EvictionCandidate[], nowS: number): Verdict[] {
	return candidates.map((candidate) => verdictOf(candidate, nowS)).sort(byWorth);
}

/** The fewest and least valuable that free `needBytes`. */
export function chooseVictims(candidates: readonly EvictionCandidate[], { needBytes, nowS }: Need): Choice {
	const free = candidates.filter((candidate) => keepReason(candidate) === undefined);
	let evictableBytes = 0;
	for (const { sizeBytes } of free) evictableBytes += sizeBytes;
	if (needBytes <= 0 || evictableBytes < needBytes) return { victims: [], freedBytes: 0, evictableBytes };
	const verdicts = free.map((candidate) => verdictOf(candidate, nowS));
	const single = singleVictim(verdicts, needBytes);
	const victims = cheaper(leastFirst(verdicts, needBytes), single);
	return { victims, freedBytes: bytesOf(victims), evictableBytes };
}

const GIB = 1024 ** 3;
const KEPT_RANK = 3;

function verdictOf(candidate: EvictionCandidate, nowS: number): Verdict {
	const idleS = Math.max(0.001, nowS - Math.max(candidate.lastUsedAt ?? 0, candidate.readyAt));
	const gib = Math.max(1, candidate.sizeBytes) / GIB;
	const worth = (candidate.costToBringBackS ?? 0) / gib / idleS;
	const keep = keepReason(candidate);
	return { candidate, keep, idleS, worth, rank: keep === undefined ? rankOf(candidate) : KEPT_RANK };
}

function keepReason(c: EvictionCandidate): KeepReason | undefined {
	if (c.place === "adopted") return "adopted";
	if (c.pinned) return "pinned";
	if (c.holders.length > 0) return "in_use";
	if (c.durable && c.otherDurableCopies === 0) return "last_durable_copy";
	return c.costToBringBackS === null ? "only_copy" : undefined;
}

/** What a forecast brought and nobody used, then the rest, then what will be used soon. */
function rankOf({ purpose, lastUsedAt, wantedSoon }: EvictionCandidate): number {
	if (wantedSoon === true) return 2;
	return purpose === "preload" && lastUsedAt === null ? 0 : 1;
}

function byWorth(a: Verdict, b: Verdict): number {
	return a.rank - b.rank || a.worth - b.worth || b.idleS - a.idleS || (nameOf(a) < nameOf(b) ? -1 : 1);
}

function nameOf({ candidate: { model, revision, tier } }: Verdict): string {
	return `${model}@${revision} ${tier}`;
}

/**
 * One after the other until it is enough, and back again whom the last ones made needless. A heap rather than a sort:
 * of ten thousand a few go. The array given is reordered.
 */
function leastFirst(heap: Verdict[], needBytes: number): Verdict[] {
	for (let at = (heap.length >> 1) - 1; at >= 0; at--) sink(heap, at, heap.length);
	const chosen: Verdict[] = [];
	let bytes = 0;
	for (let end = heap.length; end > 0 && bytes < needBytes; end--) {
		const least = heap[0] as Verdict;
		heap[0] = heap[end - 1] as Verdict;
		heap[end - 1] = least;
		sink(heap, 0, end - 1);
		// What frees nothing helps nobody.
		if (least.candidate.sizeBytes === 0) continue;
		chosen.push(least);
		bytes += least.candidate.sizeBytes;
	}
	const needed: Verdict[] = [];
	for (const one of chosen.reverse()) {
		const { sizeBytes } = one.candidate;
		if (bytes - sizeBytes >= needBytes) bytes -= sizeBytes;
		else needed.push(one);
	}
	return needed.reverse();
}

/** Brings the entry at `at` below all that are less, among the first `end`. */
function sink(heap: Verdict[], at: number, end: number): void {
	const moved = heap[at] as Verdict;
	let place = at;
	for (;;) {
		let child = 2 * place + 1;
		if (child >= end) break;
		if (child + 1 < end && byWorth(heap[child + 1] as Verdict, heap[child] as Verdict) < 0) child++;
		if (byWorth(heap[child] as Verdict, moved) >= 0) break;
		heap[place] = heap[child] as Verdict;
		place = child;
	}
	heap[place] = moved;
}

/** The least valuable that is enough by itself: rather one large than ten small ones that were used yesterday. */
function singleVictim(verdicts: readonly Verdict[], needBytes: number): Verdict[] {
	let best: Verdict | undefined;
	for (const one of verdicts) {
		if (one.candidate.sizeBytes < needBytes) continue;
		if (best === undefined || (compareLoss([one], [best]) || byWorth(one, best)) < 0) best = one;
	}
	return best === undefined ? [] : [best];
}

function cheaper(several: Verdict[], single: Verdict[]): Verdict[] {
	return single.length > 0 && compareLoss(single, several) < 0 ? single : several;
}

/** By the highest rank among them, then by what is lost in all. */
function compareLoss(a: readonly Verdict[], b: readonly Verdict[]): number {
	return highestRank(a) - highestRank(b) || lossOf(a) - lossOf(b);
}

function highestRank(verdicts: readonly Verdict[]): number {
	let highest = 0;
	for (const one of verdicts) highest = Math.max(highest, one.rank);
	return highest;
}

function lossOf(verdicts: readonly Verdict[]): number {
	return verdicts.reduce((sum, { candidate, worth }) => sum + worth * candidate.sizeBytes, 0);
}

function bytesOf(verdicts: readonly Verdict[]): number {
	return verdicts.reduce((sum, { candidate }) => sum + candidate.sizeBytes, 0);
}
