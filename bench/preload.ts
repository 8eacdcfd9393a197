/**
 * How often a model is in memory when it is used: with the product's planner and choice of victims beside plain LRU, at
 * the same budget, over a replayed trace (preload/trace.ts). A simulation of the decisions: no byte is moved. Both bring
 * what is used and not there, at once; the planner brings more, before, at the rate of a disk, and knows the past alone.
 */
import { replayLru, replayPlanned } from "./preload/replay.ts";
import { makeTrace } from "./preload/trace.ts";
import type { BenchContext, Measured } from "./row.ts";

const SEED = 1;
const FULL = { models: 200, weeks: 4 };
const QUICK = { models: 60, weeks: 2 };
/** Memory, as a share of what all models take. */
const SHARES = [0.1, 0.2];
const RATE_BYTES_PER_SECOND = 2e9;
/** The default of `preload.share`. */
const PRELOAD_SHARE = 0.5;

export function benchPreload({ say, quick }: BenchContext): Promise<Measured[]> {
	const trace = makeTrace({ seed: SEED, ...(quick ? QUICK : FULL) });
	const allBytes = trace.models.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
	return Promise.resolve(
		SHARES.map((share): Measured => {
			const memory = {
				bytes: allBytes * share,
				preloadShare: PRELOAD_SHARE,
				rateBytesPerSecond: RATE_BYTES_PER_SECOND,
			};
			const [lru, planned] = [replayLru(trace, memory), replayPlanned(trace, memory)];
			say(
				`memory for ${share * 100} %: ${planned.preloads} models brought ahead, ${planned.useful} of them used, ${lru.uses} uses`,
			);
			return {
				name: `hits, memory for ${share * 100} % of the models (peer: LRU)`,
				unit: "%",
				goal: { ratioAtLeast: 1.1 },
				ours: [(planned.hits / planned.uses) * 100],
				peer: [(lru.hits / lru.uses) * 100],
			};
		}),
	);
}
