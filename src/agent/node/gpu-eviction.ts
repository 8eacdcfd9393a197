/**
 * Room on this node's GPUs. What a holder has there can be loaded again from files, so that it goes by itself when
 * something else needs its place: chosen by the same rules as a copy on any device, one demand at a time, and what comes
 * free is taken by who asked for it before anybody else has a turn. A model whose last load failed makes nobody go.
 */
import type { Accelerator } from "../../core/accelerator/accelerator.ts";
import { type EvictionCandidate, chooseVictims } from "../../core/storage/storage.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import type { GswarmError } from "../../schema/errors.ts";
import type { EvictionPlan } from "../../schema/eviction.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";
import type { Evicted } from "./eviction.ts";
import { isFetchable } from "./eviction-candidates.ts";
import { planOf } from "./eviction-plan.ts";
import { createFailedLoads } from "./failed-loads.ts";
import type { Holdings } from "./holdings.ts";
import { noRoom } from "./no-room.ts";
import type { Rates } from "./rates.ts";

export interface GpuEviction {
	/** With what its holders' models could free. */
	usage(tier: string): TierUsage;
	/** What holders could give up on this GPU, but for one model. */
	evictableBytes(tier: string, except?: string): number;
	plan(tier: string, wantedAvailable: number | undefined): EvictionPlan;
	/** @throws 507 insufficient_space; nothing has gone then */
	evict(tier: string, wantedAvailable: number | undefined): Promise<Evicted[]>;
	/**
	 * Frees what is missing and lets `take` have it, which claims the bytes before it waits for anything. Where they
	 * cannot come free, `take` is called all the same, and says so.
	 */
	withRoom<T>(what: { tier: string; bytes: number; model: string }, take: () => Promise<T>): Promise<T>;
	/** How a load went: for a while nobody goes for another try of one that failed. */
	remember(tier: string, model: string, failed: boolean): void;
	/** Since the start. */
	counters(tier: string): { copies: number; bytes: number };
}

export interface GpuEvictionDependencies {
	nodeName: string;
	clock: Clock;
	log: Log;
	accelerator: Accelerator;
	holdings: Pick<Holdings, "fileCopy">;
	rates: Rates;
	/** Models that tasks in the queue are about to use on a device. */
	awaited(): { model: string; tier: string; why: string }[];
}

/** What `gswarm model evict` empties a GPU to when no size is given. By itself nothing goes that nobody needs. */
const LOW = 0.85;

export function createGpuEviction(d: GpuEvictionDependencies): GpuEviction {
	const failures = createFailedLoads<true>(d);
	const counted = new Map<string, { copies: number; bytes: number }>();
	let last: Promise<unknown> = Promise.resolve();
	const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
		const turn = last.then(work);
		last = turn.catch(() => undefined);
		return turn;
	};
	const nowS = (): number => d.clock.nowMs() / 1000;

	const costOf = (copy: ModelCopy): number | null => {
		if (d.holdings.fileCopy(parseModelName(copy.model_name), copy.content_id) !== undefined)
			return d.rates.secondsFor("local", copy.size_bytes);
		return isFetchable(copy) ? d.rates.secondsFor("web", copy.size_bytes) : null;
	};
	const candidatesOn = (tier: string, except?: string): EvictionCandidate[] => {
		const awaited = Map.groupBy(d.awaited(), (one) => `${one.model} ${one.tier}`);
		return d.accelerator
			.residencies()
			.filter((copy) => copy.tier === tier && copy.model_name !== except)
			.map((copy) => ({
				model: copy.model_name,
				revision: copy.revision,
				tier,
				sizeBytes: copy.size_bytes,
				readyAt: copy.ready_at,
				lastUsedAt: copy.last_used_at ?? null,
				pinned: copy.pinned ?? false,
				holders: [
					...d.accelerator.uses(copy),
					...(awaited.get(`${copy.model_name} ${tier}`) ?? []).map(({ why }) => why),
				],
				purpose: "asked",
				place: "store",
				durable: false,
				otherDurableCopies: 0,
				costToBringBackS: costOf(copy),
			}));
	};
	const choose = (tier: string, needBytes: number, except?: string) =>
		chooseVictims(candidatesOn(tier, except), { needBytes, nowS: nowS() });
	const wantedOf = (tier: string, asked: number | undefined): number =>
		asked ?? Math.ceil(d.accelerator.usage(tier).total * (1 - LOW));
	const shortOf = (tier: string, wanted: number): number => wanted - d.accelerator.usage(tier).available;
	const remove = async (victims: ReturnType<typeof choose>["victims"], cause: string): Promise<Evicted[]> =>
		Promise.all(
			victims.map(async ({ candidate: { model, revision, tier }, idleS }) => {
				const { freedBytes } = await d.accelerator.unload(
					parseModelName(model),
					parseRevision(revision),
					tier,
				);
				const sum = counted.get(tier) ?? { copies: 0, bytes: 0 };
				counted.set(tier, { copies: sum.copies + 1, bytes: sum.bytes + freedBytes });
				const about = { model, revision, tier, freed_bytes: freedBytes, idle_s: idleS, cause };
				d.log.info("accelerator.evicted", about);
				return { model_name: model, revision, freed_bytes: freedBytes };
			}),
		);
	const refusal = (tier: string, required: number, evictable: number): GswarmError => {
		const { available } = d.accelerator.usage(tier);
		return noRoom(`${d.nodeName}:${tier}`, { required, available, evictable, victims: [] });
	};

	return {
		usage: (tier) => ({
			...d.accelerator.usage(tier),
			evictable: choose(tier, 0).evictableBytes,
		}),
		evictableBytes: (tier, except) => choose(tier, 0, except).evictableBytes,
		plan(tier, wantedAvailable) {
			const about = {
				device: `${d.nodeName}:${tier}`,
				watermarks: { automatic: true, high: 1, low: LOW },
				usage: d.accelerator.usage(tier),
			};
			return planOf(about, candidatesOn(tier), {
				wantedAvailable: wantedOf(tier, wantedAvailable),
				nowS: nowS(),
			});
		},
		evict: (tier, wantedAvailable) =>
			inTurn(async () => {
				const wanted = wantedOf(tier, wantedAvailable);
				const needBytes = shortOf(tier, wanted);
				if (needBytes <= 0) return [];
				const { victims, evictableBytes } = choose(tier, needBytes);
				if (victims.length === 0) throw refusal(tier, wanted, evictableBytes);
				return remove(victims, "asked");
			}),
		async withRoom({ tier, bytes, model }, take) {
			// The turn ends when the bytes are taken; the load goes on without it.
			const { taken } = await inTurn(async () => {
				const needBytes = shortOf(tier, bytes);
				if (needBytes > 0 && failures.last(tier, model) === undefined)
					await remove(choose(tier, needBytes, model).victims, `room for ${model}`);
				return { taken: take() };
			});
			return taken;
		},
		remember: (tier, model, failed) => failures.remember(tier, model, failed ? true : undefined),
		counters: (tier) => counted.get(tier) ?? { copies: 0, bytes: 0 },
	};
}
