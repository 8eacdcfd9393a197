/**
 * Room on this node's tiers, where there is none: who has to go is a decision of the storage room, and here it is
 * carried out, one demand at a time. The bytes that come free are reserved for who asked before the first copy goes, so
 * that nobody else takes them; a load whose source is damaged, or that failed shortly before, makes nobody go.
 * Durable copies go with the host's leave only. Besides, a tier that evicts by itself is emptied to its low watermark
 * when it is fuller than its high one.
 */
import { type Reservation, type Storage, type Verdict, chooseVictims } from "../../core/storage/storage.ts";
import type { RoomRequest } from "../../core/transfer/transfer.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { type GswarmError, asGswarmError } from "../../schema/errors.ts";
import type { EvictionPlan } from "../../schema/eviction.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";
import { type CandidatesDependencies, createCandidates, type Elsewhere } from "./eviction-candidates.ts";
import { candidateKey, planOf } from "./eviction-plan.ts";
import { createFailedLoads } from "./failed-loads.ts";
import { failedBefore, noRoom } from "./no-room.ts";
import type { Removal } from "./removal.ts";
import { isAboveHigh, sweepTiers, sweepVictims, type Watermarks } from "./watermark-sweep.ts";

export interface Evicted {
	model_name: string;
	revision: string;
	freed_bytes: number;
}

export interface Eviction extends AsyncDisposable {
	/** @throws 507 insufficient_space naming what could go, and the command; what the check of the source throws */
	makeRoom(request: RoomRequest): Promise<Reservation>;
	/**
	 * Whether so many bytes can be had on a tier, now or by what it evicts by itself.
	 * @throws 507 insufficient_space, as makeRoom
	 */
	fits(tier: string, bytes: number): Promise<void>;
	/** What would go so that `wantedAvailable` bytes are available; undefined: down to the low watermark. */
	plan(tier: string, wantedAvailable: number | undefined): Promise<EvictionPlan>;
	/** What is said where a plan does not suffice. */
	refusal(plan: EvictionPlan): GswarmError;
	/** Does it. @throws 507 insufficient_space when it cannot come free; nothing has gone then */
	evict(tier: string, wantedAvailable: number | undefined, signal: AbortSignal): Promise<Evicted[]>;
	/** With what more could be made available, where the tier does that by itself. */
	usage(tier: string): TierUsage;
	/** What the tier could free by itself, counted anew now and then; 0 where it evicts only when it is told to. */
	evictableBytes(tier: string): number;
	/** A load on this tier failed: for a while nobody goes for another try of it. Undefined: it went well. */
	remember(tier: string, model: string, failure: GswarmError | undefined): void;
	/** Since the start. */
	counters(tier: string): { copies: number; bytes: number };
	/** Begins to look after the watermarks. */
	start(): void;
}

export interface EvictionDependencies extends CandidatesDependencies {
	nodeName: string;
	clock: Clock;
	log: Log;
	removal: Pick<Removal, "remove">;
	watermarks: Readonly<Record<"disk" | "dram", Watermarks>>;
	/** Somebody outside has given room back: what waits for it is looked at. */
	onRoom?: (() => void) | undefined;
}

/** The queue asks whenever a task is claimed. */
const COUNT_EVERY_MS = 1_000;
/** Victims that turned out to be in use, or the last of their kind, are replaced by others so often. */
const MAX_ROUNDS = 5;

export function createEviction(d: EvictionDependencies): Eviction {
	const { storage, clock } = d;
	const failures = createFailedLoads<GswarmError>(d);
	const candidates = createCandidates(d);
	/** What the host answered last. */
	const heard = new Map<string, Elsewhere>();
	const countedFree = new Map<string, { bytes: number; atMs: number; version: number }>();
	const counted = new Map<string, { copies: number; bytes: number }>();
	const stop = new AbortController();
	let sweeping: Promise<void> | undefined;
	let last: Promise<unknown> = Promise.resolve();
	/** One demand at a time: what comes free is the first one's. */
	const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
		const turn = last.then(work);
		last = turn.catch(() => undefined);
		return turn;
	};
	const nowS = (): number => clock.nowMs() / 1000;
	const deviceOf = (tier: string): string => `${d.nodeName}:${tier}`;
	const watermarksOf = (tier: string): Watermarks => d.watermarks[storage.tier(tier).kind];

	const askHost = async (tier: string): Promise<Elsewhere> => {
		const known = await candidates.askHost(tier);
		heard.set(tier, known);
		countedFree.delete(tier);
		return known;
	};
	/** Removes all of them at once, so that none can come into use meanwhile; tells which could not go. */
	const removeAll = async (
		victims: readonly Verdict[],
		cause: string,
	): Promise<{ gone: Evicted[]; stuck: string[] }> => {
		const removals = victims.map(async ({ candidate, idleS }) => {
			const { model, revision, tier, sizeBytes } = candidate;
			const copy = storage.copy(parseModelName(model), tier, parseRevision(revision));
			if (copy === undefined) return undefined;
			try {
				const { freedBytes } = await d.removal.remove(copy, { force: false });
				const sum = counted.get(tier) ?? { copies: 0, bytes: 0 };
				counted.set(tier, { copies: sum.copies + 1, bytes: sum.bytes + freedBytes });
				d.log.info("storage.evicted", {
					model,
					revision,
					tier,
					freed_bytes: freedBytes,
					idle_s: idleS,
					cause,
				});
				return { model_name: model, revision, freed_bytes: freedBytes };
			} catch (error) {
				if (!STAYS.includes(asGswarmError(error).reason ?? "")) throw error;
				d.log.info("storage.eviction_skipped", { model, revision, tier, size_bytes: sizeBytes, error });
				return candidateKey(candidate);
			}
		});
		const ends = await Promise.allSettled(removals);
		const failed = ends.find((end) => end.status === "rejected");
		if (failed !== undefined) throw failed.reason;
		const values = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
		return {
			gone: values.filter((value) => typeof value === "object"),
			stuck: values.filter((value) => typeof value === "string"),
		};
	};
	/** Until `short()` is nothing; what cannot go after all is replaced by others. @throws 507 insufficient_space */
	const free = async (
		tier: string,
		{
			short,
			refuse,
			cause,
			signal,
		}: {
			short: () => number;
			refuse: (evictable: number) => GswarmError;
			cause: string;
			signal: AbortSignal;
		},
	): Promise<Evicted[]> => {
		const stuck = new Set<string>();
		const gone: Evicted[] = [];
		for (let round = 0; round < MAX_ROUNDS; round++) {
			signal.throwIfAborted();
			if (short() <= 0) return gone;
			const elsewhere = await askHost(tier);
			// From here to the removals nothing is waited for: who is free now is free when it goes.
			const needBytes = short();
			if (needBytes <= 0) return gone;
			const left = candidates.on(tier, elsewhere).filter((one) => !stuck.has(candidateKey(one)));
			const choice = chooseVictims(left, { needBytes, nowS: nowS() });
			if (choice.victims.length === 0) throw refuse(choice.evictableBytes);
			const done = await removeAll(choice.victims, cause);
			gone.push(...done.gone);
			for (const key of done.stuck) stuck.add(key);
			const freedBytes = done.gone.reduce((sum, one) => sum + one.freed_bytes, 0);
			// What went was enough by our books: the rest was taken by somebody who is not in them. Files that copies have in
			// common come free with the last of these only.
			const isAsPlanned = done.stuck.length === 0 && freedBytes >= choice.freedBytes;
			if (isAsPlanned && short() > 0) throw refuse(0);
		}
		if (short() > 0) throw refuse(0);
		return gone;
	};
	const refusal = async (tier: string, required: number, evictable?: number): Promise<GswarmError> => {
		const available = storage.roomForAll(tier);
		const { automatic } = watermarksOf(tier);
		const plan = automatic ? undefined : await eviction.plan(tier, required);
		const victims = plan?.suffices === true ? plan.copies.filter((c) => c.verdict === "goes") : [];
		return noRoom(deviceOf(tier), {
			required,
			available,
			evictable: evictable ?? plan?.evictable_bytes ?? 0,
			victims: victims.map((c) => `${c.model_name}@${c.revision}`),
		});
	};
	const makeRoom = async (request: RoomRequest): Promise<Reservation> => {
		const { tier, bytes, writtenBytes, transferId, model, signal } = request;
		const before = failures.last(tier, model);
		if (before !== undefined) throw failedBefore(await refusal(tier, bytes), before);
		await request.checkSource(signal);
		const claim = storage.claim(tier, bytes, { writtenBytes, transferId });
		try {
			await free(tier, {
				short: () => claim.shortBytes(),
				refuse: (evictable) =>
					noRoom(deviceOf(tier), {
						required: bytes,
						available: Math.max(0, bytes - claim.shortBytes()),
						evictable,
						victims: [],
					}),
				cause: `room for ${model}`,
				signal,
			});
			return claim.reservation;
		} catch (error) {
			claim.reservation[Symbol.dispose]();
			throw error;
		}
	};
	const sweep = async (tier: string): Promise<void> => {
		const watermarks = watermarksOf(tier);
		if (!isAboveHigh(storage.usage(tier), watermarks)) return;
		const all = candidates.on(tier, await askHost(tier));
		const victims = sweepVictims(all, storage.usage(tier), { ...watermarks, nowS: nowS() });
		await removeAll(victims, "watermark");
	};
	const wantedOf = (tier: string, asked: number | undefined): number => {
		const { total } = storage.usage(tier);
		return asked ?? Math.ceil(total * (1 - watermarksOf(tier).low));
	};

	const eviction: Eviction = {
		async makeRoom(request) {
			const { tier, bytes, mayEvict } = request;
			const taken = takeIfThere(storage, request);
			if (taken !== undefined) return taken;
			if (!mayEvict || !watermarksOf(tier).automatic) throw await refusal(tier, bytes);
			// Somebody else's demand may have made room, or taken it, before this one has its turn.
			return inTurn(() => {
				const now = takeIfThere(storage, request);
				return now === undefined ? makeRoom(request) : Promise.resolve(now);
			});
		},
		async fits(tier, bytes) {
			// What others only have reserved is waited for.
			const available = storage.roomForAll(tier);
			if (bytes <= available) return;
			if (!watermarksOf(tier).automatic) throw await refusal(tier, bytes);
			if (bytes <= available + eviction.evictableBytes(tier)) return;
			// What other nodes have too can go as well: the host knows.
			await askHost(tier);
			const evictableBytes = eviction.evictableBytes(tier);
			if (bytes > available + evictableBytes) throw await refusal(tier, bytes, evictableBytes);
		},
		async plan(tier, wantedAvailable) {
			const elsewhere = await askHost(tier);
			const { automatic, high, low } = watermarksOf(tier);
			const about = {
				device: deviceOf(tier),
				watermarks: { automatic, high, low },
				usage: storage.usage(tier),
			};
			return planOf(about, candidates.on(tier, elsewhere), {
				wantedAvailable: wantedOf(tier, wantedAvailable),
				nowS: nowS(),
			});
		},
		refusal: ({ device, usage, wanted_available: required, evictable_bytes: evictable }) =>
			noRoom(device, { required, available: usage.available, evictable, victims: [] }),
		evict: (tier, wantedAvailable, signal) =>
			inTurn(() => {
				const wanted = wantedOf(tier, wantedAvailable);
				const short = (): number => wanted - storage.usage(tier).available;
				const refuse = (evictable: number): GswarmError => {
					const { available } = storage.usage(tier);
					return noRoom(deviceOf(tier), { required: wanted, available, evictable, victims: [] });
				};
				return free(tier, { short, refuse, cause: "asked", signal });
			}),
		usage(tier) {
			const usage = storage.usage(tier);
			return watermarksOf(tier).automatic ? { ...usage, evictable: eviction.evictableBytes(tier) } : usage;
		},
		evictableBytes(tier) {
			if (!watermarksOf(tier).automatic) return 0;
			const nowMs = clock.monotonicMs();
			const version = storage.inventoryVersion();
			const known = countedFree.get(tier);
			if (known?.version === version && nowMs - known.atMs < COUNT_EVERY_MS) return known.bytes;
			const all = candidates.on(tier, heard.get(tier) ?? new Map());
			const choice = chooseVictims(all, { needBytes: 0, nowS: nowS() });
			countedFree.set(tier, { bytes: choice.evictableBytes, atMs: nowMs, version });
			return choice.evictableBytes;
		},
		remember: (tier, model, failure) => failures.remember(tier, model, failure),
		counters: (tier) => counted.get(tier) ?? { copies: 0, bytes: 0 },
		start() {
			sweeping ??= sweepTiers(
				{ ...d, watermarksOf, sweep: (tier) => inTurn(() => sweep(tier)) },
				stop.signal,
			);
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await sweeping;
			await last;
		},
	};
	return eviction;
}

/** Why a victim stays after all; anything else is a failure. */
const STAYS: readonly string[] = ["in_use", "last_durable_copy", "model_not_found", "host_unreachable"];

function takeIfThere(
	storage: Storage,
	{ tier, bytes, writtenBytes, transferId }: RoomRequest,
): Reservation | undefined {
	try {
		return storage.reserve(tier, bytes, { writtenBytes, transferId });
	} catch (error) {
		if (asGswarmError(error).reason !== "insufficient_space") throw error;
		return undefined;
	}
}
