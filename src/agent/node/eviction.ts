/**
 * Room on this node's tiers, where there is none: who has to go is a decision of the storage room, and here it is
 * carried out, one demand at a time. The bytes that come free are reserved for who asked before the first copy goes, so
 * that nobody else takes them; a load whose source is damaged, or that failed shortly before, makes nobody go.
 * Durable copies go with the host's leave only. Besides, a tier that evicts by itself is emptied to its low watermark
 * when it is fuller than its high one.
 */
import type { Removal } from "./removal.ts";
import type { Rates } from "./rates.ts";
import {
	type EvictionCandidate,
	type Reservation,
	type Storage,
	type Verdict,
	chooseVictims,
	judge,
} from "../../core/storage/storage.ts";
import type { RoomRequest } from "../../core/transfer/transfer.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, asGswarmError } from "../../schema/errors.ts";
import type { EvictionPlan, JudgedCopy } from "../../schema/eviction.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";

/** How full a tier may be, as shares of it. */
export interface Watermarks {
	automatic: boolean;
	high: number;
	low: number;
}

export interface RevisionKey {
	model_name: string;
	revision: string;
}

/** Copies of a revision on other nodes that are alive. */
export interface Whereabouts extends RevisionKey {
	/** On durable tiers. */
	durable: number;
	all: number;
}

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

export interface EvictionDependencies {
	nodeName: string;
	clock: Clock;
	log: Log;
	storage: Storage;
	removal: Pick<Removal, "remove">;
	rates: Rates;
	/** Asks the host; nothing where it is away. */
	whereabouts(revisions: readonly RevisionKey[]): Promise<Whereabouts[]>;
	/** The copies that tasks in the queue are about to read. */
	awaited(): { model: string; tier: string; why: string }[];
	/** Whether somebody said that the copy will be used soon. */
	wantedSoon?: ((copy: ModelCopy) => boolean) | undefined;
	watermarks: Readonly<Record<"disk" | "dram", Watermarks>>;
	/** Somebody outside has given room back: what waits for it is looked at. */
	onRoom?: (() => void) | undefined;
}

/** Memory is for what is used now; what goes from a disk is a person's choice. */
export const DEFAULT_WATERMARKS: Readonly<Record<"disk" | "dram", Watermarks>> = {
	dram: { automatic: true, high: 0.95, low: 0.85 },
	disk: { automatic: false, high: 0.95, low: 0.85 },
};

/** The queue asks whenever a task is claimed. */
const COUNT_EVERY_MS = 1_000;
const SWEEP_EVERY_MS = 10_000;
/** How long a failed load makes nobody go for another try. */
const REMEMBER_MS = 15 * 60_000;
const MAX_REMEMBERED = 1_000;
/** In an answer; all of them are counted. */
const MAX_SHOWN = 1_000;
const MAX_NAMED = 10;
/** Revisions that the host is asked about at once. */
const MAX_ASKED = 1_000;
/** Victims that turned out to be in use, or the last of their kind, are replaced by others so often. */
const MAX_ROUNDS = 5;

export function createEviction(d: EvictionDependencies): Eviction {
	const { storage, clock } = d;
	const failures = new Map<string, { failure: GswarmError; atMs: number }>();
	/** What the host answered last. */
	const heard = new Map<string, ReadonlyMap<string, Whereabouts>>();
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

	/** Files of others may go or change without us. */
	const isSafe = (copy: ModelCopy): boolean =>
		storage.tier(copy.tier).durable && copy.place !== "adopted" && copy.status === "ready";
	/** Of the same model: other models with the same bytes are not what somebody would ask for. */
	const otherPlaces = ({ model_name: model, revision, tier }: ModelCopy): ModelCopy[] =>
		storage
			.copies({ model })
			.filter((copy) => copy.revision === revision && copy.tier !== tier && copy.status === "ready");
	/** The copies on a tier as candidates; `elsewhere` has what other nodes hold. */
	const candidatesOn = (tier: string, elsewhere: ReadonlyMap<string, Whereabouts>): EvictionCandidate[] => {
		const { durable } = storage.tier(tier);
		const awaited = Map.groupBy(d.awaited(), (one) => `${one.model} ${one.tier}`);
		return storage
			.copies({ tier })
			.filter((copy) => copy.status === "ready" || !durable)
			.map((copy): EvictionCandidate => {
				const others = otherPlaces(copy);
				const away = elsewhere.get(revisionOf(copy));
				const tasks = awaited.get(`${copy.model_name} ${tier}`) ?? [];
				return {
					model: copy.model_name,
					revision: copy.revision,
					tier,
					// What other copies have too goes with the last of them: each counts for a part of it.
					sizeBytes: storage.bytesShare(copy),
					readyAt: copy.ready_at,
					lastUsedAt: copy.last_used_at ?? null,
					pinned: copy.pinned ?? false,
					holders: [...storage.holders(copy), ...tasks.map(({ why }) => why)],
					purpose: copy.purpose ?? "asked",
					wantedSoon: d.wantedSoon?.(copy),
					place: copy.place ?? "store",
					durable,
					otherDurableCopies: others.filter(isSafe).length + (away?.durable ?? 0),
					costToBringBackS: costOf(copy, others.length > 0, (away?.all ?? 0) > 0),
				};
			});
	};
	const costOf = (copy: ModelCopy, isHere: boolean, isAway: boolean): number | null => {
		// What is damaged is worth nothing where it lies.
		if (copy.status !== "ready") return 0;
		if (isHere) return d.rates.secondsFor("local", copy.size_bytes);
		if (isAway) return d.rates.secondsFor("peer", copy.size_bytes);
		return FETCHABLE.test(copy.source_url ?? "") ? d.rates.secondsFor("web", copy.size_bytes) : null;
	};
	/** Asked only about what this node has on no other durable tier. */
	const askHost = async (tier: string): Promise<ReadonlyMap<string, Whereabouts>> => {
		const open = storage.copies({ tier }).filter((copy) => !otherPlaces(copy).some(isSafe));
		const answers: Whereabouts[] = [];
		for (let at = 0; at < open.length; at += MAX_ASKED)
			answers.push(
				...(await d.whereabouts(
					open.slice(at, at + MAX_ASKED).map(({ model_name, revision }) => ({ model_name, revision })),
				)),
			);
		const known = new Map(answers.map((answer) => [revisionOf(answer), answer]));
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
			const candidates = candidatesOn(tier, elsewhere).filter((one) => !stuck.has(candidateKey(one)));
			const choice = chooseVictims(candidates, { needBytes, nowS: nowS() });
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
	const lastFailure = (tier: string, model: string): GswarmError | undefined => {
		const known = failures.get(`${tier} ${model}`);
		return known !== undefined && clock.monotonicMs() - known.atMs < REMEMBER_MS ? known.failure : undefined;
	};
	const makeRoom = async (request: RoomRequest): Promise<Reservation> => {
		const { tier, bytes, writtenBytes, transferId, model, signal } = request;
		const before = lastFailure(tier, model);
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
	/** Down to the low watermark, without the copy that was used last: room that nobody asked for is not worth all. */
	const sweep = async (tier: string): Promise<void> => {
		const { high, low } = watermarksOf(tier);
		const { total, available } = storage.usage(tier);
		if (total === 0 || available >= total * (1 - high)) return;
		const elsewhere = await askHost(tier);
		const usedLast = (one: EvictionCandidate): number => Math.max(one.lastUsedAt ?? 0, one.readyAt);
		const candidates = candidatesOn(tier, elsewhere)
			.sort((a, b) => usedLast(b) - usedLast(a))
			.slice(1);
		const { evictableBytes } = chooseVictims(candidates, { needBytes: 0, nowS: nowS() });
		const wanted = Math.ceil(total * (1 - low)) - storage.usage(tier).available;
		const needBytes = Math.min(wanted, evictableBytes);
		const { victims } = chooseVictims(candidates, { needBytes, nowS: nowS() });
		await removeAll(victims, "watermark");
	};
	const roomBefore = new Map<string, number>();
	/** Whether any tier has more room than when it was looked at last; nobody tells of files that others delete. */
	const hasMoreRoom = (): boolean => {
		let isMore = false;
		for (const { name } of storage.tiers()) {
			const room = storage.roomForAll(name);
			if (room > (roomBefore.get(name) ?? 0)) isMore = true;
			roomBefore.set(name, room);
		}
		return isMore;
	};
	const sweepAll = async (): Promise<void> => {
		while (!stop.signal.aborted) {
			await clock.sleep(SWEEP_EVERY_MS, stop.signal);
			if (stop.signal.aborted) return;
			if (hasMoreRoom()) d.onRoom?.();
			for (const { name } of storage.tiers()) {
				if (stop.signal.aborted || !watermarksOf(name).automatic) continue;
				await inTurn(() => sweep(name)).catch((error: unknown) =>
					d.log.warn("storage.sweep_failed", { tier: name, error }),
				);
			}
		}
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
			const usage = storage.usage(tier);
			const wanted = wantedOf(tier, wantedAvailable);
			const needBytes = Math.max(0, wanted - usage.available);
			const candidates = candidatesOn(tier, elsewhere);
			const choice = chooseVictims(candidates, { needBytes, nowS: nowS() });
			const going = new Set(choice.victims.map(({ candidate }) => candidateKey(candidate)));
			const judged = judge(candidates, nowS());
			const { automatic, high, low } = watermarksOf(tier);
			return {
				device: deviceOf(tier),
				watermarks: { automatic, high, low },
				usage,
				wanted_available: wanted,
				need_bytes: needBytes,
				freed_bytes: choice.freedBytes,
				evictable_bytes: choice.evictableBytes,
				suffices: needBytes <= choice.evictableBytes,
				copies: judged.slice(0, MAX_SHOWN).map((verdict) => shownVerdict(verdict, going)),
				copies_total: judged.length,
			};
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
			const candidates = candidatesOn(tier, heard.get(tier) ?? new Map());
			const choice = chooseVictims(candidates, { needBytes: 0, nowS: nowS() });
			countedFree.set(tier, { bytes: choice.evictableBytes, atMs: nowMs, version });
			return choice.evictableBytes;
		},
		remember(tier, model, failure) {
			const key = `${tier} ${model}`;
			failures.delete(key);
			if (failure !== undefined) failures.set(key, { failure, atMs: clock.monotonicMs() });
			for (const oldest of failures.keys()) {
				if (failures.size <= MAX_REMEMBERED) break;
				failures.delete(oldest);
			}
		},
		counters: (tier) => counted.get(tier) ?? { copies: 0, bytes: 0 },
		start() {
			sweeping ??= sweepAll();
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await sweeping;
			await last;
		},
	};
	return eviction;
}

/** Sources that a model can be had from again. */
const FETCHABLE = /^(hf|ollama|oci|s3|gs|https?|file):/;
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

function revisionOf({ model_name, revision }: RevisionKey): string {
	return `${model_name}@${revision}`;
}

/** Names it among those of a device. */
export function candidateKey({
	model,
	revision,
	tier,
}: Pick<EvictionCandidate, "model" | "revision" | "tier">): string {
	return `${model}@${revision} ${tier}`;
}

/** As the API shows it. */
export function shownVerdict(
	{ candidate: c, keep, idleS, worth }: Verdict,
	going: ReadonlySet<string>,
): JudgedCopy {
	return {
		model_name: c.model,
		revision: c.revision,
		size_bytes: c.sizeBytes,
		ready_at: c.readyAt,
		last_used_at: c.lastUsedAt,
		idle_s: Math.round(idleS),
		purpose: c.purpose,
		holders: [...c.holders],
		other_durable_copies: c.otherDurableCopies,
		cost_to_bring_back_s: c.costToBringBackS,
		worth,
		verdict: keep !== undefined ? "stays" : going.has(candidateKey(c)) ? "goes" : "may_go",
		reason: keep ?? null,
	};
}

interface Shortage {
	required: number;
	available: number;
	/** What could have come free, and would not have been enough, or is not to go by itself. */
	evictable: number;
	/** Would make room, where copies do not go by themselves. */
	victims: readonly string[];
}

/** 507: with what would make room, and how. */
export function noRoom(device: string, { required, available, evictable, victims }: Shortage): GswarmError {
	const more = evictable > 0 ? `, and ${evictable} could be freed` : "";
	const named = victims.slice(0, MAX_NAMED).join(", ");
	const rest = victims.length > MAX_NAMED ? ` and ${victims.length - MAX_NAMED} more` : "";
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${device} has ${available} bytes available${more}; ${required} are needed.`,
		{
			reason: "insufficient_space",
			status: 507,
			details: { required, available, device, evictable, victims: victims.slice(0, MAX_NAMED) },
			hint:
				victims.length > 0
					? `\`gswarm model evict --device ${device} --bytes ${required}\` would remove ${named}${rest}.`
					: "Delete, move or unpin models there (`gswarm model evict --dry-run` shows why each stays), or choose another device.",
		},
	);
}

function failedBefore(refusal: GswarmError, failure: GswarmError): GswarmError {
	const { details, message, status } = refusal;
	return new GswarmError("RESOURCE_UNAVAILABLE", `${message} The last load failed: ${failure.message}`, {
		reason: "load_failed_before",
		status,
		details: { ...details, last_failure: failure.reason ?? failure.code },
		hint: "Nothing is evicted for a load that failed just before. See to its source (`gswarm model verify`), or make room with `gswarm model evict`.",
		cause: failure,
	});
}
