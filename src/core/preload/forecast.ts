/**
 * How often a model will be used soon, from how it was used before. Pure, and of the past alone.
 *
 * Three things are known: what happened in this hour of the week, in this hour of other days, and of late. Each is an
 * estimate of the same rate with its own error: an hour of the week has few samples and fits best, an hour of the day
 * has seven times as many, the mean over all hours the most. The finer one counts as far as there are samples for it
 * (a Bayesian mean with the coarser as its prior), and what happened of late is added for what no week before shows.
 */
import { decayUntil, hourOfWeek, HOURS_PER_WEEK, recentRate, type UseRecord, weeksOf } from "./use-record.ts";

export interface Forecast {
	/** Uses expected within the horizon. */
	uses: number;
	/** When the most of them are expected: the start of that hour, or now. Seconds since the epoch. */
	expectedAtS: number;
	/** There is enough record to say anything. */
	isKnown: boolean;
}

/** Days that a record must span, and uses that it must have, before it is a habit. */
const LEAST_SPAN_S = 36 * 3600;
const LEAST_USES = 3;
/** Weeks of the coarser estimate that a finer one starts with. */
const PRIOR_WEEKS = 1;
const PRIOR_DAYS = 3;
/** Share of the rate of late that goes on. */
const RECENT_WEIGHT = 0.3;
const HOUR_S = 3600;
const HOURS_PER_DAY = 24;
const DAYS_PER_WEEK = 7;

export function forecast(record: UseRecord, nowS: number, horizonS: number): Forecast {
	const weeks = Math.max(weeksOf(record, nowS), 1 / DAYS_PER_WEEK);
	const decay = decayUntil(record, nowS);
	const total = sumOf(record.hours) * decay;
	const mean = total / (weeks * HOURS_PER_WEEK);
	let uses = 0;
	let best = { atS: nowS, uses: 0 };
	for (let atS = nowS; atS < nowS + horizonS; ) {
		const endS = Math.min(nowS + horizonS, (Math.floor(atS / HOUR_S) + 1) * HOUR_S);
		const share = (endS - atS) / HOUR_S;
		const expected = share * hourlyUses(record, atS, { weeks, decay, mean });
		if (expected > best.uses) best = { atS, uses: expected };
		uses += expected;
		atS = endS;
	}
	uses += RECENT_WEIGHT * recentRate(record, nowS) * horizonS;
	const isKnown = record.lastAtS - record.firstAtS >= LEAST_SPAN_S && total >= LEAST_USES;
	return { uses, expectedAtS: best.atS, isKnown };
}

function hourlyUses(
	{ hours }: UseRecord,
	atS: number,
	{ weeks, decay, mean }: { weeks: number; decay: number; mean: number },
): number {
	const { hour } = hourOfWeek(atS);
	const ofDay = hour % HOURS_PER_DAY;
	let sameHour = 0;
	for (let at = ofDay; at < HOURS_PER_WEEK; at += HOURS_PER_DAY) sameHour += (hours[at] ?? 0) * decay;
	const byDay = (sameHour + PRIOR_DAYS * mean) / (weeks * DAYS_PER_WEEK + PRIOR_DAYS);
	// Less than a week: this hour of the week may not have been seen, and tells nothing then.
	const seen = Math.max(0, weeks - 0.5);
	return ((hours[hour] ?? 0) * decay * (weeks > 0.5 ? 1 : 0) + PRIOR_WEEKS * byDay) / (seen + PRIOR_WEEKS);
}

function sumOf(numbers: Float32Array): number {
	return numbers.reduce((sum, number) => sum + number, 0);
}
