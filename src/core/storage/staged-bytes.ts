/** What transfers have staged on each tier, counted anew only now and then: a claim asks for it thousands of times a second. */
import type { Shelf } from "./shelf.ts";
import { rootOf } from "./shelf.ts";
import { allocatedBytes } from "./staged-tree.ts";
import { stagingRootOf } from "./tier-root.ts";

/** What is written in between is missing for so long, so that less room is seen than there is. */
const COUNT_EVERY_MS = 2000;

export function createStagedBytes(shelf: Shelf): { on(tier: string): number } {
	const counted = new Map<string, { bytes: number; atMs: number; transfers: string }>();
	return {
		on(tier) {
			const transfers = [...shelf.staging.values()]
				.filter((one) => one.tier === tier)
				.map((one) => one.transferId);
			if (transfers.length === 0) return 0;
			const nowMs = shelf.clock.monotonicMs();
			const known = counted.get(tier);
			const names = transfers.join();
			// What was staged by one that has ended since is free, or a copy.
			if (known?.transfers === names && nowMs - known.atMs < COUNT_EVERY_MS) return known.bytes;
			const root = rootOf(shelf, tier);
			const bytes = transfers.reduce((sum, id) => sum + allocatedBytes(stagingRootOf(root, id)), 0);
			counted.set(tier, { bytes, atMs: nowMs, transfers: names });
			return bytes;
		},
	};
}
