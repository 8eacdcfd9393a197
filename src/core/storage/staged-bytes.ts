/**
 * What transfers have staged on each tier that hold no room now: those that wait for another run. Each is counted once,
 * for nobody writes there meanwhile; a claim asks for it thousands of times a second.
 */
import { rootOf, type Shelf } from "./shelf.ts";
import { allocatedBytes } from "./staged-tree.ts";
import { stagingRootOf } from "./tier-root.ts";

export function createStagedBytes(
	shelf: Shelf,
	isUnderWay: (transferId: string) => boolean,
): { on(tier: string): number } {
	const counted = new Map<string, number>();
	return {
		on(tier) {
			for (const id of counted.keys()) if (isUnderWay(id) || !shelf.staging.has(id)) counted.delete(id);
			let sum = 0;
			for (const { transferId, tier: on } of shelf.staging.values()) {
				if (on !== tier || isUnderWay(transferId)) continue;
				const bytes =
					counted.get(transferId) ?? allocatedBytes(stagingRootOf(rootOf(shelf, tier), transferId));
				counted.set(transferId, bytes);
				sum += bytes;
			}
			return sum;
		},
	};
}
