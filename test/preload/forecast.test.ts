import { expect, test } from "bun:test";
import fc from "fast-check";
import { forecast, type UseRecord, withUse } from "../../src/core/preload/preload.ts";
import { hourOfWeek } from "../../src/core/preload/use-record.ts";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
const WEEK_S = 7 * DAY_S;
/** A Monday, 0:00 UTC. */
const MONDAY_S = Date.UTC(2026, 0, 5) / 1000;

function recordOf(uses: readonly number[]): UseRecord {
	let record: UseRecord | undefined;
	for (const atS of [...uses].sort((a, b) => a - b)) record = withUse(record, atS);
	if (record === undefined) throw new Error("no uses");
	return record;
}

/** Uses at an hour of certain days, for some weeks. */
function habit(hour: number, days: readonly number[], weeks: number): number[] {
	return Array.from({ length: weeks }, (_, week) =>
		days.flatMap((day) =>
			[5, 20, 40].map((minute) => MONDAY_S + week * WEEK_S + day * DAY_S + hour * HOUR_S + minute * 60),
		),
	).flat();
}

test("hours of the week are counted from Monday, UTC", () => {
	expect(hourOfWeek(MONDAY_S)).toMatchObject({ hour: 0 });
	expect(hourOfWeek(MONDAY_S + 6 * DAY_S + 23 * HOUR_S)).toMatchObject({ hour: 167 });
	expect(hourOfWeek(MONDAY_S + WEEK_S).week).toBe(hourOfWeek(MONDAY_S).week + 1);
	expect(hourOfWeek(0)).toEqual({ week: -1, hour: 72 });
});

test("what is used every workday at nine is expected at nine, and not at noon", () => {
	const record = recordOf(habit(9, [0, 1, 2, 3, 4], 2));
	const tuesday = MONDAY_S + 2 * WEEK_S + DAY_S;
	const at = (hour: number) => forecast(record, tuesday + hour * HOUR_S, HOUR_S);
	expect(at(9)).toMatchObject({ isKnown: true });
	expect(at(9).uses).toBeGreaterThan(1.5);
	expect(at(12).uses).toBeLessThan(0.2);
	// Ten minutes before, most of the next hour lies in it.
	const before = forecast(record, tuesday + 9 * HOUR_S - 600, HOUR_S);
	expect(before.uses).toBeGreaterThan(1);
	expect(before.expectedAtS).toBe(tuesday + 9 * HOUR_S);
});

test("what is used on Mondays alone is expected less on other days", () => {
	const record = recordOf(habit(9, [0], 5));
	const nine = MONDAY_S + 5 * WEEK_S + 9 * HOUR_S;
	const [monday, wednesday] = [nine, nine + 2 * DAY_S].map((atS) => forecast(record, atS, HOUR_S).uses);
	expect(monday).toBeGreaterThan(3 * (wednesday ?? Infinity));
});

test("a habit that was given up is forgotten in some weeks", () => {
	const record = recordOf(habit(9, [0, 1, 2, 3, 4], 4));
	const nine = (week: number): number => MONDAY_S + week * WEEK_S + 9 * HOUR_S;
	const [now, later] = [forecast(record, nine(4), HOUR_S).uses, forecast(record, nine(12), HOUR_S).uses];
	expect(later).toBeLessThan(now / 3);
});

test("what was used a moment ago is expected a little more than its record says", () => {
	const uses = habit(9, [0, 1, 2, 3, 4], 2);
	const nowS = MONDAY_S + 2 * WEEK_S + 15 * HOUR_S;
	const before = forecast(recordOf(uses), nowS, HOUR_S).uses;
	const after = forecast(recordOf([...uses, nowS - 900, nowS - 300]), nowS, HOUR_S).uses;
	expect(after).toBeGreaterThan(before);
});

test("some uses of one day are no habit yet", () => {
	const record = recordOf([0, 1, 2, 3, 4].map((hour) => MONDAY_S + hour * HOUR_S));
	expect(forecast(record, MONDAY_S + 5 * HOUR_S, HOUR_S).isKnown).toBe(false);
	const more = withUse(record, MONDAY_S + 2 * DAY_S);
	expect(forecast(more, MONDAY_S + 2 * DAY_S + 60, HOUR_S).isKnown).toBe(true);
});

test("a model that is asked many times a second is used once a minute", () => {
	const first = withUse(undefined, MONDAY_S);
	expect(withUse(first, MONDAY_S + 0.5)).toBe(first);
	expect(withUse(first, MONDAY_S - 10)).toBe(first);
	expect(withUse(first, MONDAY_S + 61).hours[0]).toBe(2);
});

test("whatever was used when, a forecast is a finite number that is not negative", () => {
	const uses = fc.array(fc.integer({ min: 0, max: 60 * DAY_S }), { minLength: 1, maxLength: 50 });
	fc.assert(
		fc.property(uses, fc.integer({ min: -DAY_S, max: 90 * DAY_S }), (offsets, later) => {
			const record = recordOf(offsets.map((offset) => MONDAY_S + offset));
			const { uses: expected, expectedAtS } = forecast(record, MONDAY_S + later, HOUR_S);
			expect(Number.isFinite(expected) && expected >= 0).toBe(true);
			expect(expectedAtS).toBeGreaterThanOrEqual(MONDAY_S + later);
		}),
	);
});
