/** What is remembered of a model's uses: how many in each hour of the week, with less weight the longer ago. Pure. */

export const HOURS_PER_WEEK = 168;

export interface UseRecord {
	/** Uses by hour of the week, UTC, from Monday 0:00; decayed as of `week`. */
	hours: Float32Array;
	/** Weeks since the epoch's first Monday. */
	week: number;
	/** Seconds since the epoch. */
	firstAtS: number;
	lastAtS: number;
	/** Uses of the last hours, decayed as of `lastAtS`. */
	recent: number;
}

/** A week's uses count half after three weeks: habits change, and holidays come. */
const WEEKLY_DECAY = 0.5 ** (1 / 3);
const RECENT_HALF_LIFE_S = 2 * 3600;
/** A served model is asked many times a second; more often than so it is one use. */
const USE_EVERY_S = 60;
const HOUR_S = 3600;
const WEEK_S = HOURS_PER_WEEK * HOUR_S;
/** The epoch was a Thursday. */
const FIRST_MONDAY_S = 4 * 24 * HOUR_S;

/** The hour of the week of a moment, and which week it is. */
export function hourOfWeek(atS: number): { week: number; hour: number } {
	const since = atS - FIRST_MONDAY_S;
	const week = Math.floor(since / WEEK_S);
	return { week, hour: Math.floor((since - week * WEEK_S) / HOUR_S) };
}

/** The record with one use more; the same record where it was used within the last minute. */
export function withUse(record: UseRecord | undefined, atS: number): UseRecord {
	const { week, hour } = hourOfWeek(atS);
	if (record === undefined) {
		const hours = new Float32Array(HOURS_PER_WEEK);
		hours[hour] = 1;
		return { hours, week, firstAtS: atS, lastAtS: atS, recent: 1 };
	}
	if (atS < record.lastAtS + USE_EVERY_S) return record;
	const hours = hoursAsOf(record, week);
	hours[hour] = (hours[hour] ?? 0) + 1;
	return { hours, week, firstAtS: record.firstAtS, lastAtS: atS, recent: recentAt(record, atS) + 1 };
}

/** Expected uses per second from those of late, as if they went on while they fade. */
export function recentRate(record: UseRecord, atS: number): number {
	return (recentAt(record, atS) * Math.LN2) / RECENT_HALF_LIFE_S;
}

/** A copy, decayed to a later week. */
function hoursAsOf({ hours, week }: UseRecord, now: number): Float32Array {
	const factor = WEEKLY_DECAY ** Math.max(0, now - week);
	return factor === 1 ? hours.slice() : hours.map((uses) => uses * factor);
}

function recentAt({ recent, lastAtS }: UseRecord, atS: number): number {
	return recent * 0.5 ** (Math.max(0, atS - lastAtS) / RECENT_HALF_LIFE_S);
}

/** What a sum over the weeks of a record is divided by to be a mean, as of a moment: its weeks, decayed like the uses. */
export function weeksOf({ firstAtS }: Pick<UseRecord, "firstAtS">, atS: number): number {
	const weeks = Math.max(0, atS - firstAtS) / WEEK_S;
	return (1 - WEEKLY_DECAY ** weeks) / (1 - WEEKLY_DECAY);
}

/** How much less the record's hours count by a moment than when they were written. */
export function decayUntil({ week }: Pick<UseRecord, "week">, atS: number): number {
	return WEEKLY_DECAY ** Math.max(0, hourOfWeek(atS).week - week);
}
