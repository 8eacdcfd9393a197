/**
 * Tiers that evict by themselves are looked at now and then: one that is fuller than its high watermark is emptied to its
 * low one, and where room came back without anybody's doing here, whoever waits for it hears of it.
 */
import {
	chooseVictims,
	type EvictionCandidate,
	type Storage,
	type Verdict,
} from "../../core/storage/storage.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";

/** How full a tier may be, as shares of it. */
export interface Watermarks {
	automatic: boolean;
	high: number;
	low: number;
}

/** Memory is for what is used now; what goes from a disk is a person's choice. */
export const DEFAULT_WATERMARKS: Readonly<Record<"disk" | "dram", Watermarks>> = {
	dram: { automatic: true, high: 0.95, low: 0.85 },
	disk: { automatic: false, high: 0.95, low: 0.85 },
};

export interface SweepDependencies {
	clock: Clock;
	log: Log;
	storage: Pick<Storage, "tiers" | "roomForAll">;
	watermarksOf(tier: string): Watermarks;
	/** Looks after one tier. */
	sweep(tier: string): Promise<void>;
	/** Somebody outside has given room back: what waits for it is looked at. */
	onRoom?: (() => void) | undefined;
}

const SWEEP_EVERY_MS = 10_000;

/** Until it is aborted. A tier that cannot be swept is tried again the next time. */
export async function sweepTiers(d: SweepDependencies, signal: AbortSignal): Promise<void> {
	const roomBefore = new Map<string, number>();
	/** Whether any tier has more room than when it was looked at last; nobody tells of files that others delete. */
	const hasMoreRoom = (): boolean => {
		let isMore = false;
		for (const { name } of d.storage.tiers()) {
			const room = d.storage.roomForAll(name);
			if (room > (roomBefore.get(name) ?? 0)) isMore = true;
			roomBefore.set(name, room);
		}
		return isMore;
	};
	while (!signal.aborted) {
		await d.clock.sleep(SWEEP_EVERY_MS, signal);
		if (signal.aborted) return;
		if (hasMoreRoom()) d.onRoom?.();
		for (const { name } of d.storage.tiers()) {
			if (signal.aborted || !d.watermarksOf(name).automatic) continue;
			await d
				.sweep(name)
				.catch((error: unknown) => d.log.warn("storage.sweep_failed", { tier: name, error }));
		}
	}
}

/** Whether so little is available that the tier is to be swept. */
export function isAboveHigh(
	{ total, available }: { total: number; available: number },
	{ high }: Watermarks,
): boolean {
	return total > 0 && available < total * (1 - high);
}

/** Down to the low watermark, without the copy that was used last: room that nobody asked for is not worth all. */
export function sweepVictims(
	all: readonly EvictionCandidate[],
	{ total, available }: { total: number; available: number },
	{ low, nowS }: Pick<Watermarks, "low"> & { nowS: number },
): readonly Verdict[] {
	const usedLast = (one: EvictionCandidate): number => Math.max(one.lastUsedAt ?? 0, one.readyAt);
	const candidates = all.toSorted((a, b) => usedLast(b) - usedLast(a)).slice(1);
	const { evictableBytes } = chooseVictims(candidates, { needBytes: 0, nowS });
	const wanted = Math.ceil(total * (1 - low)) - available;
	const needBytes = Math.min(wanted, evictableBytes);
	return chooseVictims(candidates, { needBytes, nowS }).victims;
}
