/** Figures of a benchmark: ours beside a peer's, measured in one run, and whether the goal is met. */

export interface BenchContext {
	/** What a benchmark says while it runs, on stderr. */
	say: (text: string) => void;
	/** Less of everything: shows that it works, and gives no figures to quote. */
	quick: boolean;
}

/**
 * A goal on the ratio of medians, ours to the peer's; a limit, in the unit, that no sample of ours may reach; or one
 * that their median must reach.
 */
export type Goal =
	| { ratioAtLeast: number }
	| { ratioAtMost: number }
	| { oursBelow: number }
	| { oursAtLeast: number };

export interface Measured {
	name: string;
	unit: string;
	goal: Goal;
	/** One figure per round. */
	ours: readonly number[];
	/** Undefined where the goal is on ours alone; the word "missing" where the peer is not installed. */
	peer: readonly number[] | "missing" | undefined;
}

/** One line of `--json`. A missing peer or an empty side counts as missed, never as met. */
export interface Row {
	name: string;
	ours: number | null;
	peer: number | null;
	unit: string;
	/** ours / peer. */
	ratio: number | null;
	goal: string;
	ok: boolean;
	samples: { ours: readonly number[]; peer: readonly number[] };
}

export function rowOf({ name, unit, goal, ours, peer }: Measured): Row {
	const peerSamples = peer === undefined || peer === "missing" ? [] : peer;
	const mine = "oursBelow" in goal ? largest(ours) : median(ours);
	const theirs = median(peerSamples);
	const ratio = mine === null || theirs === null ? null : mine / theirs;
	return {
		name,
		ours: mine,
		peer: theirs,
		unit,
		ratio,
		goal: goalText(goal, unit),
		ok: isMet(goal, mine, ratio),
		samples: { ours, peer: peerSamples },
	};
}

/** Null for no samples. */
export function median(samples: readonly number[]): number | null {
	const sorted = samples.toSorted((a, b) => a - b);
	const middle = Math.floor(sorted.length / 2);
	const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
	return low === undefined || high === undefined ? null : (low + high) / 2;
}

/** Rows for people; the range of the samples stands beside each median. */
export function tableOf(rows: readonly Row[]): string {
	const head = ["", "ours", "peer", "unit", "ratio", "goal", ""];
	const body = rows.map((row) => [
		row.name,
		withRange(row.ours, row.samples.ours),
		isAlone(row) ? "–" : withRange(row.peer, row.samples.peer),
		row.unit,
		row.ratio === null ? "–" : `${row.ratio.toFixed(2)} ×`,
		row.goal,
		row.ok ? "met" : "missed",
	]);
	const widths = head.map((_text, column) =>
		Math.max(...[head, ...body].map((line) => line[column]?.length ?? 0)),
	);
	return [head, ...body]
		.map((line) =>
			line
				.map((cell, column) => cell.padEnd(widths[column] ?? 0))
				.join("  ")
				.trimEnd(),
		)
		.join("\n");
}

/** A goal on ours alone, and nothing was measured beside it. */
function isAlone({ goal, peer }: Row): boolean {
	return goal.startsWith("<") || (goal.startsWith("at least") && peer === null);
}

function largest(samples: readonly number[]): number | null {
	return samples.length === 0 ? null : Math.max(...samples);
}

function withRange(value: number | null, samples: readonly number[]): string {
	if (value === null) return "missing";
	const range = samples.length > 1 ? ` (${short(Math.min(...samples))}–${short(Math.max(...samples))})` : "";
	return `${short(value)}${range}`;
}

function short(value: number): string {
	return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function goalText(goal: Goal, unit: string): string {
	if ("ratioAtLeast" in goal) return `≥ ${goal.ratioAtLeast} ×`;
	if ("ratioAtMost" in goal) return `≤ ${goal.ratioAtMost} ×`;
	if ("oursAtLeast" in goal) return `at least ${goal.oursAtLeast} ${unit}`;
	return `< ${goal.oursBelow} ${unit}`;
}

function isMet(goal: Goal, ours: number | null, ratio: number | null): boolean {
	if ("oursBelow" in goal) return ours !== null && ours < goal.oursBelow;
	if ("oursAtLeast" in goal) return ours !== null && ours >= goal.oursAtLeast;
	if (ratio === null) return false;
	return "ratioAtLeast" in goal ? ratio >= goal.ratioAtLeast : ratio <= goal.ratioAtMost;
}
