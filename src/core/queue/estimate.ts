/** How long a task will take, from what tasks took before. */

/** Weight of the newest sample. */
const WEIGHT = 0.3;

/** What completed tasks of one type took. */
export interface Measure {
	type: string;
	durationMs: number;
	/** 0 when tasks of the type move no bytes. */
	rateBytesPerSecond: number;
	samples: number;
}

/** The measure with one more completed task; `bytes` is what its attempt moved itself. */
export function measured(
	old: Measure | undefined,
	{ type, durationMs, bytes }: { type: string; durationMs: number; bytes: number },
): Measure {
	const rate = durationMs > 0 ? (bytes / durationMs) * 1000 : 0;
	const oldRate = old?.rateBytesPerSecond ?? 0;
	return {
		type,
		durationMs: movingAverage(old?.durationMs, durationMs),
		rateBytesPerSecond: rate === 0 ? oldRate : movingAverage(oldRate === 0 ? undefined : oldRate, rate),
		samples: (old?.samples ?? 0) + 1,
	};
}

export function movingAverage(old: number | undefined, sample: number): number {
	return old === undefined ? sample : old + WEIGHT * (sample - old);
}

/**
 * Seconds until a task is done that has `ahead` others before it, `slots` of which run at once; 0 when nothing was
 * measured yet. Its own time comes from its bytes where both they and a rate are known.
 */
export function estimateSeconds(
	{
		type,
		sizeBytes,
		ahead,
		slots,
	}: { type: string; sizeBytes: number | undefined; ahead: number; slots: number },
	measures: readonly Measure[],
): number {
	const own = measures.find((measure) => measure.type === type);
	const samples = measures.reduce((sum, measure) => sum + measure.samples, 0);
	if (samples === 0) return 0;
	const meanMs =
		measures.reduce((sum, { durationMs, samples: weight }) => sum + durationMs * weight, 0) / samples;
	const byRate = own !== undefined && sizeBytes !== undefined && own.rateBytesPerSecond > 0;
	const ownMs = byRate ? (sizeBytes / own.rateBytesPerSecond) * 1000 : (own?.durationMs ?? meanMs);
	const waitMs = (Math.max(0, ahead) / Math.max(1, slots)) * meanMs;
	return Math.round((waitMs + ownMs) / 100) / 10;
}
