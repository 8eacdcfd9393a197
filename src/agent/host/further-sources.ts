/** Other copies of the same content that a receiver may read beside the one that was named. */

export interface Holder {
	node: string;
	tier: string;
	/** Tasks that bring something to the node now. */
	busy: number;
}

/** A smaller copy is there before it has found out who is fast. */
const SMALLEST_BYTES = 256 * 1024 * 1024;
const MOST = 3;

/**
 * One copy of each other node, memory before disk, those that have least to do first. None for a small model, which one
 * source brings as fast; `isNeeded`: the named source is away, so that somebody has to.
 */
export function furtherSources(
	holders: readonly Holder[],
	{
		source,
		receiver,
		sizeBytes,
		isNeeded = false,
	}: { source: string; receiver: string; sizeBytes: number; isNeeded?: boolean },
): Holder[] {
	if (sizeBytes < SMALLEST_BYTES && !isNeeded) return [];
	const nodes = new Map<string, Holder>();
	for (const holder of holders) {
		if (holder.node === source || holder.node === receiver) continue;
		if (nodes.get(holder.node)?.tier === "dram") continue;
		if (!nodes.has(holder.node) || holder.tier === "dram") nodes.set(holder.node, holder);
	}
	return [...nodes.values()]
		.toSorted((a, b) => a.busy - b.busy || (a.node < b.node ? -1 : 1))
		.slice(0, isNeeded ? MOST + 1 : MOST);
}
