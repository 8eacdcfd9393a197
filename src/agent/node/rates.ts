/** How fast models came to this node, by where from: what it would cost to have one again. */

/** This machine's own tiers, another node, or where the model was first had from. */
export type Line = "local" | "peer" | "web";

export interface Rates {
	/** Takes note of a transfer that was not slowed down by a limit. */
	observe(line: Line, bytes: number, ms: number): void;
	secondsFor(line: Line, bytes: number): number;
}

/** Until something was measured: an NVMe disk, a 10 Gbit network, a good line to the hub. */
const ASSUMED_BYTES_PER_SECOND: Readonly<Record<Line, number>> = {
	local: 1_000_000_000,
	peer: 800_000_000,
	web: 50_000_000,
};
/** What is smaller tells of latency, not of the line. */
const LEAST_BYTES = 1024 ** 2;
/** The share that the newest transfer has. */
const NEWEST = 0.3;

export function createRates(): Rates {
	const measured = new Map<Line, number>();
	return {
		observe(line, bytes, ms) {
			if (bytes < LEAST_BYTES || ms <= 0) return;
			const rate = (bytes * 1000) / ms;
			const before = measured.get(line);
			measured.set(line, before === undefined ? rate : before * (1 - NEWEST) + rate * NEWEST);
		},
		secondsFor: (line, bytes) => bytes / (measured.get(line) ?? ASSUMED_BYTES_PER_SECOND[line]),
	};
}
