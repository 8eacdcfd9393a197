/**
 * A made-up month of a small cluster: 200 models, popular ones and many that are not (Zipf), and people and jobs with
 * habits: offices, evenings, nightly and weekly jobs, programs that never sleep. A use is a program that begins to work with a model;
 * uses come at random within the habits, and some out of no habit at all. One seed, one trace.
 */

export interface TraceModel {
	name: string;
	sizeBytes: number;
}

export interface Use {
	atS: number;
	model: TraceModel;
}

export interface Trace {
	models: readonly TraceModel[];
	/** By time. */
	uses: readonly Use[];
	startS: number;
	endS: number;
}

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
/** A Monday, 0:00 UTC. */
const START_S = 1_767_571_200;
const GB = 1e9;
const ZIPF = 0.8;

/** Relative rate of uses, by hour of the day and whether it is a workday. */
type Habit = (hour: number, day: number) => number;

export function makeTrace({
	seed,
	models: count,
	weeks,
}: {
	seed: number;
	models: number;
	weeks: number;
}): Trace {
	const random = generator(seed);
	const between = (low: number, high: number): number => low + (high - low) * random();
	const habits: readonly (() => Habit)[] = [
		office,
		office,
		office,
		() => evening,
		() => job(Math.floor(between(0, 24)), () => true),
		() => job(Math.floor(between(0, 24)), (day) => day < 5),
		() => weekly(Math.floor(between(0, 7)), Math.floor(between(0, 24))),
		() => () => 1,
	];
	const models = Array.from({ length: count }, (_, at) => ({
		name: `model-${String(at).padStart(3, "0")}`,
		sizeBytes: Math.round(Math.exp(between(Math.log(2), Math.log(40))) * GB),
	}));
	const ranks = shuffled(models, random);
	const uses: Use[] = [];
	for (const [rank, model] of ranks.entries()) {
		const perHour = 3 / (rank + 1) ** ZIPF;
		const habit = (habits[Math.floor(random() * habits.length)] ?? office)();
		const mean = meanOf(habit);
		for (let hour = 0; hour < weeks * 168; hour++) {
			// A tenth of what happens follows no habit.
			const rate = perHour * (0.9 * (habit(hour % 24, Math.floor(hour / 24) % 7) / mean) + 0.1);
			for (let left = poisson(rate, random); left > 0; left--)
				uses.push({ atS: START_S + (hour + random()) * HOUR_S, model });
		}
	}
	const endS = START_S + weeks * 7 * DAY_S;
	return {
		models,
		uses: uses.filter(({ atS }) => atS < endS).sort((a, b) => a.atS - b.atS),
		startS: START_S,
		endS,
	};
}

const office = (): Habit => (hour, day) => (day < 5 && hour >= 8 && hour < 18 ? 1 : 0.02);
const evening: Habit = (hour, day) => (hour >= 18 && hour < 24 ? (day < 5 ? 1 : 1.5) : 0.03);
const job =
	(at: number, days: (day: number) => boolean): Habit =>
	(hour, day) =>
		hour === at && days(day) ? 1 : 0.002;
const weekly =
	(onDay: number, at: number): Habit =>
	(hour, day) =>
		day === onDay && (hour === at || hour === (at + 1) % 24) ? 1 : 0.001;

function meanOf(habit: Habit): number {
	let sum = 0;
	for (let hour = 0; hour < 168; hour++) sum += habit(hour % 24, Math.floor(hour / 24));
	return sum / 168;
}

function poisson(mean: number, random: () => number): number {
	const limit = Math.exp(-mean);
	let count = 0;
	for (let product = random(); product > limit; product *= random()) count++;
	return count;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
	const all = [...items];
	for (let at = all.length - 1; at > 0; at--) {
		const other = Math.floor(random() * (at + 1));
		const [a, b] = [all[at], all[other]];
		if (a !== undefined && b !== undefined) [all[at], all[other]] = [b, a];
	}
	return all;
}

/** mulberry32: the same numbers everywhere. */
function generator(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
}
